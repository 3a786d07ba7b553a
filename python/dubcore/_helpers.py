"""For stages of one's own that ask a service: trying again, and not asking too often."""

from __future__ import annotations

import inspect
import random
import threading
import time
from collections.abc import Callable
from typing import Any

METHODS = ("transcribe", "translate", "synthesize")


class _Wrapped:
    """A stage whose methods are called through something."""

    def __init__(self, stage: Any, through: Callable[[Callable[[], Any]], Any]) -> None:
        self._stage, self._through = stage, through

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stage, name)
        if name not in METHODS:
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
        raise ValueError(f"tries={tries}: use 1 at least")

    def through(once: Callable[[], Any]) -> Any:
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
        raise ValueError(f"per_second={per_second}: use more than 0")
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once={at_once}: use 1 at least")
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
