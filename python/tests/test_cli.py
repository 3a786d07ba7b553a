"""The command line."""

import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import pytest
from dubcore.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "examples" / "media" / "kitchen.wav"
MOVIE = ROOT / "examples" / "media" / "station.mp4"


def run(*args, **more):
    command = [sys.executable, "-m", "dubcore", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120, **more)


def test_a_dub(tmp_path):
    done = run("dub", CLIP, "--to", "es", "--out", tmp_path)
    assert done.returncode == 0 and " -> " in done.stdout and done.stderr == ""
    with wave.open(str(tmp_path / "kitchen.es.wav")) as track:
        assert track.getnframes() > 0
    made = json.loads(run("dub", CLIP, "--to", "es", "--out", tmp_path, "--json").stdout)
    assert made["complete"] and str(tmp_path / "kitchen.es.wav") in made["files"]


def test_the_stages(tmp_path):
    done = run("transcribe", CLIP, "--json")
    assert json.loads(done.stdout)["language"] == "en"
    assert run("transcribe", CLIP).stdout.count("\n") == len(json.loads(done.stdout)["segments"])
    assert run("translate", "Good morning.", "Where is the station?").stdout.splitlines()[0] == "Buenos días."
    assert run("translate", input="Good morning.\n").stdout == "Buenos días.\n"
    whole = json.loads(run("translate", "Good morning.", "--compute-type", "int8", "--json").stdout)
    assert whole[0]["metadata"]["compute_type"] == "int8"
    spoken = json.loads(run("speak", "Buenos días.", tmp_path / "a.wav", "--json").stdout)
    assert spoken["duration"] > 0.5 and (tmp_path / "a.wav").stat().st_size > 10_000


def test_models_and_doctor(tmp_path):
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "whisper"}')
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    home = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    found = {m["model"]: m["runs"] for m in json.loads(run("models", "--json", env=home).stdout)}
    assert found == {"micro/mt-en-es": True, "micro/stt-en": True, "micro/tts-es": True, "owner/name": False}
    done = run("doctor", env=home)
    # How much room this machine has is its own matter.
    assert done.returncode == ("\nBAD " in done.stdout) and "ok  embedded models: all work" in done.stdout, done.stdout
    unreachable = home | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = run("doctor", "--json", env=unreachable)
    (hub,) = [f for f in json.loads(done.stdout) if f["what"] == "hub"]
    assert done.returncode == 1 and not hub["well"] and "HF_HUB_OFFLINE" in hub["advice"]


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        ((), 2, "usage"),
        (("sing",), 2, "usage"),
        (("dub", "clip.wav"), 2, "--to"),
        (("dub", "nowhere.wav", "--to", "es"), 1, "error (io)"),
        (("dub", CLIP, "--to", "klingonese"), 1, "unsupported_language"),
        (("transcribe", CLIP, "--model", "micro/none"), 1, "model_not_found"),
        (("transcribe", CLIP, "--device", "abacus"), 1, "invalid_argument"),
        (("transcribe", CLIP, "--compute-type", "f64"), 1, "invalid_argument"),
        (("speak", "Hola.", "/nowhere/a.wav"), 1, "error (io)"),
        (("speak", "Hola.", "a.wav", "--rate", "99"), 1, "invalid_argument"),
    ],
)
def test_what_goes_wrong_has_its_status(args, status, said):
    done = run(*args)
    assert done.returncode == status and said in done.stderr and done.stdout == ""
    if status == 1:
        told = json.loads(run(*args, "--json").stdout)
        assert told["kind"] in said and told["hint"] in done.stderr and isinstance(told["retryable"], bool)


def test_ctrl_c_ends_it(tmp_path):
    command = [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
               "import sys; from dubcore.__main__ import main; print('begin', flush=True); sys.exit(main(sys.argv[1:]))"]
    child = subprocess.Popen([*command, "dub", MOVIE, "--to", "es", "--out", tmp_path], stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE)
    assert child.stdout.readline() == "begin\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130 and "interrupted" in said
    assert not list(tmp_path.glob("*.wav"))


def test_a_reader_may_leave():
    done = subprocess.run(f"{sys.executable} -m dubcore transcribe {CLIP} --json | true", shell=True, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_it_can_be_called():
    assert main(["translate", "Good morning."]) == 0
