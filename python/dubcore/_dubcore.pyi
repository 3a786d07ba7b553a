from os import PathLike
from pathlib import Path
from typing import Any, final

__all__ = [
    "BusyError",
    "CancelledError",
    "CorruptMediaError",
    "DeadlineExceededError",
    "Dub",
    "Error",
    "InternalError",
    "InvalidArgumentError",
    "IoError",
    "LimitExceededError",
    "Line",
    "ModelCorruptError",
    "ModelIncompatibleError",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "UnsupportedLanguageError",
    "UnsupportedMediaError",
    "__version__",
    "dub",
]
__version__: str

class Error(Exception):
    """What every failure of dubcore is. `kind` names it, for programs."""

    kind: str

class InvalidArgumentError(Error): ...
class UnsupportedLanguageError(Error): ...
class UnsupportedMediaError(Error): ...
class CorruptMediaError(Error): ...
class LimitExceededError(Error): ...
class IoError(Error): ...
class ModelNotFoundError(Error): ...
class ModelCorruptError(Error): ...
class ModelIncompatibleError(Error): ...
class OutOfMemoryError(Error): ...
class BusyError(Error): ...
class CancelledError(Error): ...
class DeadlineExceededError(Error): ...
class InternalError(Error): ...

@final
class Line:
    """One line of a dub: what was said, what is said instead, and how it was fitted."""

    @property
    def start(self) -> float:
        """Where the original begins, in seconds."""

    @property
    def end(self) -> float:
        """Where the original ends, in seconds."""

    @property
    def source(self) -> str:
        """What was said."""

    @property
    def target(self) -> str:
        """What is said instead."""

    @property
    def speed(self) -> float | None:
        """How much faster than its own pace the voice speaks to fit; None where nothing is spoken."""

    @property
    def overflow(self) -> bool:
        """Whether it did not fit within the natural bounds, so that it was hurried beyond them, or cut."""

@final
class Dub:
    """A finished dub."""

    @property
    def lines(self) -> list[Line]:
        """Its lines, in order."""

    @property
    def files(self) -> list[Path]:
        """The files that were written: the track, the subtitles, the report."""

    @property
    def report(self) -> dict[str, Any]:
        """What was done, as in the JSON file."""

    @property
    def complete(self) -> bool:
        """Whether every line was dubbed."""

def dub(
    path: str | PathLike[str],
    *,
    to: str,
    from_: str | None = None,
    out: str | PathLike[str] | None = None,
) -> Dub:
    """Dubs the media file `path` into the language `to` with the embedded models.

    `from_` is the language spoken in it, by default the models' own. Into the directory `out`, by default the input's
    own, go NAME.LANG.wav, .srt, .vtt and .json, and the original's subtitles. Languages are BCP-47 or ISO 639 codes: "es", "es-MX", "spa".
    """
