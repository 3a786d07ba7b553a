"""What the Python package costs: `cargo xtask bench python` runs it. Prints rows and notes as the other suites do."""

import array
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import dubcore
import numpy

CLIP = Path(__file__).resolve().parents[2] / "examples" / "media" / "kitchen.wav"
ROUNDS = 25


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def processor():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def row(name, times, cpu, audio=None):
    """Of the times of the rounds and the processor time of one; the interval is that of the order statistics."""
    times, n = sorted(times), len(times)
    away = int(0.98 * n**0.5)
    low, high = times[max(0, n // 2 - away)], times[min(n - 1, n // 2 + away)]
    told = {"group": "python", "name": name, "median": statistics.median(times), "low": low, "high": high}
    print("row", json.dumps(told | {"audio": audio, "peak": status("VmHWM"), "cpu": cpu}), flush=True)


def dubs():
    """One dub by the engine itself and one by Python, in turns."""
    audio = dubcore.load_audio(CLIP)
    factory = dubcore.Factory(cache=False)
    pipeline = dubcore.Pipeline(
        dubcore.Stt("micro/stt-en", factory=factory),
        dubcore.Translator("micro/mt-en-es", factory=factory),
        dubcore.Tts("micro/tts-es", factory=factory),
    )

    def by_python():
        run = pipeline.start(audio, to="es", keep=True)
        lines = [(line.source, line.target, memoryview(line.audio)) for line in run]
        made = run.finish()
        assert len(lines) == len(made.lines) == 4 and made.track and made.report["complete"]

    engine, python, cpu = [], [], 0.0
    by_python()
    forget_peak()
    for _ in range(ROUNDS):
        engine += dubcore.benchmark(audio, to="es", iterations=1, factory=factory).runs
        used, began = processor(), time.perf_counter()
        by_python()
        python.append(time.perf_counter() - began)
        cpu += (processor() - used) / ROUNDS
    row("dub kitchen.wav, by the engine itself", engine, cpu, audio.duration)
    row("dub kitchen.wav, line by line from Python", python, cpu, audio.duration)
    ratios = [p / e for p, e in zip(python, engine)]
    print(f"note python: a dub from Python takes {statistics.median(ratios):.4f} of the engine's own time, median of {ROUNDS} pairs")


def samples():
    """Ten minutes of sound go in."""
    tone = (numpy.sin(numpy.arange(600 * 16_000) / 20) / 2).astype(numpy.float32)
    whole = tone.nbytes
    for name, given in (
        ("bytes", tone.tobytes()),
        ("a float32 array", tone),
        ("an array.array of floats", array.array("f", tone.tobytes())),
        ("a float64 array", tone.astype(numpy.float64)),
        ("an int16 array", (tone * 32_767).astype(numpy.int16)),
    ):
        times, more = [], []
        for _ in range(ROUNDS):
            forget_peak()
            before, began = status("VmRSS"), time.perf_counter()
            audio = dubcore.Audio(given, 16_000)
            times.append(time.perf_counter() - began)
            more.append(status("VmHWM") - before)
            assert len(audio) == len(tone)
            del audio
        row(f"10 minutes of samples from {name}", times, statistics.median(times), 600.0)
        print(f"note python: {name} of 10 minutes take {statistics.median(more) / whole:.2f} of the sound's {whole / 1e6:.0f} MB more")


def imports():
    code = "import time; began = time.perf_counter(); import dubcore; print(time.perf_counter() - began)"
    times = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(ROUNDS)]
    row("import dubcore", times, statistics.median(times))


if __name__ == "__main__":
    imports()
    samples()
    dubs()
