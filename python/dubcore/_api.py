"""Models, pipelines and dubs as Python has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from os import PathLike, fsencode, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

from . import _dubcore
from ._calls import Control, Media, awaited, control, filled, first_error, plain, when_ended
from ._dubcore import Audio
from ._helpers import METHODS
from ._results import Benchmark, Info, Line, Progress, Speech, Transcript, Translation


class FactoryOptions(TypedDict, total=False):
    """Settings of a factory. What is not given comes from the environment, then from the defaults."""

    memory_budget: int | None
    """Bytes of weights, 0 for no bound; above 80 % of it the models not used for longest go."""
    max_models: int | None
    """Most models to keep, at least 1."""
    idle: float | None
    """Seconds after which a model that is not used goes, at the next load or sweep."""
    cpu_threads: int | None
    """Compute threads of the process, 0 for one per core. Effective before the first inference."""
    models_dir: str | PathLike[str] | None
    """A folder with models as OWNER/NAME, looked into before the hub's cache."""
    downloads: bool | None
    """Whether models of the hub that are not on this machine are fetched."""
    cache: bool | None
    """Whether results are remembered. If not given: if one of the two below is, else as DUBCORE_RESULT_CACHE says."""
    cache_size: int | None
    """Most results in memory."""
    cache_dir: str | PathLike[str] | None
    """A folder that keeps results, too; processes may share it."""


class LoadOptions(TypedDict, total=False):
    """How to load a model."""

    device: str | None
    """"auto", "cpu" or "cuda:N"."""
    compute_type: Literal["auto", "f32", "bf16", "int8"] | None
    """In which numbers it computes: less precise ones are faster and take less memory. None: what DUBCORE_COMPUTE_TYPE says."""
    pool_size: int
    """How many calls may be in the model at once; 0 for any number."""
    queue: int
    """How many calls may wait for their turn; more raise BusyError."""
    queue_timeout: float | None
    """Seconds that a call waits for its turn before it raises BusyError."""
    fallback: Sequence[str]
    """Models to use where this one cannot be loaded."""
    mode: Literal["auto", "memory", "fallback"]
    """"auto": whatever can be had; "memory": this model or an error; "fallback": only what it falls back to."""


class HearOptions(TypedDict, total=False):
    """Options of a recogniser."""

    language: str | None
    """The language spoken; None lets the model tell."""
    task: Literal["transcribe", "translate"]
    """Write it down, or translate it into English."""
    timestamps: bool
    """Let the model write timestamps: faster for many short utterances."""
    beams: int
    """Beam width, 1 to 16; 1 is greedy, 0 what the model was made for."""
    max_tokens: int
    """Most tokens of a window; 0 for as many as the model allows."""
    temperatures: Sequence[float] | None
    """What is tried in turn where the text is improbable or repeats itself."""
    seed: int
    """The seed of what is drawn at temperatures above 0."""


class SpeakOptions(TypedDict, total=False):
    """Options of a voice."""

    speaker: int
    """Which of its speakers, from 0."""
    speaking_rate: float
    """How fast, 0.25 to 4; 1 is its own pace."""
    noise_scale: float | None
    """Variation of the sound, 0 to 2; None for what it was made for."""
    noise_scale_duration: float | None
    """Variation of the rhythm, 0 to 2; None for what it was made for."""
    seed: int
    """The seed of the noise: the same seed and text give the same sound."""


class TranscribeOptions(HearOptions, Control, total=False):
    """What may be asked of `Stt.transcribe`."""


class TranslateOptions(Control, total=False):
    """What may be asked of `Translator.translate`."""

    beams: int
    """Beam width, 1 to 16; 0 for what the model was made for."""
    max_tokens: int
    """Most tokens of a translation; 0 for as many as the model allows."""
    alternatives: int
    """How many others to return, fewer than the beam width."""


class SynthesizeOptions(SpeakOptions, Control, total=False):
    """What may be asked of `Tts.synthesize`."""


class DubOptions(HearOptions, SpeakOptions, Control, total=False):
    """What may be asked of a dub. `language` is `from_` by another name, and `beams` the translator's."""

    from_: str | None
    """The language of the media; None lets the recogniser tell."""
    track: int | None
    """Which sound track of the media, from 0."""
    script: Sequence[tuple[float, float, str, str | None]]
    """Lines to be spoken instead of what the recogniser hears: start, end, what is said, its translation or None."""
    duck_db: float | None
    """Gain of the original during lines in dB; None mutes it there."""
    original: bool
    """Whether the original is heard at all."""


