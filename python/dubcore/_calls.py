"""From calls of the native half to results: waited for, or awaited."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fsdecode
from typing import IO, Any, TypeAlias, TypedDict, TypeVar

from ._dubcore import Audio, Call, CancelToken
from ._results import Progress

T = TypeVar("T")
Media: TypeAlias = str | PathLike[str] | bytes | IO[bytes] | Audio
"""Media: a path, the bytes of a file, a file open for reading, or sound."""


class Control(TypedDict, total=False):
    """What may be asked of every call that takes long."""

    timeout: float | None
    """Seconds after which it raises DeadlineExceededError."""
    cancel: CancelToken | None
    """What stops it from elsewhere: it then raises CancelledError."""
    progress: Callable[[Progress], object] | None
    """Told how far it is, on the call's own thread. What it raises stops the call and is raised by it."""


def control(options: Any) -> dict[str, Any]:
    """Takes out of a call's options what is asked of all of them."""
    progress = options.pop("progress", None)
    told = progress and (lambda fraction, parts: progress(Progress(fraction, parts)))
    return {"timeout": options.pop("timeout", None), "cancel": options.pop("cancel", None), "progress": told}


def filled(defaults: dict[str, Any], options: Any) -> dict[str, Any]:
    """The options, with defaults for those that are not given; none may be left over."""
    unknown = options.keys() - defaults.keys()
    if unknown:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}; known are {', '.join(sorted(defaults))}")
    return {**defaults, **options}


def plain(media: Media) -> Any:
    """The media as the native half takes them. It calls no code of Python's on a caller's thread: a daemon thread may end there
    when Python does, and it cannot."""
    if isinstance(media, PathLike):
        return fsdecode(media)
    read = getattr(media, "read", None)
    if read is None:
        return media
    found = read()
    if not isinstance(found, bytes):
        raise TypeError('the file gives no bytes: open it with "rb"')
    return found


def when_ended(call: Call, callback: Callable[[], object]) -> None:
    """Calls `callback` when the call has ended, on its thread, or now if it has."""
    if not call.on_end(callback):
        callback()


async def awaited(call: Call) -> Any:
    """The result of a call, while the event loop goes on. Cancelling the task cancels the call."""
    # Not at the top: it takes longer to import than all the rest.
    import asyncio

    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell() -> None:
        # A loop that was closed meanwhile waits for nothing.
        try:
            loop.call_soon_threadsafe(end)
        except RuntimeError:
            pass

    when_ended(call, tell)
    try:
        await ended
    except asyncio.CancelledError:
        call.cancel()
        raise
    return call.result()


def waited(found: Any) -> Any:
    """What an awaitable gives, on a thread that has no event loop."""
    import asyncio

    async def run() -> Any:
        return await found

    return asyncio.run(run())


def first_error(found: list[Any]) -> list[Any]:
    """The results, unless one of them failed."""
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found
