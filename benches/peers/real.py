#!/usr/bin/env python3
"""Real work: recordings of people joined to ten minutes each, written down with the same published weights.

    cargo build --release --example transcribe
    pip install -r benches/peers/requirements.txt
    python benches/peers/real.py --weights WHISPER_DIR --ct2 CT2_DIR --prompts MANIFEST [--rounds N] [--json FILE] [--write]

The folders and the manifest are those of benches/quality/quality.py. dubcore, faster-whisper (batched) and whisper.cpp take turns;
each is a process of its own that hears all recordings. The time of dubcore is that of its whole process, loading and reading the
files included; that of the others begins when their model is loaded and the sound is in memory. All are greedy. dubcore writes
timestamps, so that several utterances share a window. Improbable and repetitive text is tried again at higher temperatures by
dubcore and whisper.cpp, not by faster-whisper in batches; a row of dubcore is without that, too.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "quality"))

import quality  # noqa: E402

PLACE = ROOT / "docs/performance.md"
BEGIN = "<!-- real work: `python benches/peers/real.py --write` replaces what is between -->\n"
END = "<!-- end of the real work -->\n"
OURS = "dubcore"
ONCE = "dubcore, each window once"
CONTENDERS = [(OURS, "f32"), (OURS, "bf16"), (OURS, "int8"), (ONCE, "int8"), ("faster-whisper", "int8"), ("whisper.cpp", "q8_0")]


def dubcore(r):
    program = ROOT / "target/release/examples/transcribe"
    command = [program, "--stt", r["weights"], "--from", "en", "--compute-type", r["arithmetic"], "--timestamps", "--json", *r["paths"]]
    command += ["--temperatures", "0"] if r["name"] == ONCE else []
    began = time.perf_counter()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    took = time.perf_counter() - began
    return took, [json.loads(line)["text"] for line in out.splitlines()]


def sounds(paths):
    from faster_whisper.audio import decode_audio

    return [decode_audio(path, sampling_rate=16000) for path in paths]


def faster_whisper(r):
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(r["ct2"], device="cpu", compute_type=r["arithmetic"], cpu_threads=r["threads"])
    pipeline, heard = BatchedInferencePipeline(model), sounds(r["paths"])
    began = time.perf_counter()
    texts = []
    for sound in heard:
        segments, _ = pipeline.transcribe(sound, language="en", beam_size=1, batch_size=8)
        texts.append(" ".join(segment.text.strip() for segment in segments))
    return time.perf_counter() - began, texts


def whisper_cpp(r):
    import contenders

    whisper, heard = contenders.WhisperCpp(), sounds(r["paths"])
    library, (context,) = whisper.library, whisper.contexts(1, r)
    wanted = dict(n_threads=r["threads"], language="en", no_context=True, print_progress=False, print_timestamps=False)
    began = time.perf_counter()
    texts = []
    for sound in heard:
        found = library.whisper_full_default_params(library.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY)
        for name, value in wanted.items():
            setattr(found, name, value)
        library.whisper_full(context, found, sound, len(sound))
        segments = range(library.whisper_full_n_segments(context))
        read = lambda i: library.whisper_full_get_segment_text(context, i)
        texts.append(" ".join(t.decode(errors="replace") if isinstance(t, bytes) else t for t in map(read, segments)))
    return time.perf_counter() - began, texts


def one(request):
    """What a process of its own does: prints seconds, peak memory and texts."""
    work = {OURS: dubcore, ONCE: dubcore, "faster-whisper": faster_whisper, "whisper.cpp": whisper_cpp}[request["name"]]
    took, texts = work(request)
    whose = resource.RUSAGE_CHILDREN if request["name"].startswith(OURS) else resource.RUSAGE_SELF
    print("\n" + json.dumps({"seconds": took, "peak": resource.getrusage(whose).ru_maxrss * 1024, "texts": texts}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--ct2", required=True, type=Path)
    parser.add_argument("--prompts", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    args = parser.parse_args()
    import ggml
    import prepare
    import run
    import table

    args.isa, args.only = None, ["CTranslate2", "whisper.cpp"]
    rows = {contender: [] for contender in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        ggml.convert(args.weights, folder / "whisper-base-q8_0.bin", prepare.filters(args.weights), "q8_0")
        recordings = [json.loads(line) for line in args.prompts.read_text().splitlines()]
        files = quality.join(recordings, "en", folder, "joined", 0.2, 1.0)
        paths = [str(path) for path, _ in files]
        seconds = sum(len(sound) / rate for sound, rate in map(quality.read, paths))
        shared = {"weights": str(args.weights.resolve()), "ct2": str(args.ct2), "folder": str(folder), "paths": paths}
        environment = dict(os.environ, DUBCORE_CPU_THREADS=str(args.threads), OMP_NUM_THREADS=str(args.threads))
        for _ in range(args.rounds):
            for name, arithmetic in CONTENDERS:
                request = {**shared, "name": name, "arithmetic": arithmetic, "threads": args.threads}
                command = [sys.executable, __file__, "--one", json.dumps(request)]
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
                found = json.loads(out.stdout.splitlines()[-1])
                wer, _ = quality.rates([(want, got) for (_, want), got in zip(files, found["texts"])], "en")
                rows[name, arithmetic].append({**found, "wer": wer})
                print(f"{name:25} {arithmetic:5} {found['seconds']:7.1f} s  WER {wer:.2f} %", flush=True)

    median = lambda found, what: statistics.median(turn[what] for turn in found)
    ours = median(rows[OURS, "int8"], "seconds")
    lines = ["| | seconds | real-time factor | dubcore int8 is faster by | WER | peak memory |", "|---|---|---|---|---|---|"]
    for (name, arithmetic), found in rows.items():
        took = median(found, "seconds")
        faster = "" if name.startswith(OURS) else f"{took / ours:.2f}"
        wer, peak = median(found, "wer"), median(found, "peak") / 1e6
        lines.append(f"| {name} {arithmetic} | {took:.1f} | {took / seconds:.4f} | {faster} | {wer:.2f} % | {peak:.0f} MB |")
    head = f"{run.machine(args)} {seconds / 60:.1f} minutes of sound in {len(paths)} recordings, medians of {args.rounds} turns."
    text = "\n".join([head, "", *lines]) + "\n"
    print("\n" + text)
    if args.json:
        args.json.write_text(json.dumps([{"name": n, "arithmetic": a, "turns": t} for (n, a), t in rows.items()], ensure_ascii=False, indent=1))
    if args.write:
        PLACE.write_text(table.replaced(PLACE.read_text(), BEGIN, END, text))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(json.loads(sys.argv[2]))
    else:
        sys.exit(main())