_LOAD: dict[str, Any] = dict(
    device=None, compute_type=None, pool_size=0, queue=64, queue_timeout=None, fallback=(), mode="auto"
)
_HEAR: dict[str, Any] = dict(
    language=None, task="transcribe", timestamps=False, beams=0, max_tokens=0, temperatures=None, seed=0
)
_SPEAK: dict[str, Any] = dict(speaker=0, speaking_rate=1.0, noise_scale=None, noise_scale_duration=None, seed=0)
_TRANSLATE: dict[str, Any] = dict(beams=0, max_tokens=0, alternatives=0)
_DUB: dict[str, Any] = dict(from_=None, track=None, script=(), duck_db=-24.0, original=True)
_SETTINGS: dict[str, Any] = dict(
    memory_budget=None,
    max_models=None,
    idle=None,
    cpu_threads=None,
    models_dir=None,
    downloads=None,
    cache=None,
    cache_size=None,
    cache_dir=None,
)


class LoadControl(LoadOptions, Control, total=False):
    """How to load models, and what may be asked of that."""


class Factory:
    """Loads models, each once, and lends them out. Any thread may use it.

    >>> factory = dubcore.Factory(max_models=2)
    >>> factory.preload(["micro/mt-en-es"])
    {'micro/mt-en-es': None}
    """

    __slots__ = ("_native",)

    def __init__(self, **settings: Unpack[FactoryOptions]) -> None:
        given = filled(_SETTINGS, settings)
        for folder in ("models_dir", "cache_dir"):
            given[folder] = given[folder] if given[folder] is None else fspath(given[folder])
        self._native = _dubcore.Factory(given)

    @classmethod
    def default(cls) -> Factory:
        """The process's own, with the environment's settings."""
        self = cls.__new__(cls)
        self._native = _dubcore.Factory.default()
        return self

    def register(self, name: str, kind: Literal["stt", "translator", "tts"], stage: Any) -> None:
        """Makes `stage`, an object of yours, the model of that name: a cloud voice, another engine.

        A recogniser has `transcribe(audio, *, language)`, which gives a text, or a list of (start, end, text) in seconds; a
        translator `translate(text, *, from_, to)`, which gives a text; a voice `synthesize(text, *, language, speaking_rate)`,
        which gives an Audio, or samples and their rate. Any of them may be a coroutine function. They are called on threads of
        the calls, several at once. `languages_in`, `languages_out` and `sample_rate` say what it takes and gives, if they are
        there. What it raises fails the text or the sound concerned.
        """
        if kind not in METHODS:
            raise _dubcore.InvalidArgumentError(f"kind {kind!r}: use {', '.join(map(repr, METHODS))}")
        if not callable(getattr(stage, METHODS[kind], None)):
            raise TypeError(f"a {kind} has a method {METHODS[kind]}, which {type(stage).__name__} has not")
        about = {side: list(getattr(stage, side, ())) for side in ("languages_in", "languages_out")}
        self._native.register(name, kind, stage, {**about, "sample_rate": int(getattr(stage, "sample_rate", 0))})

    def preload(self, models: Sequence[str], *, warm: bool = False, **options: Unpack[LoadControl]) -> dict[str, Exception | None]:
        """Loads models, and with `warm` runs each once on next to nothing. Says of each what went wrong, if anything did."""
        call = self._native.preload(list(models), warm, *_loading(options))
        found: dict[str, Exception | None] = call.result()
        return found

    async def apreload(
        self, models: Sequence[str], *, warm: bool = False, **options: Unpack[LoadControl]
    ) -> dict[str, Exception | None]:
        """As `preload`, awaited."""
        found: dict[str, Exception | None] = await awaited(self._native.preload(list(models), warm, *_loading(options)))
        return found

    def unload(self, model: str | None = None, **options: Unpack[Control]) -> None:
        """Drops a model, or all of them, when the calls that use it have ended; waits for that."""
        self._native.unload(model, control(dict(options))).result()

    async def aunload(self, model: str | None = None, **options: Unpack[Control]) -> None:
        """As `unload`, awaited."""
        await awaited(self._native.unload(model, control(dict(options))))

    def pin(self, model: str, pinned: bool = True) -> bool:
        """Keeps a loaded model from being evicted, or allows it again. Says whether it is loaded."""
        return self._native.pin(model, pinned)

    def sweep(self) -> int:
        """Lets go what is too old; returns how many models went."""
        return self._native.sweep()

    def clear_cache(self) -> None:
        """Forgets all results."""
        self._native.clear_cache()

    def status(self) -> dict[str, Any]:
        """What is loaded, how much memory there is, how calls went."""
        found: dict[str, Any] = self._native.status()
        return found

    def stats(self) -> dict[str, Any]:
        """Loads, evictions, calls and remembered results, counted since the beginning; a part of `status`."""
        status = self.status()
        return {name: status[name] for name in ("loads", "evictions", "calls", "results")}

    def installed(self) -> list[dict[str, Any]]:
        """The models that are on this machine, and whether this build runs them: embedded, in `models_dir`, in the hub's cache."""
        found: list[dict[str, Any]] = self._native.installed()
        return found

    def health(self) -> dict[str, Any]:
        """Whether it can do its work."""
        found: dict[str, Any] = self._native.health()
        return found

    def metrics(self) -> str:
        """The figures of `status` as Prometheus reads them."""
        return self._native.metrics()

    def __repr__(self) -> str:
        loaded = [r["key"] for r in self.status()["residents"]]
        return f"Factory(loaded={loaded})"


