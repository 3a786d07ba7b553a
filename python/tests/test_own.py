"""Stages that are Python objects."""

import array
import asyncio
import math
import threading
import time
from pathlib import Path

import dubcore
import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "examples" / "media" / "kitchen.wav"


class Tone:
    """A voice that hums, a tenth of a second for each letter."""

    languages_in = languages_out = ("es",)
    sample_rate = 8_000

    def __init__(self):
        self.said = []

    def synthesize(self, text, *, language, speaking_rate):
        self.said.append((text, language, speaking_rate))
        samples = array.array("f", (0.3 * math.sin(i / 5) for i in range(int(800 * len(text) / speaking_rate))))
        return samples, 8_000


class Upper:
    async def translate(self, text, *, from_, to):
        await asyncio.sleep(0)
        return f"{text.upper()} ({from_}-{to})"


class Parrot:
    def transcribe(self, audio, *, language):
        return [(0.0, audio.duration / 2, f"{len(audio)} samples"), (audio.duration / 2, audio.duration, language or "any")]


def test_a_dub_by_objects():
    voice = Tone()
    dubcore.register_tts("own/tone", voice)
    dubcore.register_translator("own/upper", Upper())
    dubcore.register_stt("own/parrot", Parrot())
    made = dubcore.dub(CLIP, to="es", from_="en", stt="own/parrot", translator="own/upper", tts="own/tone")
    assert made.complete and made.report["models"] == ["own/parrot", "own/upper", "own/tone"]
    assert all(line.target.endswith("(en-es)") for line in made.lines) and len(voice.said) >= len(made.lines)
    assert dubcore.Tts("own/tone").info.sample_rate == 8_000
    # By itself, and beside embedded ones.
    (said,) = dubcore.Tts("own/tone").synthesize(["hola"], speaking_rate=2)
    assert len(said.audio) == 1_600 and voice.said[-1] == ("hola", None, 2.0)
    assert dubcore.dub(CLIP, to="es", tts="own/tone").complete
    assert dubcore.Stt("own/parrot").transcribe(CLIP, language="en").segments[1].text == "en"


def test_what_it_does_wrong_is_an_error_of_that_text():
    class Bad:
        def synthesize(self, text, **_):
            if text == "busy":
                raise dubcore.BusyError("come back later")
            return {"raise": lambda: 1 / 0, "text": lambda: "no sound", "nan": lambda: ([float("nan")], 16_000)}[text]()

    factory = dubcore.Factory()
    factory.register("own/bad", "tts", Bad())
    voice = dubcore.Tts("own/bad", factory=factory)
    for text, error, said in (
        ("raise", dubcore.InternalError, "ZeroDivisionError"),
        ("text", dubcore.InternalError, "own/bad raised"),
        ("nan", dubcore.InvalidArgumentError, "finite"),
        ("busy", dubcore.BusyError, "come back later"),
    ):
        with pytest.raises(error, match=said) as raised:
            voice.synthesize([text])
        # What it raised itself is the cause, with where it was raised.
        cause = raised.value.__cause__
        assert text != "raise" or (isinstance(cause, ZeroDivisionError) and cause.__traceback__ is not None)
        assert text != "busy" or (type(cause) is dubcore.BusyError and raised.value.retryable)
    for kind, stage, error in (("tts", object(), TypeError), ("stt", Bad(), TypeError), ("song", Bad(), dubcore.InvalidArgumentError)):
        with pytest.raises(error):
            factory.register("own/x", kind, stage)
    with pytest.raises(dubcore.InvalidArgumentError):
        factory.register("not a name", "tts", Bad())
    with pytest.raises(dubcore.ModelIncompatibleError):
        dubcore.Stt("own/bad", factory=factory)


def test_trying_again_and_not_too_often():
    class Shaky:
        def __init__(self):
            self.calls = []
            self.inside = self.most = 0
            self.lock = threading.Lock()

        def translate(self, text, *, from_, to):
            with self.lock:
                self.calls.append(time.monotonic())
                self.inside += 1
                self.most = max(self.most, self.inside)
            time.sleep(0.02)
            with self.lock:
                self.inside -= 1
            if text == "shaky" and len(self.calls) % 3:
                raise OSError("down")
            return text

    factory = dubcore.Factory()

    def registered(name, stage):
        factory.register(name, "translator", stage)
        return dubcore.Translator(name, factory=factory)

    shaky = Shaky()
    tried = registered("own/tried", dubcore.retrying(shaky, tries=3, wait=0.01, on=OSError))
    assert tried.translate(["shaky"], from_="en", to="es")[0].text == "shaky" and len(shaky.calls) == 3
    once = registered("own/once", dubcore.retrying(Shaky(), tries=1))
    with pytest.raises(dubcore.InternalError, match="down"):
        once.translate(["shaky"], from_="en", to="es")

    calm = Shaky()
    slow = registered("own/slow", dubcore.limited(calm, per_second=50, at_once=2))
    threads = [threading.Thread(target=slow.translate, args=(["a", "b"],), kwargs=dict(from_="en", to="es")) for _ in range(5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(calm.calls) == 10 and calm.most <= 2
    assert max(calm.calls) - min(calm.calls) >= 9 / 50 - 0.02
    for wrong in (dict(per_second=0), dict(at_once=0)):
        with pytest.raises(dubcore.InvalidArgumentError):
            dubcore.limited(calm, **wrong)
    with pytest.raises(dubcore.InvalidArgumentError):
        dubcore.retrying(calm, tries=0)
