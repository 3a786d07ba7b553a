"""Stages, pipelines, sound and the factory, as Python has them."""

import array
import asyncio
import inspect
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

import dubcore
import numpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "examples" / "media" / "kitchen.wav"
MOVIE = ROOT / "examples" / "media" / "station.mp4"


@pytest.fixture(scope="module")
def stt():
    return dubcore.Stt("micro/stt-en")


@pytest.fixture(scope="module")
def translator():
    return dubcore.Translator("micro/mt-en-es")


@pytest.fixture(scope="module")
def voice():
    return dubcore.Tts("micro/tts-es")


@pytest.fixture(scope="module")
def pipeline(stt, translator, voice):
    return dubcore.Pipeline(stt, translator, voice)


def kept(result):
    """A result that is JSON, prints, and comes back from a pickle as it was."""
    json.dumps(result.to_dict())
    assert repr(result).startswith(type(result).__name__ + "(")
    assert pickle.loads(pickle.dumps(result)) == result
    return result


def test_stages_give_plain_results(stt, translator, voice):
    heard = kept(stt.transcribe(CLIP, language="en"))
    assert heard.language == "en" and heard.text and " ".join(s.text.strip() for s in heard.segments) == heard.text
    assert all(0 <= s.start < s.end for s in heard.segments)
    assert heard.metadata.model == "micro/stt-en" and heard.metadata.device == "cpu" and not heard.metadata.cached
    assert heard.metadata.processing_time > 0 and heard.metadata.audio_duration == pytest.approx(10.3, abs=0.1)

    one, two = translator.translate(["Good morning.", "Where is the station?"], from_="en", to="es", beams=4, alternatives=2)
    assert kept(one).text == "Buenos días." and len(two.alternatives) == 2 and two.score > two.alternatives[1][1]

    (said,) = voice.synthesize(["Buenos días."], seed=1)
    assert kept(said).audio.rate == 16_000 and 0.5 < said.audio.duration < 3
    assert voice.synthesize(["Buenos días."], seed=1)[0].audio == said.audio
    assert voice.synthesize(["Buenos días."], seed=2)[0].audio != said.audio
    slow = voice.synthesize(["Buenos días."], seed=1, speaking_rate=0.5)[0]
    assert slow.audio.duration > 1.5 * said.audio.duration

    assert stt.info.from_ == ["en"] and translator.info.to == ["es"] and voice.info.sample_rate == 16_000
    assert repr(stt) == "Stt('micro/stt-en')"


def test_a_compute_type_is_asked_for_and_told(translator):
    fastest = {"amx": ["bf16"], "avx512_bf16": ["bf16", "f32"]}
    kernels = translator.info.kernels
    assert kernels and translator.info.compute_type in fastest.get(kernels, ["f32"])
    for compute_type in ("bf16", "int8"):
        other = dubcore.Translator("micro/mt-en-es", compute_type=compute_type)
        (text,) = other.translate(["Good morning."], from_="en", to="es")
        assert (other.info.compute_type, text.metadata.compute_type) == (compute_type, compute_type)
        assert text.text == "Buenos días."
    with pytest.raises(dubcore.InvalidArgumentError, match="int8"):
        dubcore.Translator("micro/mt-en-es", compute_type="fp8")


def test_sound_comes_from_whatever_has_it(stt):
    want = stt.transcribe(CLIP).text
    data = CLIP.read_bytes()
    audio = dubcore.load_audio(CLIP)
    with open(CLIP, "rb") as file:
        for media in (str(CLIP), CLIP, data, bytearray(data), io.BytesIO(data), file, audio):
            assert stt.transcribe(media).text == want
    assert audio.rate == 22_050 or audio.rate > 0
    assert dubcore.load_audio(MOVIE, track=0).duration == pytest.approx(28.9, abs=0.1)
    with pytest.raises(dubcore.InvalidArgumentError):
        dubcore.load_audio(MOVIE, track=7)


