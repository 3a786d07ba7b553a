"""Speech in one language in, speech in another out.

>>> import dubcore
>>> result = dubcore.dub("examples/media/kitchen.wav", to="es")
>>> result.complete
True

Whole dubs are `dub` and `Pipeline`; the stages by themselves `Stt`, `Translator` and `Tts`; models live in a `Factory`. Every
call may be made from any thread and lets other Python threads run; those that take long have an awaitable twin whose name
begins with an a, and take `timeout`, `cancel` and `progress`. Ctrl-C stops a call with KeyboardInterrupt. What fails raises a
subclass of dubcore.Error, whose `kind` names what went wrong, `hint` what to do about it, and `retryable` whether trying again
may do; an argument of a wrong type, or one that there is not, is a TypeError.
"""

from ._api import (
    Dub,
    Factory,
    Pipeline,
    Run,
    Stt,
    Translator,
    Tts,
    abenchmark,
    adub,
    aload_audio,
    benchmark,
    dub,
    load_audio,
    register_stt,
    register_translator,
    register_tts,
)
from ._calls import Media
from ._dubcore import (
    Audio,
    BusyError,
    CancelToken,
    CancelledError,
    CorruptMediaError,
    DeadlineExceededError,
    DeviceUnavailableError,
    Error,
    InternalError,
    InvalidArgumentError,
    IoError,
    LimitExceededError,
    ModelCorruptError,
    ModelIncompatibleError,
    ModelNotFoundError,
    NetworkError,
    OutOfMemoryError,
    UnsupportedLanguageError,
    UnsupportedMediaError,
    __version__,
)
from ._helpers import limited, progress_bar, retrying
from ._results import Benchmark, FellBack, Info, Line, Metadata, Progress, Segment, Speech, Transcript, Translation, Word

__all__ = [
    "Audio",
    "Benchmark",
    "BusyError",
    "CancelToken",
    "CancelledError",
    "CorruptMediaError",
    "DeadlineExceededError",
    "DeviceUnavailableError",
    "Dub",
    "Error",
    "Factory",
    "FellBack",
    "Info",
    "InternalError",
    "InvalidArgumentError",
    "IoError",
    "LimitExceededError",
    "Line",
    "Media",
    "Metadata",
    "ModelCorruptError",
    "ModelIncompatibleError",
    "ModelNotFoundError",
    "NetworkError",
    "OutOfMemoryError",
    "Pipeline",
    "Progress",
    "Run",
    "Segment",
    "Speech",
    "Stt",
    "Transcript",
    "Translation",
    "Translator",
    "Tts",
    "UnsupportedLanguageError",
    "UnsupportedMediaError",
    "Word",
    "abenchmark",
    "adub",
    "aload_audio",
    "benchmark",
    "dub",
    "load_audio",
    "limited",
    "progress_bar",
    "register_stt",
    "register_translator",
    "register_tts",
    "retrying",
    "__version__",
]
