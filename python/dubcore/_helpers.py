"""Around calls: a bar that shows how far one is; and for stages of one's own that ask a service, trying again and not asking
too often."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import _dubcore
from ._results import Progress

@contextmanager
def progress_bar(**options: Any) -> Iterator[Callable[[Progress], None]]:
    """A bar of the package tqdm, which has to be installed, for a call's `progress`; the options are tqdm's.

    >>> with dubcore.progress_bar(desc="kitchen", disable=True) as bar:
    ...     made = dubcore.dub("examples/media/kitchen.wav", to="es", progress=bar)
    """
    try:
        from importlib import import_module

        make = import_module("tqdm.auto").tqdm
    except ImportError as e:
        raise ImportError("progress_bar needs the package tqdm: pip install tqdm") from e
    with make(**{"total": 1.0, "bar_format": "{l_bar}{bar}| {elapsed}<{remaining}", **options}) as bar:

        def show(progress: Progress) -> None:
            bar.update(progress.fraction - bar.n)

        yield show


METHODS = {"stt": "transcribe", "translator": "translate", "tts": "synthesize"}
"""What a stage of each kind is asked to do."""


class _Wrapped:
    """A stage whose methods are called through something."""

    def __init__(self, stage: Any, through: Callable[[Callable[[], Any]], Any]) -> None:
        self._stage, self._through = stage, through

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stage, name)
        if name not in METHODS.values():
            return found

        def call(*args: Any, **options: Any) -> Any:
            def once() -> Any:
                result = found(*args, **options)
                # Awaited here, or what fails in it would not be seen.
                if inspect.isawaitable(result):
                    from ._calls import waited

                    return waited(result)
                return result

            return self._through(once)

        return call


def retrying(
    stage: Any,
    *,
    tries: int = 3,
    wait: float = 0.5,
    on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
) -> Any:
    """The same stage, asked up to `tries` times where it raises one of `on`, after `wait` seconds, then twice as many, and so
    on, each a little more or less than that."""
    if tries < 1:
        raise _dubcore.InvalidArgumentError(f"tries={tries}: use 1 at least")

    def through(once: Callable[[], Any]) -> Any:
        # Not at the top: the import of the package has to be quick.
        import random

        pause = wait
        for _ in range(tries - 1):
            try:
                return once()
            except on:
                time.sleep(pause * random.uniform(0.75, 1.25))
                pause *= 2
        return once()

    return _Wrapped(stage, through)


def limited(stage: Any, *, per_second: float | None = None, at_once: int | None = None) -> Any:
    """The same stage, asked at most so often a second, and at most so many times at once; calls wait for their turn."""
    if per_second is not None and not per_second > 0:
        raise _dubcore.InvalidArgumentError(f"per_second={per_second}: use more than 0")
    if at_once is not None and at_once < 1:
        raise _dubcore.InvalidArgumentError(f"at_once={at_once}: use 1 at least")
    lock = threading.Lock()
    slots = threading.BoundedSemaphore(at_once) if at_once is not None else None
    next_at = 0.0

    def through(once: Callable[[], Any]) -> Any:
        nonlocal next_at
        if per_second is not None:
            with lock:
                turn = max(time.monotonic(), next_at)
                next_at = turn + 1 / per_second
            time.sleep(max(0.0, turn - time.monotonic()))
        if slots is None:
            return once()
        with slots:
            return once()

    return _Wrapped(stage, through)
