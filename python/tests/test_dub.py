"""The package as a user has it: the installed wheel."""

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
import wave
from pathlib import Path

import dubcore
import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIP = sorted((ROOT / "examples" / "media").glob("*.wav"))[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return dubcore.dub(CLIP, to="es", from_="en", out=tmp_path_factory.mktemp("out"))


def python(code: str, *args: object, **more) -> subprocess.Popen:
    """A fresh interpreter, started outside the source tree."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/", **more)


def test_version_is_cargos():
    manifest = (ROOT / "Cargo.toml").read_text()
    assert f'version = "{dubcore.__version__}"' in manifest


def test_a_dub_writes_the_track_and_its_texts(made):
    endings = ("en.srt", "en.vtt", "es.json", "es.srt", "es.vtt", "es.wav")
    assert sorted(f.name for f in made.files) == [f"{CLIP.stem}.{e}" for e in endings]
    assert all(f.stat().st_size > 0 for f in made.files)
    # Nothing else: no unfinished file either.
    assert sorted(made.files[0].parent.iterdir()) == sorted(made.files)
    assert made.complete
    assert made.report == json.loads(next(f for f in made.files if f.suffix == ".json").read_text())
    assert " --> " in next(f for f in made.files if f.suffix == ".srt").read_text()


def test_the_track_is_as_long_as_the_clip(made):
    with wave.open(str(CLIP)) as was, wave.open(str(next(f for f in made.files if f.suffix == ".wav"))) as now:
        assert now.getnframes() == was.getnframes()
        assert now.getframerate() == was.getframerate()
        assert any(now.readframes(now.getnframes()))


def test_lines_tell_what_is_said_when(made):
    assert made.lines
    for line in made.lines:
        assert 0 <= line.start < line.end
        assert line.source.strip() and line.target.strip()
        assert line.speed > 0 and line.overflow in (False, True)
    assert [line.start for line in made.lines] == sorted(line.start for line in made.lines)
    assert repr(made).startswith("Dub(") and repr(made.lines[0]).startswith("Line(")
    with pytest.raises(AttributeError):
        made.complete = False


def test_the_track_is_the_one_of_the_rust_example(made, tmp_path):
    build = ["cargo", "build", "--quiet", "--workspace", "--example", "dub", "--message-format", "json"]
    told = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=1800).stdout
    (example,) = {m["executable"] for m in map(json.loads, told.splitlines()) if m.get("executable") and m["target"]["name"] == "dub"}
    subprocess.run([example, CLIP, "--to", "es", "--from", "en", "--out", tmp_path], check=True, stdout=subprocess.DEVNULL)
    for file in made.files:
        # The report of the example tells of the run's times and memory, too.
        if file.suffix != ".json":
            assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name
    assert sorted(f.name for f in made.files) == sorted(f.name for f in tmp_path.iterdir())


def header(rate=16_000, channels=1, data=b"", declared=None):
    """A WAV file that may declare more than it has."""
    size = len(data) if declared is None else declared
    frame, second = channels * 2 % 2**16, rate * channels * 2 % 2**32
    chunk = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, channels, rate, second, frame, 16, b"data", size)
    return struct.pack("<4sI4s", b"RIFF", min(36 + size, 2**32 - 1), b"WAVE") + chunk + data


def wrong(tmp_path: Path, case: str) -> dict:
    text = tmp_path / "notes.wav"
    text.write_text("This is no sound.\n" * 100)
    (tmp_path / "empty.wav").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.wav")
    return {
        "missing file": dict(path=tmp_path / "nowhere.wav", to="es"),
        "text file": dict(path=text, to="es"),
        "empty file": dict(path=tmp_path / "empty.wav", to="es"),
        "a huge declared size": dict(path=header(data=bytes(2_000), declared=2**31), to="es"),
        "a huge declared rate": dict(path=header(rate=2**31, data=bytes(2_000)), to="es"),
        "300 channels": dict(path=header(channels=300, data=bytes(2**18)), to="es"),
        "empty bytes": dict(path=b"", to="es"),
        "folder": dict(path=tmp_path, to="es"),
        "pipe": dict(path=tmp_path / "pipe.wav", to="es"),
        "device": dict(path="/dev/zero", to="es"),
        "empty path": dict(path="", to="es"),
        "NUL in a path": dict(path="a\0b.wav", to="es"),
        "out is a file": dict(path=CLIP, to="es", out=text),
        "NUL in out": dict(path=CLIP, to="es", out="a\0b"),
        "NUL in a language": dict(path=CLIP, to="e\0s"),
        "unknown language": dict(path=CLIP, to="klingonese"),
        "unknown source language": dict(path=CLIP, to="es", from_="klingonese"),
        "unavailable pair": dict(path=CLIP, to="ja", from_="en"),
    }[case]


@pytest.mark.parametrize(
    ("case", "error", "kind"),
    [
        ("missing file", dubcore.IoError, "io"),
        ("text file", dubcore.UnsupportedMediaError, "unsupported_media"),
        ("empty file", dubcore.UnsupportedMediaError, "unsupported_media"),
        ("a huge declared size", dubcore.CorruptMediaError, "corrupt_media"),
        ("a huge declared rate", dubcore.UnsupportedMediaError, "unsupported_media"),
        ("300 channels", dubcore.CorruptMediaError, "corrupt_media"),
        ("empty bytes", dubcore.UnsupportedMediaError, "unsupported_media"),
        ("folder", dubcore.IoError, "io"),
        ("pipe", dubcore.IoError, "io"),
        ("device", dubcore.IoError, "io"),
        ("empty path", dubcore.IoError, "io"),
        ("NUL in a path", dubcore.IoError, "io"),
        ("out is a file", dubcore.IoError, "io"),
        ("NUL in out", dubcore.IoError, "io"),
        ("NUL in a language", dubcore.UnsupportedLanguageError, "unsupported_language"),
        ("unknown language", dubcore.UnsupportedLanguageError, "unsupported_language"),
        ("unknown source language", dubcore.UnsupportedLanguageError, "unsupported_language"),
        ("unavailable pair", dubcore.UnsupportedLanguageError, "unsupported_language"),
    ],
)
def test_wrong_input_raises_its_class_and_writes_nothing(tmp_path, case, error, kind):
    out = tmp_path / "out"
    arguments = dict(out=out) | wrong(tmp_path, case)
    with pytest.raises(error) as raised:
        dubcore.dub(arguments.pop("path"), **arguments)
    assert raised.value.kind == kind
    assert isinstance(raised.value, dubcore.Error) and str(raised.value) and raised.value.hint
    assert not out.exists() or not list(out.iterdir())


def test_each_kind_has_one_class():
    classes = [c for c in vars(dubcore).values() if isinstance(c, type) and issubclass(c, dubcore.Error)]
    kinds = [c.kind for c in classes if c is not dubcore.Error]
    assert len(kinds) == len(set(kinds)) == 16
    for c in classes:
        if c is not dubcore.Error:
            assert c.__name__ == "".join(w.title() for w in c.kind.split("_")) + "Error"
            assert c.__module__ == "dubcore" and c.__doc__ and c.hint and isinstance(c.retryable, bool)


def test_the_cause_is_pythons(tmp_path):
    with pytest.raises(dubcore.IoError) as raised:
        dubcore.dub(tmp_path / "nowhere.wav", to="es")
    cause = raised.value.__cause__
    assert isinstance(cause, FileNotFoundError) and cause.errno == errno.ENOENT
    with pytest.raises(dubcore.IoError) as raised:
        dubcore.dub(CLIP, to="es", out="/proc/none")
    assert isinstance(raised.value.__cause__, OSError)


def test_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    (tmp_path / name).write_bytes(CLIP.read_bytes())
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    made = dubcore.dub(tmp_path / name, to="es", out=folder)
    assert sorted(made.files) == sorted(folder.iterdir()) and made.files[0].name == "caf\ufffd.es.wav"
    assert made.save(tmp_path / "again")
    with pytest.raises(dubcore.IoError):
        made.save("/proc/none")


def test_wrong_types_are_pythons_own_errors():
    with pytest.raises(TypeError):
        dubcore.dub(CLIP)
    with pytest.raises(TypeError):
        dubcore.dub(CLIP, "es")
    with pytest.raises(TypeError):
        dubcore.dub(7, to="es")


def test_import_starts_no_thread_and_reads_no_model():
    child = python(
        """
        import os, re, dubcore
        from dubcore import _dubcore
        def resident():
            maps = open("/proc/self/smaps").read().split("VmFlags")
            return sum(int(re.search(r"Rss: +([0-9]+)", m)[1]) for m in maps if _dubcore.__file__ in m)
        imported = resident()
        print(len(os.listdir("/proc/self/task")))
        dubcore.Factory.default().preload(["micro/stt-en", "micro/mt-en-es", "micro/tts-es"])
        print(imported, resident())
        """
    )
    threads, imported, loaded = map(int, child.communicate()[0].split())
    assert threads == 1
    # The models are a part of the library, which is read in where it is touched: they are 40 MB.
    assert loaded - imported > 25_000, (imported, loaded)


def test_other_threads_run_meanwhile(tmp_path):
    child = python(
        """
        import sys, threading, time, dubcore
        ticks, done = [], threading.Event()
        def tick():
            while not done.wait(0.01):
                ticks.append(time.monotonic())
        thread = threading.Thread(target=tick)
        thread.start()
        begin = time.monotonic()
        dubcore.dub(sys.argv[1], to="es", from_="en", out=sys.argv[2])
        end = time.monotonic()
        done.set()
        thread.join()
        during = [begin, *(t for t in ticks if begin < t < end), end]
        print(max(b - a for a, b in zip(during, during[1:])))
        """,
        CLIP,
        tmp_path,
    )
    # A call that kept the GIL would show as one gap of its whole length.
    assert float(child.communicate()[0]) < 0.5


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Sound that takes long enough to be caught at work on any machine."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    with wave.open(str(CLIP)) as clip, wave.open(str(path), "wb") as copy:
        copy.setparams(clip.getparams())
        sound = clip.readframes(clip.getnframes())
        for _ in range(int(600 * clip.getframerate() / clip.getnframes()) + 1):
            copy.writeframes(sound)
    return path


def interrupted(code, signal, *args):
    """Seconds from a signal, half a second after the program said "begin", until what its handler raises was caught."""
    child = python(code, *args)
    assert child.stdout.readline() == "begin\n"
    time.sleep(0.5)
    sent = time.monotonic()
    os.kill(child.pid, signal)
    said, when = child.communicate(timeout=30)[0].split()
    assert said == "interrupted" and child.returncode == 0
    # Both clocks are the system's.
    return float(when) - sent


def test_ctrl_c_interrupts(long, tmp_path):
    code = """
    import signal, sys, time, dubcore
    # Ignored, if the tests themselves were started in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print("begin", flush=True)
        dubcore.dub(sys.argv[1], to="es", from_="en", out=sys.argv[2])
    except KeyboardInterrupt:
        print(f"interrupted {time.monotonic()}", flush=True)
    """
    # 50 ms of polling and room for a busy machine.
    assert interrupted(code, signal.SIGINT, long, tmp_path / "out") < 0.25
    # What the call has in hand it puts away itself, or the program's end leaves it; no track is there.
    assert not list(tmp_path.glob("out/*.wav"))


@pytest.mark.parametrize("way", ["dub", "lines", "stage", "load"])
def test_what_a_signal_handler_raises_interrupts(long, way):
    """As Celery's soft time limit does: a signal, whose handler raises."""
    code = """
    import signal, sys, time, dubcore

    class SoftTimeLimitExceeded(Exception):
        pass

    def over(number, frame):
        raise SoftTimeLimitExceeded

    signal.signal(signal.SIGUSR1, over)
    stt = dubcore.Stt("micro/stt-en")
    pipeline = dubcore.Pipeline(stt)
    ways = {
        "dub": lambda: dubcore.dub(sys.argv[1], to="es"),
        "lines": lambda: list(pipeline.start(sys.argv[1], to="en")),
        "stage": lambda: stt.transcribe(sys.argv[1]),
        "load": lambda: [dubcore.Factory().preload(["micro/stt-en"], warm=True) for _ in range(1000)],
    }
    try:
        print("begin", flush=True)
        ways[sys.argv[2]]()
    except SoftTimeLimitExceeded:
        caught = time.monotonic()
        # The process is as good as before.
        assert dubcore.Translator("micro/mt-en-es").translate(["Good morning."], from_="en", to="es")[0].text == "Buenos días."
        print(f"interrupted {caught}", flush=True)
    """
    assert interrupted(code, signal.SIGUSR1, long, way) < 0.25


def test_the_stub_is_the_modules(tmp_path):
    # Before Python 3.12 the buffer protocol has no name at run time; type checkers go by it nevertheless.
    (tmp_path / "known").write_text("dubcore._dubcore.Audio.__buffer__\n")
    command = [sys.executable, "-m", "mypy.stubtest", "dubcore", "--allowlist", tmp_path / "known", "--ignore-unused-allowlist"]
    run = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout


def test_the_examples_run_and_are_strictly_typed(tmp_path):
    examples = ROOT / "examples" / "python"
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, sorted(examples.glob("*.py")))],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    done = subprocess.run(
        [sys.executable, examples / "dub.py", CLIP, "--to", "es", "--out", tmp_path / "one"], capture_output=True, text=True, check=True
    )
    assert done.stdout.count(" -> ") == 4 and (tmp_path / "one" / f"{CLIP.stem}.es.wav").exists()
    wrong = subprocess.run([sys.executable, examples / "dub.py", "nowhere.wav", "--to", "es", "--out", tmp_path], capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stderr.startswith("io: ")
    movie = ROOT / "examples" / "media" / "station.mp4"
    done = subprocess.run([sys.executable, examples / "many.py", tmp_path, CLIP, movie, "nowhere.wav"], capture_output=True, text=True)
    assert done.returncode == 1 and "nowhere.wav: io: " in done.stderr
    assert (tmp_path / CLIP.stem / f"{CLIP.stem}.es.wav").exists() and (tmp_path / "station" / "station.es.wav").exists()


def test_the_package_is_strictly_typed():
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "-p", "dubcore"], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0, run.stdout
