"""Every public call of the package, made once: `python calls.py` needs nothing but the package itself."""

import asyncio
import contextlib
import dataclasses
import inspect
import io
import pickle
import struct
import sys
import tempfile
from pathlib import Path

import dubcore

CLIP = Path(__file__).resolve().parents[2] / "examples" / "media" / "kitchen.wav"


class Voice:
    def synthesize(self, text, *, language, speaking_rate):
        return [0.0] * 80, 8_000


class Words:
    def translate(self, text, *, from_, to):
        return text


class Ear:
    def transcribe(self, audio, *, language):
        return "Good morning."


def track_of(media):
    """For processes of their own, which find this module by its name."""
    return dubcore.dub(media, to="es").track


def public():
    """The names of what can be called: functions, constructors, methods, properties."""
    for name in dubcore.__all__:
        thing = getattr(dubcore, name)
        if inspect.isfunction(thing):
            yield name
        elif inspect.isclass(thing) and not issubclass(thing, dubcore.Error) and not dataclasses.is_dataclass(thing):
            yield name
            for base in reversed(thing.__mro__[:-1]):
                yield from (f"{name}.{member}" for member, _ in vars(base).items() if not member.startswith("_"))


def calls(folder):
    """Each of them by name; all may be made again and again, in any order."""
    stt, translator, voice = dubcore.Stt("micro/stt-en"), dubcore.Translator("micro/mt-en-es"), dubcore.Tts("micro/tts-es")
    pipeline = dubcore.Pipeline(stt, translator, voice)
    own = dubcore.Factory(cache_size=4)
    audio = dubcore.load_audio(CLIP)
    piece = audio.slice(0, 1.5)
    made = dubcore.dub(CLIP, to="es")
    texts, pair = ["Good morning."], dict(from_="en", to="es")
    result = translator.translate(texts, **pair)[0]
    token = dubcore.CancelToken()
    raw = struct.pack("800f", *[0.25] * 800)
    run = asyncio.run

    async def lines():
        async with await pipeline.astart(piece, to="es", from_="en") as begun:
            async for _ in begun:
                pass

    async def whole():
        return await (await pipeline.astart(piece, to="es", from_="en", keep=True)).afinish()

    def iterate():
        with pipeline.start(piece, to="es", from_="en") as begun:
            list(begun)

    def cancelled():
        begun = pipeline.start(audio, to="es", from_="en")
        begun.cancel()
        return begun.finish()

    def bar():
        # tqdm need not be there.
        with contextlib.suppress(ImportError), dubcore.progress_bar(file=io.StringIO()) as show:
            show(dubcore.Progress(0.5))

    def stopped():
        stop = dubcore.CancelToken()
        stop.cancel()
        with contextlib.suppress(dubcore.CancelledError):
            stt.transcribe(piece, cancel=stop)

    def failed():
        with contextlib.suppress(dubcore.Error):
            dubcore.dub(folder / "nowhere.wav", to="es")

    def registered(kind, stage):
        return lambda: getattr(dubcore, f"register_{kind}")(f"calls/{kind}", stage)

    def loaded(kind):
        return run(getattr(dubcore, kind).aload({"Stt": "micro/stt-en", "Translator": "micro/mt-en-es", "Tts": "micro/tts-es"}[kind]))

    return {
        "Audio": lambda: (dubcore.Audio(raw, 8_000), dubcore.Audio([0.5, 0.25], 8_000), dubcore.Audio(memoryview(raw).cast("f"), 8_000)),
        "Audio.rate": lambda: audio.rate,
        "Audio.duration": lambda: audio.duration,
        "Audio.slice": lambda: audio.slice(0.5, 1.0),
        "Audio.resample": lambda: piece.resample(8_000),
        "Audio.save": lambda: piece.save(folder / "piece.wav"),
        "Audio.tobytes": lambda: piece.tobytes(),
        "CancelToken": lambda: stopped(),
        "CancelToken.cancel": lambda: dubcore.CancelToken().cancel(),
        "CancelToken.cancelled": lambda: token.cancelled,
        "Dub": lambda: dubcore.dub(piece, to="es"),
        "Dub.lines": lambda: made.lines,
        "Dub.report": lambda: made.report,
        "Dub.complete": lambda: made.complete,
        "Dub.cut_short": lambda: made.cut_short,
        "Dub.files": lambda: made.files,
        "Dub.track": lambda: made.track,
        "Dub.save": lambda: made.save(folder / "saved"),
        "Factory": lambda: dubcore.Factory(max_models=2, cache_size=3),
        "Factory.default": lambda: dubcore.Factory.default(),
        "Factory.register": lambda: own.register("calls/own", "translator", Words()),
        "Factory.preload": lambda: own.preload(["micro/mt-en-es", "micro/none"]),
        "Factory.apreload": lambda: run(own.apreload(["micro/mt-en-es"])),
        "Factory.aunload": lambda: run(own.aunload()),
        "Factory.unload": lambda: (own.unload("micro/mt-en-es"), own.unload()),
        "Factory.pin": lambda: own.pin("micro/mt-en-es"),
        "Factory.sweep": lambda: own.sweep(),
        "Factory.clear_cache": lambda: own.clear_cache(),
        "Factory.status": lambda: own.status(),
        "Factory.stats": lambda: own.stats(),
        "Factory.health": lambda: own.health(),
        "Factory.installed": lambda: own.installed(),
        "Factory.metrics": lambda: own.metrics(),
        "Pipeline": lambda: dubcore.Pipeline(stt, translator),
        "Pipeline.start": iterate,
        "Pipeline.astart": lambda: run(lines()),
        "Run": lambda: pipeline.start(piece, to="es", from_="en", keep=True).finish(),
        "Run.finish": cancelled,
        "Run.afinish": lambda: run(whole()),
        "Run.cancel": lambda: pipeline.start(piece, to="es").cancel(),
        "Run.progress": lambda: pipeline.start(piece, to="es").progress,
        "Stt": lambda: dubcore.Stt("micro/stt-en"),
        "Stt.aload": lambda: loaded("Stt"),
        "Stt.info": lambda: stt.info,
        "Stt.transcribe": lambda: (stt.transcribe(piece), stt.transcribe(CLIP.read_bytes(), progress=lambda p: None)),
        "Stt.atranscribe": lambda: run(stt.atranscribe(piece)),
        "Translator": lambda: dubcore.Translator("micro/mt-en-es"),
        "Translator.aload": lambda: loaded("Translator"),
        "Translator.info": lambda: translator.info,
        "Translator.translate": lambda: translator.translate(texts, **pair, beams=4, alternatives=2),
        "Translator.atranslate": lambda: run(translator.atranslate(texts, **pair)),
        "Tts": lambda: dubcore.Tts("micro/tts-es"),
        "Tts.aload": lambda: loaded("Tts"),
        "Tts.info": lambda: voice.info,
        "Tts.synthesize": lambda: voice.synthesize(["Hola."]),
        "Tts.asynthesize": lambda: run(voice.asynthesize(["Hola."])),
        "abenchmark": lambda: run(dubcore.abenchmark(piece, to="es", iterations=1)),
        "adub": lambda: run(dubcore.adub(piece, to="es")),
        "aload_audio": lambda: run(dubcore.aload_audio(CLIP)),
        "benchmark": lambda: dubcore.benchmark(piece, to="es", iterations=1),
        "dub": lambda: (dubcore.dub(piece, to="es", out=folder / "out"), failed()),
        "limited": lambda: dubcore.limited(Words(), per_second=1e6, at_once=1).translate("a", from_="en", to="es"),
        "load_audio": lambda: dubcore.load_audio(CLIP),
        "progress_bar": bar,
        "register_stt": registered("stt", Ear()),
        "register_translator": registered("translator", Words()),
        "register_tts": registered("tts", Voice()),
        "retrying": lambda: dubcore.retrying(Words(), tries=2).translate("a", from_="en", to="es"),
        # Beside the calls themselves: results, errors, stages that are Python objects.
        "results": lambda: (pickle.loads(pickle.dumps(result)), result.to_dict(), repr(result)),
        "errors": failed,
        "own stages": lambda: dubcore.dub(piece, to="es", stt="calls/stt", translator="calls/translator", tts="calls/tts"),
    }


def main():
    with tempfile.TemporaryDirectory() as folder:
        known = calls(Path(folder))
        missing = sorted(set(public()) - known.keys())
        if missing:
            sys.exit(f"no call here makes {', '.join(missing)}")
        # What is registered is asked for by a later one.
        for name, call in sorted(known.items(), key=lambda item: not item[0].startswith("register")):
            call()
            print("ok", name)


if __name__ == "__main__":
    main()