def _loading(options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    options = dict(options)
    asked = control(options)
    return filled(_LOAD, options), asked


def _factory(factory: Factory | None) -> _dubcore.Factory:
    return (factory or Factory.default())._native


class _Stage:
    """What all stages have."""

    __slots__ = ("_native",)

    _native: Any
    _kind: str
    """The factory's method that loads it."""

    def __init__(self, model: str, *, factory: Factory | None = None, **options: Unpack[LoadControl]) -> None:
        self._native = self._load(model, factory, options).result()

    @classmethod
    async def aload(cls, model: str, *, factory: Factory | None = None, **options: Unpack[LoadControl]) -> Self:
        """As the constructor, awaited."""
        self = cls.__new__(cls)
        self._native = await awaited(cls._load(model, factory, options))
        return self

    @classmethod
    def _load(cls, model: str, factory: Factory | None, options: Any) -> _dubcore.Call:
        call: _dubcore.Call = getattr(_factory(factory), cls._kind)(model, *_loading(options))
        return call

    @property
    def info(self) -> Info:
        """What it is."""
        return Info._of(self._native.info())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.info.model!r})"


class Stt(_Stage):
    """A recogniser.

    >>> stt = dubcore.Stt("micro/stt-en")
    >>> stt.transcribe("examples/media/kitchen.wav", language="en").language
    'en'
    """

    __slots__ = ()

    _native: _dubcore.Stt
    _kind = "stt"

    def _start(self, audio: Media, options: Any) -> _dubcore.Call:
        options = dict(options)
        asked = control(options)
        return self._native.transcribe(plain(audio), filled(_HEAR, options), asked)

    def transcribe(self, audio: Media, **options: Unpack[TranscribeOptions]) -> Transcript:
        """Writes down what is said."""
        return Transcript._of(self._start(audio, options).result())

    async def atranscribe(self, audio: Media, **options: Unpack[TranscribeOptions]) -> Transcript:
        """As `transcribe`, awaited."""
        return Transcript._of(await awaited(self._start(audio, options)))


class Translator(_Stage):
    """A translator.

    >>> translator = dubcore.Translator("micro/mt-en-es")
    >>> translator.translate(["Good morning."], from_="en", to="es")[0].text
    'Buenos días.'
    """

    __slots__ = ()

    _native: _dubcore.Translator
    _kind = "translator"

    def _start(self, texts: Sequence[str], from_: str, to: str, options: Any) -> _dubcore.Call:
        options = dict(options)
        asked = control(options)
        o = filled(_TRANSLATE, options)
        return self._native.translate(_texts(texts), from_, to, o["beams"], o["max_tokens"], o["alternatives"], asked)

    def translate(self, texts: Sequence[str], *, from_: str, to: str, **options: Unpack[TranslateOptions]) -> list[Translation]:
        """Translates each text by itself. Where one fails, its exception is raised."""
        return [Translation._of(t) for t in first_error(self._start(texts, from_, to, options).result())]

    async def atranslate(
        self, texts: Sequence[str], *, from_: str, to: str, **options: Unpack[TranslateOptions]
    ) -> list[Translation]:
        """As `translate`, awaited."""
        return [Translation._of(t) for t in first_error(await awaited(self._start(texts, from_, to, options)))]