def test_samples_go_in_and_out():
    values = [0.0, 0.5, -0.5, 1.0, -1.0]
    raw = struct.pack("5f", *values)
    audio = dubcore.Audio(raw, 16_000)
    assert len(audio) == 5 and audio.duration == 5 / 16_000 and repr(audio) == "Audio(0.00 s at 16000 Hz)"
    view = memoryview(audio)
    assert view.format == "f" and view.shape == (5,) and view.readonly and view.tolist() == values
    assert audio.tobytes() == raw and pickle.loads(pickle.dumps(audio)) == audio
    del audio
    assert view.tolist() == values, "a view keeps its samples"
    again = dubcore.Audio(view, 16_000)
    assert memoryview(again).tolist() == values
    assert again.slice(1 / 16_000, 3 / 16_000).tobytes() == struct.pack("2f", 0.5, -0.5)
    assert len(again.resample(8_000)) == 3
    for code, scale in (("d", 1), ("h", 32_768), ("i", 2**31)):
        given = array.array(code, [v if scale == 1 else int(max(min(v * scale, scale - 1), -scale)) for v in values])
        assert memoryview(dubcore.Audio(given, 16_000)).tolist() == pytest.approx(values, abs=1e-4)
    assert memoryview(dubcore.Audio(bytearray([128, 192, 64]), 8_000)).tolist() == [0, 0.5, -0.5]
    assert memoryview(dubcore.Audio(values, 16_000)).tolist() == values
    # Every second one of a buffer; two channels.
    assert memoryview(dubcore.Audio(memoryview(array.array("f", values))[::2], 16_000)).tolist() == [0.0, -0.5, -1.0]
    stereo = memoryview(array.array("f", [0, 1, 0.5, 0.5, -1, 0])).cast("B").cast("f", (3, 2))
    assert memoryview(dubcore.Audio(stereo, 16_000)).tolist() == [0.5, 0.5, -0.5]


def test_samples_of_numpy():
    tone = numpy.sin(numpy.arange(16_000) / 20).astype(numpy.float32)
    audio = dubcore.Audio(tone, 16_000)
    assert numpy.array_equal(numpy.asarray(audio), tone)
    assert not numpy.asarray(audio).flags.writeable
    assert dubcore.Audio(tone.astype(numpy.float64)[::2], 8_000).tobytes() == tone[::2].tobytes()
    both = numpy.stack([tone, -tone], axis=1)
    assert not numpy.asarray(dubcore.Audio(both, 16_000)).any()
    for wrong in (tone.astype(numpy.float16), tone.astype(complex), tone.reshape(10, 40, 40), tone.astype(">f4")):
        with pytest.raises(TypeError):
            dubcore.Audio(wrong, 16_000)


@pytest.mark.parametrize(
    ("samples", "rate", "error"),
    [
        (b"abc", 16_000, TypeError),
        ([float("nan")], 16_000, dubcore.InvalidArgumentError),
        (struct.pack("f", float("inf")), 16_000, dubcore.InvalidArgumentError),
        ([0.0], 1, dubcore.InvalidArgumentError),
        ([0.0], -1, OverflowError),
        (None, 16_000, TypeError),
        ("abc", 16_000, TypeError),
        ([[0.0]], 16_000, TypeError),
    ],
)
def test_wrong_samples(samples, rate, error):
    with pytest.raises(error):
        dubcore.Audio(samples, rate)


def test_an_audio_is_saved(tmp_path, voice):
    audio = voice.synthesize(["Hola."])[0].audio
    audio.save(tmp_path / "a.wav")
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (16_000, len(audio), 2)
    audio.save(str(tmp_path / "b.wav"), float=True)
    assert dubcore.load_audio(tmp_path / "b.wav") == audio
    with pytest.raises(dubcore.IoError):
        audio.save(tmp_path / "none" / "a.wav")


def test_lines_come_one_by_one(pipeline, tmp_path):
    output = tmp_path / "track.wav"
    run = pipeline.start(CLIP, to="es", from_="en", output=output)
    lines, seen = [], []
    for line in run:
        lines.append(kept(line))
        seen.append(run.progress.fraction)
        assert line.audio.duration == pytest.approx(line.speech_end - line.speech_start, abs=0.01)
    assert len(lines) == 4 and seen == sorted(seen) and not output.exists()
    made = run.finish()
    assert made.complete and output.exists() and made.files == [output] and made.track is None
    assert [line.target for line in made.lines] == [line.target for line in lines]
    with pytest.raises(dubcore.InvalidArgumentError):
        run.finish()
    files = made.save(tmp_path / "new" / "folder")
    assert sorted(f.name for f in files) == ["kitchen.en.srt", "kitchen.en.vtt", "kitchen.es.json", "kitchen.es.srt", "kitchen.es.vtt", "track.wav"]


def test_a_dub_in_memory_is_the_one_on_disk(pipeline, tmp_path):
    to_file = dubcore.dub(CLIP, to="es", out=tmp_path)
    in_memory = dubcore.dub(CLIP.read_bytes(), to="es")
    assert in_memory.files == [] and in_memory.track == (tmp_path / "kitchen.es.wav").read_bytes()
    names = sorted(f.name for f in in_memory.save(tmp_path / "m", "same"))
    assert names == ["same.en.srt", "same.en.vtt", "same.es.json", "same.es.srt", "same.es.vtt", "same.es.wav"]
    assert (tmp_path / "m" / "same.es.wav").read_bytes() == in_memory.track
    run = pipeline.start(CLIP, to="es", from_="en", keep=True)
    assert run.finish().track == in_memory.track
    assert to_file.report["lines"] == in_memory.report["lines"]


