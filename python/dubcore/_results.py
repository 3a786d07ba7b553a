"""What calls give: plain, frozen dataclasses. `to_dict` makes them JSON, pickle keeps them, `==` compares them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ._dubcore import Audio


class Result:
    """What all results can do."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the sound, of built-in types only, as `json.dumps` takes it."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "audio"}  # type: ignore[arg-type]

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Self:
        """Of what the native half gives."""
        names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in found.items() if name in names})


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True, slots=True)
class FellBack(Result):
    """That another model, or device, did the work than the one that was asked for."""

    from_: str
    """What was asked for."""
    to: str
    """What did the work."""
    why: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Metadata(Result):
    """How a result came about."""

    processing_time: float
    """Seconds spent."""
    audio_duration: float
    """Seconds of sound that went in or came out; 0 for text."""
    real_time_factor: float
    """The one by the other; 0 for text."""
    model: str
    """The model."""
    device: str
    """Where it ran."""
    compute_type: str
    """In which arithmetic: "f32", "bf16" or "int8"."""
    cached: bool
    """Whether it came from a cache."""
    fallback: FellBack | None
    """What was fallen back from, if it was."""
    quality: float | None
    """The model's own confidence, 0 to 1, where it has one."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Metadata:
        fallback = found["fallback"]
        told = fallback and FellBack(from_=fallback["from"], to=fallback["to"], why=fallback["why"])
        return cls(**{**found, "fallback": told})


@dataclass(frozen=True, slots=True)
class Word(Result):
    """A word and when it is said."""

    text: str
    """The word."""
    start: float
    """Where it begins, in seconds."""
    end: float
    """Where it ends, in seconds."""
    probability: float | None = None
    """The model's confidence, 0 to 1, where it has one."""


@dataclass(frozen=True, slots=True)
class Segment(Result):
    """A piece of speech and what was said."""

    start: float
    """Where it begins, in seconds."""
    end: float
    """Where it ends, in seconds."""
    text: str
    """What is said."""
    words: list[Word] = field(default_factory=list)
    """The words, where known."""
    avg_logprob: float | None = None
    """Mean log-probability of its tokens, where known."""
    no_speech_prob: float | None = None
    """The model's probability that there is no speech, where known."""
    compression_ratio: float | None = None
    """Length of the text by its length when compressed, where known."""
    temperature: float | None = None
    """The temperature at which the text was found, where known."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Segment:
        return cls(**{**found, "words": [Word(**w) for w in found["words"]]})


@dataclass(frozen=True, slots=True)
class Transcript(Result):
    """What was said."""

    text: str
    """All of it."""
    language: str
    """The language spoken."""
    language_probability: float | None
    """How sure the model is of the language, where it was asked to tell it."""
    segments: list[Segment]
    """The pieces, in order of time."""
    metadata: Metadata
    """How it came about."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Transcript:
        segments = [Segment._of(s) for s in found["segments"]]
        return cls(**{**found, "segments": segments, "metadata": Metadata._of(found["metadata"])})


@dataclass(frozen=True, slots=True)
class Translation(Result):
    """A text in another language."""

    text: str
    """The translation."""
    score: float
    """Log-probability per token, as the beam search ranks it."""
    alternatives: list[tuple[str, float]]
    """Others and their scores, best first, if asked for."""
    metadata: Metadata
    """How it came about."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Translation:
        others = [(text, score) for text, score in found["alternatives"]]
        return cls(**{**found, "alternatives": others, "metadata": Metadata._of(found["metadata"])})


@dataclass(frozen=True, slots=True)
class Speech(Result):
    """A text as sound."""

    audio: Audio
    """The sound."""
    words: list[Word]
    """When each word is said, where the voice can tell."""
    metadata: Metadata
    """How it came about."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Speech:
        return cls(found["audio"], [Word(**w) for w in found["words"]], Metadata._of(found["metadata"]))


@dataclass(frozen=True, slots=True)
class Line(Result):
    """One line of a dub: what was said, what is said instead, and how it was fitted."""

    index: int
    """Its place among the lines, from 0."""
    start: float
    """Where the original begins, in seconds."""
    end: float
    """Where the original ends, in seconds."""
    source: str
    """What was said."""
    target: str
    """What is said instead."""
    speech_start: float | None = None
    """Where its speech begins, in seconds; None where nothing is spoken, as below."""
    speech_end: float | None = None
    """Where its speech ends."""
    speed: float | None = None
    """How much faster than its own pace the voice speaks to fit."""
    overflow: bool = False
    """Whether it did not fit within the natural bounds, so that it was hurried beyond them, or cut."""
    audio: Audio | None = field(default=None, repr=False)
    """Its speech, in lines that a run yields."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Line:
        source, placed = found["source"], found["placement"] or {}
        return cls(
            found["index"],
            source["start"],
            source["end"],
            source["text"],
            found["text"],
            placed.get("start"),
            placed.get("end"),
            placed.get("speed"),
            placed.get("overflow", False),
            found.get("audio"),
        )


@dataclass(frozen=True, slots=True)
class Info(Result):
    """What a stage is."""

    model: str
    """The model."""
    revision: str
    """What identifies its exact content."""
    from_: list[str]
    """Languages it takes in; empty if any."""
    to: list[str]
    """Languages it gives out; empty if the same."""
    device: str
    """Where it runs."""
    compute_type: str
    """The arithmetic it runs in: "f32", "bf16" or "int8", never "auto"; an object of yours may say anything."""
    kernels: str
    """What computes it: an instruction set, or "candle"; empty for an object of yours."""
    speakers: int
    """Speakers of a voice."""
    sample_rate: int
    """The rate that a voice gives or a recogniser wants, in Hz; 0 for text."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Info:
        return cls(from_=found.pop("from"), **found)


@dataclass(frozen=True, slots=True)
class Benchmark(Result):
    """How long dubs of one sound took; times in seconds."""

    audio_duration: float
    """Length of the sound."""
    load: float
    """Until the models were loaded, which is next to nothing where they were before."""
    first: float
    """The first dub, for which memory is taken and caches fill."""
    runs: list[float]
    """Each of those after it."""
    median: float
    """Their median."""
    real_time_factor: float
    """The median by the length of the sound."""
    stages: dict[str, float]
    """What each stage took in them, on average."""
    models: list[str]
    """The models: recogniser, translator, voice."""
    memory: dict[str, int | None]
    """The process's memory afterwards, in bytes."""


@dataclass(frozen=True, slots=True)
class Progress(Result):
    """How far a call is."""

    fraction: float
    """Part done, 0 to 1, never falling."""
    parts: dict[str, float] = field(default_factory=dict)
    """The same for each part that has begun."""