class Tts(_Stage):
    """A voice.

    >>> voice = dubcore.Tts("micro/tts-es")
    >>> voice.synthesize(["Buenos días."])[0].audio.rate
    16000
    """

    __slots__ = ()

    _native: _dubcore.Tts
    _kind = "tts"

    def _start(self, texts: Sequence[str], options: Any) -> _dubcore.Call:
        options = dict(options)
        asked = control(options)
        return self._native.synthesize(_texts(texts), filled(_SPEAK, options), asked)

    def synthesize(self, texts: Sequence[str], **options: Unpack[SynthesizeOptions]) -> list[Speech]:
        """Speaks each text by itself. Where one fails, its exception is raised."""
        return [Speech._of(s) for s in first_error(self._start(texts, options).result())]

    async def asynthesize(self, texts: Sequence[str], **options: Unpack[SynthesizeOptions]) -> list[Speech]:
        """As `synthesize`, awaited."""
        return [Speech._of(s) for s in first_error(await awaited(self._start(texts, options)))]


def _texts(texts: Sequence[str]) -> list[str]:
    # A string is a sequence of strings, too; nobody means its letters.
    if isinstance(texts, str):
        raise TypeError("texts are a list of strings: put the one text into a list")
    return list(texts)


class Dub:
    """A finished dub."""

    __slots__ = ("_native", "_report", "_stem")

    def __init__(self, native: _dubcore.Dub, stem: str) -> None:
        self._native, self._stem = native, stem
        self._report: dict[str, Any] = native.report()

    @property
    def lines(self) -> list[Line]:
        """Its lines, in order, without their sound."""
        return [Line._of(line) for line in self._report["lines"]]

    @property
    def report(self) -> dict[str, Any]:
        """What was done, as in the JSON file."""
        return self._report

    @property
    def complete(self) -> bool:
        """Whether every line was dubbed."""
        return bool(self._report["complete"])

    @property
    def cut_short(self) -> bool:
        """Whether it was cancelled, or its time ran out. There is no track then."""
        return self._native.cut_short()

    @property
    def files(self) -> list[Path]:
        """The files that were written."""
        return [Path(name) for name in self._native.files()]

    @property
    def track(self) -> bytes | None:
        """The track as a WAV file, if it was kept in memory."""
        return self._native.track()

    def save(self, folder: str | PathLike[str], stem: str | None = None) -> list[Path]:
        """Writes the track, if it was kept in memory, and subtitles and report into `folder`, which is made if need be, as
        STEM.LANG.wav, .srt, .vtt and .json; returns all files. `stem` is the media's own unless it is given."""
        _made(Path(folder))
        return [Path(name) for name in self._native.save(fspath(folder), self._stem if stem is None else stem)]

    def __repr__(self) -> str:
        files = ", ".join(str(f) for f in self.files)
        return f"Dub({len(self.lines)} lines, complete={self.complete}, files=[{files}])"


class Run:
    """A dub in progress: iterating gives its lines as they are finished, `finish` the rest of it.

    A line that failed raises its exception; the lines behind it follow. A `with` block, or `async with`, cancels what is left
    at its end.
    """

    __slots__ = ("_native", "_stem")

    def __init__(self, native: _dubcore.Run, stem: str) -> None:
        self._native, self._stem = native, stem

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        line = self._native.next().result()
        if line is None:
            raise StopIteration
        return _line(line)

    def __aiter__(self) -> AsyncIterator[Line]:
        return self

    async def __anext__(self) -> Line:
        line = await awaited(self._native.next())
        if line is None:
            raise StopAsyncIteration
        return _line(line)

    def finish(self) -> Dub:
        """Dubs what is left and completes the output."""
        return self._finish(self._native.finish(False).result())

    async def afinish(self) -> Dub:
        """As `finish`, awaited."""
        return self._finish(await awaited(self._native.finish(False)))

    def _finish(self, made: _dubcore.Dub) -> Dub:
        return Dub(made, self._stem)

    def cancel(self) -> None:
        """Asks it to stop, from any thread: what is finished is kept."""
        self._native.cancel()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        fraction, parts = self._native.progress()
        return Progress(fraction, dict(parts))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cancel()


def _line(line: Any) -> Line:
    if isinstance(line, BaseException):
        raise line
    return Line._of(line)


