"""The package as a user has it: the installed wheel."""

import json
import os
import signal
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


def wrong(tmp_path: Path, case: str) -> dict:
    text = tmp_path / "notes.wav"
    text.write_text("This is no sound.\n" * 100)
    (tmp_path / "empty.wav").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.wav")
    return {
        "missing file": dict(path=tmp_path / "nowhere.wav", to="es"),
        "text file": dict(path=text, to="es"),
        "empty file": dict(path=tmp_path / "empty.wav", to="es"),
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
    assert isinstance(raised.value, dubcore.Error) and str(raised.value)
    assert not out.exists() or not list(out.iterdir())


def test_each_kind_has_one_class():
    classes = [c for c in vars(dubcore).values() if isinstance(c, type) and issubclass(c, dubcore.Error)]
    kinds = [c.kind for c in classes if c is not dubcore.Error]
    assert len(kinds) == len(set(kinds)) == 16
    for c in classes:
        if c is not dubcore.Error:
            assert c.__name__ == "".join(w.title() for w in c.kind.split("_")) + "Error"
            assert c.__module__ == "dubcore" and c.__doc__


def test_wrong_types_are_pythons_own_errors():
    with pytest.raises(TypeError):
        dubcore.dub(CLIP)
    with pytest.raises(TypeError):
        dubcore.dub(CLIP, "es")
    with pytest.raises(TypeError):
        dubcore.dub(7, to="es")


def test_import_starts_no_thread():
    child = python("import os, dubcore; print(len(os.listdir('/proc/self/task')))")
    assert child.communicate()[0].strip() == "1"


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


def test_ctrl_c_interrupts(tmp_path):
    # A clip long enough to be caught at work on any machine.
    long = tmp_path / "long.wav"
    with wave.open(str(CLIP)) as clip, wave.open(str(long), "wb") as copy:
        copy.setparams(clip.getparams())
        sound = clip.readframes(clip.getnframes())
        for _ in range(int(600 * clip.getframerate() / clip.getnframes()) + 1):
            copy.writeframes(sound)
    out = tmp_path / "out"
    child = python(
        """
        import signal, sys, time, dubcore
        # Ignored, if the tests themselves were started in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            print("begin", flush=True)
            dubcore.dub(sys.argv[1], to="es", from_="en", out=sys.argv[2])
        except KeyboardInterrupt:
            print(f"interrupted {time.monotonic()}", flush=True)
        """,
        long,
        out,
    )
    assert child.stdout.readline() == "begin\n"
    time.sleep(0.5)
    sent = time.monotonic()
    os.kill(child.pid, signal.SIGINT)
    said, when = child.communicate(timeout=30)[0].split()
    assert said == "interrupted"
    # 50 ms of polling and room for a busy machine; both clocks are the system's.
    assert float(when) - sent < 0.25
    assert not list(out.glob("*.wav"))


def test_the_stub_is_the_modules():
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "dubcore"], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0, run.stdout


def test_the_package_is_strictly_typed():
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "-p", "dubcore"], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0, run.stdout