def test_an_edited_script_is_spoken(pipeline):
    script = [(1.0, 3.0, "Good morning.", None), (4.0, 6.0, "Bye.", "Adiós.")]
    lines = list(pipeline.start(CLIP, to="es", from_="en", script=script))
    assert [line.target for line in lines] == ["Buenos días.", "Adiós."]
    with pytest.raises(dubcore.InvalidArgumentError):
        pipeline.start(CLIP, to="es", script=[(3.0, 1.0, "a", None)])


def test_progress_timeout_and_cancel(stt):
    seen = []
    stt.transcribe(MOVIE, progress=seen.append)
    assert seen and seen[-1].fraction == 1.0 and [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    for timeout in (0, 0.01):
        with pytest.raises(dubcore.DeadlineExceededError) as raised:
            stt.transcribe(MOVIE, timeout=timeout)
        assert raised.value.kind == "deadline_exceeded"
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(dubcore.InvalidArgumentError):
            stt.transcribe(MOVIE, timeout=wrong)
    token = dubcore.CancelToken()
    threading.Timer(0.05, token.cancel).start()
    began = time.monotonic()
    with pytest.raises(dubcore.CancelledError):
        while True:
            stt.transcribe(MOVIE, cancel=token)
    assert time.monotonic() - began < 5 and token.cancelled
    with pytest.raises(dubcore.CancelledError):
        stt.transcribe(MOVIE, cancel=token)

    class Enough(Exception):
        pass

    def stop(progress):
        raise Enough(progress.fraction)

    with pytest.raises(Enough):
        stt.transcribe(MOVIE, progress=stop)
    with pytest.raises(Enough):
        dubcore.dub(MOVIE, to="es", progress=stop)


def test_options_are_checked(stt, translator, voice, pipeline):
    for call in (
        lambda: stt.transcribe(CLIP, langage="en"),
        lambda: translator.translate("Good morning.", from_="en", to="es"),
        lambda: voice.synthesize([1]),
        lambda: stt.transcribe(7),
        lambda: stt.transcribe(io.StringIO("text")),
        lambda: stt.transcribe(None),
        lambda: stt.transcribe(CLIP, language=5),
        lambda: stt.transcribe(CLIP, timeout="soon"),
        lambda: stt.transcribe(CLIP, cancel=True),
        lambda: dubcore.benchmark(CLIP, to="es", iteration=1),
        lambda: pipeline.start(CLIP, to="es", script=[1]),
        lambda: dubcore.Factory(max_model=1),
        lambda: dubcore.Stt("micro/stt-en", devise="cpu"),
    ):
        with pytest.raises(TypeError):
            call()
    for call in (
        lambda: stt.transcribe(CLIP, beams=99),
        lambda: translator.translate(["a"], from_="en", to="es", beams=99),
        lambda: voice.synthesize(["a"], speaking_rate=99),
        lambda: dubcore.Stt("micro/stt-en", device="abacus"),
        lambda: dubcore.Stt("not a name"),
        lambda: dubcore.Stt("micro/stt-en", mode="maybe"),
        lambda: dubcore.Stt("micro/stt-en", queue_timeout=-1),
        lambda: dubcore.Factory(idle=-1),
        lambda: stt.transcribe(CLIP, task="sing"),
    ):
        with pytest.raises(dubcore.InvalidArgumentError):
            call()
    closed = open(CLIP, "rb")
    closed.close()
    with pytest.raises(ValueError):
        stt.transcribe(closed)
    with pytest.raises(dubcore.InvalidArgumentError):
        dubcore.benchmark(CLIP, to="es", iterations=0)
    with pytest.raises(dubcore.UnsupportedLanguageError):
        translator.translate(["a"], from_="en", to="fr")
    with pytest.raises(dubcore.ModelIncompatibleError):
        dubcore.Tts("micro/stt-en")


def test_a_factory_tells_what_it_holds():
    factory = dubcore.Factory(max_models=2, cache_size=10, downloads=False)
    found = factory.preload(["micro/mt-en-es", "micro/none", "nobody/nothing"], warm=True)
    assert found["micro/mt-en-es"] is None and isinstance(found["micro/none"], dubcore.ModelNotFoundError)
    assert found["nobody/nothing"].kind == "model_not_found"
    translator = dubcore.Translator("micro/mt-en-es", factory=factory)
    cached = [translator.translate(["It is cold."], from_="en", to="es")[0].metadata.cached for _ in range(2)]
    assert cached == [False, True]
    factory.clear_cache()
    assert not translator.translate(["It is cold."], from_="en", to="es")[0].metadata.cached
    status = factory.status()
    assert factory.stats() == {name: status[name] for name in ("loads", "evictions", "calls", "results")}
    assert {m["model"] for m in factory.installed() if m["folder"] is None} == {"micro/mt-en-es", "micro/stt-en", "micro/tts-es"}
    assert status["residents"][0]["bytes"] > 1e6 and status["memory"]["resident"] > 1e6
    assert isinstance(status["residents"][0]["idle"], float)
    assert factory.health()["status"] == "degraded" and not factory.health()["security"]["remote_code"]
    assert "dubcore_calls_total" in factory.metrics()
    assert factory.pin("micro/mt-en-es") and not factory.pin("micro/tts-es")
    factory.unload("micro/mt-en-es")
    assert factory.status()["residents"] == [] and repr(factory) == "Factory(loaded=[])"
    assert translator.translate(["It is cold."], from_="en", to="es")[0].metadata.cached
    factory.unload()
    assert factory.sweep() == 0
    gpu = dubcore.Tts("micro/tts-es", factory=factory, device="cuda:3").synthesize(["Hola."])[0].metadata
    assert gpu.device == "cpu" and gpu.fallback.from_ == "micro/tts-es on cuda:3"
    with pytest.raises(dubcore.DeviceUnavailableError):
        dubcore.Tts("micro/tts-es", factory=factory, device="cuda:3", mode="memory")


def test_what_a_factory_is_told_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("DUBCORE_RESULT_CACHE", "true")
    monkeypatch.setenv("DUBCORE_MEMORY_BUDGET", "1")
    assert dubcore.Factory().status()["results"] and dubcore.Factory(cache=False).status()["results"] is None
    with pytest.raises(dubcore.OutOfMemoryError):
        dubcore.Tts("micro/tts-es", factory=dubcore.Factory(idle=60))
    assert dubcore.Tts("micro/tts-es", factory=dubcore.Factory(idle=60, memory_budget=0)).info.model == "micro/tts-es"


def test_awaited_twins(stt, translator, voice):
    async def run():
        loaded = await dubcore.Stt.aload("micro/stt-en")
        heard, said, spoken, made = await asyncio.gather(
            loaded.atranscribe(CLIP),
            translator.atranslate(["Good morning."], from_="en", to="es"),
            voice.asynthesize(["Hola."]),
            dubcore.adub(CLIP, to="es"),
        )
        assert (await (await dubcore.Translator.aload("micro/mt-en-es")).atranslate(["a"], from_="en", to="es"))[0].text
        assert (await dubcore.Tts.aload("micro/tts-es")).info == voice.info
        factory = dubcore.Factory()
        assert (await factory.apreload(["micro/tts-es"])) == {"micro/tts-es": None}
        await factory.aunload()
        assert factory.status()["residents"] == []
        assert (await dubcore.aload_audio(CLIP)).duration == dubcore.load_audio(CLIP).duration
        assert (await dubcore.abenchmark(CLIP, to="es", iterations=1)).real_time_factor > 0
        with pytest.raises(dubcore.DeadlineExceededError):
            await stt.atranscribe(MOVIE, timeout=0.01)
        slow = asyncio.create_task(stt.atranscribe(MOVIE))
        await asyncio.sleep(0.05)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        async with await (dubcore.Pipeline(stt, translator, voice)).astart(MOVIE, to="es") as left:
            async for line in left:
                assert line.index == 0
                break
        return heard, said, spoken, made

    heard, said, spoken, made = asyncio.run(run())
    assert heard.text == stt.transcribe(CLIP).text and said[0].text == "Buenos días." and spoken[0].audio.duration > 0
    assert made.complete and made.track


def test_the_docstrings_are_true():
    import doctest

    import dubcore._api
    import dubcore._helpers

    os.chdir(ROOT)
    for module in (dubcore, dubcore._api, dubcore._helpers):
        found = doctest.testmod(module, extraglobs={"dubcore": dubcore})
        assert found.failed == 0 and found.attempted > 0


def test_everything_public_is_described():
    import calls

    for name in calls.public():
        found = dubcore
        for part in name.split("."):
            found = getattr(found, part)
        assert inspect.getdoc(found), name


def test_the_page_of_examples_runs(tmp_path):
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    assert len(blocks) == 5
    for i, block in enumerate(blocks):
        (tmp_path / f"block{i}.py").write_text(block)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-defs", "--allow-untyped-calls", *map(str, tmp_path.glob("*.py"))],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=ROOT, timeout=120)
        assert done.returncode == 0, block + done.stderr