class Pipeline:
    """A recogniser, a translator and a voice, put together. Without a voice it translates, without a translator too it
    transcribes.

    >>> pipeline = dubcore.Pipeline(dubcore.Stt("micro/stt-en"), dubcore.Translator("micro/mt-en-es"))
    >>> run = pipeline.start("examples/media/kitchen.wav", to="es", from_="en")
    >>> len([line.target for line in run])
    4
    """

    __slots__ = ("_native",)

    _native: _dubcore.Pipeline

    def __init__(self, stt: Stt, translator: Translator | None = None, tts: Tts | None = None) -> None:
        self._native = _dubcore.Pipeline.of(
            stt._native, translator._native if translator is not None else None, tts._native if tts is not None else None
        )

    def _start(self, media: Media, to: str, output: str | PathLike[str] | None, keep: bool, options: Any) -> _dubcore.Call:
        options = dict(options)
        asked = control(options)
        options["from_"] = options.pop("language", None) or options.get("from_")
        beams = options.pop("beams", 0)
        o = filled({**_DUB, **_HEAR, **_SPEAK}, options)
        request = {name: o[name] for name in ("track", "duck_db", "original")}
        request |= {"to": to, "from": o["from_"], "output": output and fspath(output), "keep": keep, "beams": beams}
        request["script"] = [tuple(line) for line in o["script"]]
        request["hearing"] = {name: o[name] for name in _HEAR}
        request["speaking"] = {name: o[name] for name in _SPEAK}
        return self._native.start(plain(media), request, asked)

    def start(
        self,
        media: Media,
        *,
        to: str,
        output: str | PathLike[str] | None = None,
        keep: bool = False,
        **options: Unpack[DubOptions],
    ) -> Run:
        """Begins a dub. Its track goes into the WAV file `output`, or with `keep` into memory."""
        return Run(self._start(media, to, output, keep, options).result(), _stem(media))

    async def astart(
        self,
        media: Media,
        *,
        to: str,
        output: str | PathLike[str] | None = None,
        keep: bool = False,
        **options: Unpack[DubOptions],
    ) -> Run:
        """As `start`, awaited."""
        return Run(await awaited(self._start(media, to, output, keep, options)), _stem(media))


def _stem(media: Media) -> str:
    named = media if isinstance(media, (str, PathLike)) else getattr(media, "name", None)
    stem = Path(fspath(named)).stem if isinstance(named, (str, PathLike)) else "dub"
    # The texts name their files in UTF-8, whatever the system takes.
    return fsencode(stem).decode(errors="replace")


class NamedModels(LoadOptions, total=False):
    """The models of a dub, and how they are loaded."""

    stt: str | None
    """The recogniser; None for an embedded one."""
    translator: str | None
    """The translator; None for an embedded one."""
    tts: str | None
    """The voice; None for an embedded one."""
    factory: Factory | None
    """Where they are loaded; None for the process's own."""


class DubModels(NamedModels, DubOptions, total=False):
    """What may be asked of `dub`: of which models, and of the dub."""


class BenchmarkOptions(NamedModels, Control, total=False):
    """What may be asked of `benchmark`."""


def _named(options: dict[str, Any]) -> tuple[tuple[_dubcore.Factory, Any, Any, Any], dict[str, Any]]:
    """Takes out of a dub's options what names its models, and how they are loaded."""
    factory = _factory(options.pop("factory", None))
    stt, translator, tts = (options.pop(name, None) for name in ("stt", "translator", "tts"))
    load = filled(_LOAD, {name: options.pop(name) for name in list(options) if name in _LOAD})
    return (factory, stt, translator, tts), load


def _models(to: str, options: dict[str, Any]) -> _dubcore.Call:
    """Begins to load the models of a dub; leaves the dub's own options."""
    named, load = _named(options)
    asked = {"timeout": options.get("timeout"), "cancel": options.get("cancel"), "progress": None}
    from_ = options.get("from_") or options.get("language")
    return _dubcore.Pipeline.load(*named, from_, to, load, asked)


def _of(native: _dubcore.Pipeline) -> Pipeline:
    pipeline = Pipeline.__new__(Pipeline)
    pipeline._native = native
    return pipeline


def _target(media: Media, to: str, out: str | PathLike[str] | None) -> Path | None:
    return None if out is None else Path(out) / f"{_stem(media)}.{to}.wav"


def dub(media: Media, *, to: str, out: str | PathLike[str] | None = None, **options: Unpack[DubModels]) -> Dub:
    """Dubs media into the language `to`, by default with the embedded models.

    With a directory `out`, which is made if need be, it writes NAME.LANG.wav, .srt, .vtt and .json there, and the original's
    subtitles; without one the track is kept in memory, for `Dub.save`. Languages are BCP-47 or ISO 639 codes: "es", "es-MX",
    "spa". A dub that is cancelled or whose time runs out is an exception, and leaves nothing behind.
    """
    rest: dict[str, Any] = dict(options)
    pipeline = _of(_models(to, rest).result())
    with _Folder(out) as folder:
        folder.last = pipeline._start(media, to, _target(media, to, out), out is None, rest)
        run = Run(folder.last.result(), _stem(media))
        folder.last = run._native.finish(True)
        return _saved(run._finish(folder.last.result()), out)


async def adub(media: Media, *, to: str, out: str | PathLike[str] | None = None, **options: Unpack[DubModels]) -> Dub:
    """As `dub`, awaited: cancelling the task cancels the dub."""
    rest: dict[str, Any] = dict(options)
    pipeline = _of(await awaited(_models(to, rest)))
    with _Folder(out) as folder:
        folder.last = pipeline._start(media, to, _target(media, to, out), out is None, rest)
        run = Run(await awaited(folder.last), _stem(media))
        folder.last = run._native.finish(True)
        return _saved(run._finish(await awaited(folder.last)), out)


def benchmark(audio: Media, *, to: str, iterations: int = 3, **options: Unpack[BenchmarkOptions]) -> Benchmark:
    """Dubs `audio` once and then `iterations` times more, keeping nothing, and says how long that took: to choose a machine, or
    settings, by. No result comes from a cache or goes into one, and Python has no part in it.

    >>> dubcore.benchmark("examples/media/kitchen.wav", to="es", iterations=1).real_time_factor < 10
    True
    """
    return Benchmark._of(_benchmark(audio, to, iterations, dict(options)).result())


async def abenchmark(audio: Media, *, to: str, iterations: int = 3, **options: Unpack[BenchmarkOptions]) -> Benchmark:
    """As `benchmark`, awaited."""
    return Benchmark._of(await awaited(_benchmark(audio, to, iterations, dict(options))))


def _benchmark(audio: Media, to: str, iterations: int, rest: dict[str, Any]) -> _dubcore.Call:
    asked = control(rest)
    named, load = _named(rest)
    filled({}, rest)
    return _dubcore.Pipeline.benchmark(plain(audio), *named, to, load, iterations, asked)


def _made(folder: Path) -> list[Path]:
    """Makes the folder if need be; returns those that were not there, the innermost first."""
    try:
        new = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as e:
        raise _dubcore.IoError(f"cannot make the folder {folder}: {e}") from e
    return new


class _Folder:
    """A directory that is made if need be, and taken away again if what is done in it fails."""

    __slots__ = ("last", "_new")

    last: _dubcore.Call | None
    """What may still write into it when somebody gives up waiting."""

    def __init__(self, out: str | PathLike[str] | None) -> None:
        self.last, self._new = None, list[Path]()
        if out is None:
            return
        self._new = _made(Path(out))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            return
        if self.last is None:
            self._remove()
        else:
            when_ended(self.last, self._remove)

    def _remove(self) -> None:
        for folder in self._new:
            # Only where nothing else came into it meanwhile.
            with suppress(OSError):
                folder.rmdir()


def _saved(made: Dub, out: str | PathLike[str] | None) -> Dub:
    if out is not None:
        made.save(out)
    return made


def register_stt(name: str, stage: Any) -> None:
    """Makes an object of yours a recogniser of the process's own factory: see `Factory.register`."""
    Factory.default().register(name, "stt", stage)


def register_translator(name: str, stage: Any) -> None:
    """Makes an object of yours a translator of the process's own factory: see `Factory.register`."""
    Factory.default().register(name, "translator", stage)


def register_tts(name: str, stage: Any) -> None:
    """Makes an object of yours a voice of the process's own factory: see `Factory.register`."""
    Factory.default().register(name, "tts", stage)


def load_audio(media: Media, *, track: int | None = None, **options: Unpack[Control]) -> Audio:
    """Decodes the sound of media, or of its sound track number `track`, to one channel at its own rate."""
    found: Audio = Audio._load(plain(media), track, control(dict(options))).result()
    return found


async def aload_audio(media: Media, *, track: int | None = None, **options: Unpack[Control]) -> Audio:
    """As `load_audio`, awaited."""
    found: Audio = await awaited(Audio._load(plain(media), track, control(dict(options))))
    return found
