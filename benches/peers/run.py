#!/usr/bin/env python3
"""dubcore beside faster-whisper/CTranslate2, transformers, onnxruntime and whisper.cpp, on the same weights and the same input.

    cargo build --release --package dubcore-bench
    pip install -r benches/peers/requirements.txt
    python benches/peers/run.py [--rounds N] [--only NAME ...] [--threads N] [--isa avx2] [--json FILE] [--write]

Checkpoints have the shapes of whisper-base, opus-mt-en-es and mms-tts-spa and random weights; they are made once. Each
contender is a process of its own. All take turns: A, B, C, A, B, C and so on; whoever has no turn is stopped (SIGSTOP), so that
no pool of threads that spins can take anything from the others. A turn is a round that does not count, if rounds are short, and
then as many as fill a quarter of a second; its time is their median, and the row is the median of the turns.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLACE = ROOT / "docs/performance.md"
BEGIN = "<!-- peers: `python benches/peers/run.py --write` replaces what is between -->\n"
END = "<!-- end of the peers -->\n"

# The arithmetic that each can do.
CONTENDERS = {
    table.OURS: ["f32", "bf16", "int8"],
    "CTranslate2": ["f32", "int8"],
    "transformers": ["f32", "bf16"],
    "onnxruntime": ["f32"],
    "whisper.cpp": ["f16", "q8_0"],
}
WHISPER = [table.OURS, "CTranslate2", "transformers", "whisper.cpp"]
PACKAGES = {
    "CTranslate2": ["ctranslate2", "faster-whisper"],
    "transformers": ["transformers", "torch"],
    "onnxruntime": ["onnxruntime"],
    "whisper.cpp": ["pywhispercpp"],
}
# What one instruction set alone is forced by, as each of them reads it.
ISAS = {"avx2": {"DUBCORE_CPU_ISA": "avx2", "CT2_FORCE_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}}
# Those that choose by the processor, and cannot be told.
UNFORCED = ["onnxruntime", "whisper.cpp"]

# How long a turn lasts at least, and how often a task is done in it at most.
TURN, MOST = 0.25, 20
# Longer than any task takes, and any load.
PATIENCE = 300


def tasks(folder):
    """Name, model, task, what else it wants, and who has it."""
    sentences = json.loads((folder / "sentences.json").read_text())
    voice = json.loads((folder / "voice.json").read_text())
    heard = {"sound": str(folder / "sound.f32"), "tokens": 64}
    hear, write, say = "whisper-base", "opus-mt-en-es", "mms-tts-spa"
    yield "log-mel, 30 s", hear, "log-mel", heard, [table.OURS, "transformers", "CTranslate2", "whisper.cpp"]
    yield "encoder, 30 s", hear, "encoder", heard, [*WHISPER, "onnxruntime"]
    yield "decoder, a token", hear, "decoder", heard, WHISPER
    for requests in (1, 4, 8):
        name = "window of 30 s, 64 tokens" if requests == 1 else f"{requests} windows at once"
        yield name, hear, "window", {**heard, "requests": requests}, WHISPER
    for rows, beams in ((1, 1), (1, 4), (32, 1), (32, 4)):
        name = f"translate {rows}, {'greedy' if beams == 1 else f'beam {beams}'}"
        given = {"texts": [s["text"] for s in sentences[:rows]], "sentences": sentences[:rows], "beams": beams, "tokens": 24}
        yield name, write, "translate", given, [table.OURS, "CTranslate2", "transformers"]
    frames = (folder / "latents.f32").stat().st_size // 4 // 192
    latents = {"latents": str(folder / "latents.f32"), "frames": frames}
    yield "HiFi-GAN, 5 s", say, "vocoder", latents, [table.OURS, "transformers", "onnxruntime"]
    yield "voice, 5 s", say, "voice", voice, [table.OURS, "transformers", "onnxruntime"]


class Failed(Exception):
    """A contender cannot go on."""


class Contender:
    """A process, stopped except while it is asked."""

    def __init__(self, library, arithmetic, args, scratch):
        self.library, self.arithmetic = library, arithmetic
        self.name, self.failure, self.times = f"{library} {arithmetic}", None, []
        self.answers = scratch / f"{self.name}.f32"
        self.log = open(scratch / f"{self.name}.log", "w+")
        threads = str(args.threads)
        env = {**os.environ, **ISAS.get(args.isa, {}), "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if library == table.OURS:
            env |= {"DUBCORE_CPU_THREADS": threads, "DUBCORE_COMPUTE_TYPE": arithmetic}
        command = [args.program, "serve"] if library == table.OURS else [sys.executable, HERE / "contenders.py", library]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=env, bufsize=0)

    def ask(self, **request):
        self.process.send_signal(signal.SIGCONT)
        # That it has ended is seen by what it does not say.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write((json.dumps(request) + "\n").encode())
        return self.hear()

    def hear(self):
        """Its next line; behind it, it is stopped."""
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        self.process.send_signal(signal.SIGSTOP)
        # Until it is stopped indeed, or has ended.
        if self.process.returncode is None:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if not line:
            self.log.seek(0)
            ended = self.process.poll()
            what = f"it ended with {ended}" if ended is not None else f"it said nothing for {PATIENCE} s"
            raise Failed(f"{what}: {self.log.read().strip()[-200:]}")
        reply = json.loads(line)
        if "error" in reply:
            raise Failed(reply["error"])
        return reply

    def answer(self):
        """Tokens, values, or nothing."""
        reply = self.ask(do="answer", file=str(self.answers))
        if "file" in reply:
            return np.fromfile(reply["file"], "<f4")
        return reply.get("tokens")

    def turn(self):
        """Its time, and how much came out."""
        times, began = [], time.perf_counter()
        while len(times) < MOST and (not times or time.perf_counter() - began < TURN):
            reply = self.ask(do="run")
            times.append(reply["seconds"])
        # The first finds cold caches: where others follow, it does not count.
        return statistics.median(times[1:] or times), reply["count"]

    def peak(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close(), self.process.stdout.close(), self.log.close()


def same(ours, theirs):
    """How far a contender does the same as dubcore's f32."""
    if ours is None or theirs is None:
        return ""
    if isinstance(ours, list):
        return table.same_tokens(ours, theirs)
    if len(ours) != len(theirs):
        return f"{len(theirs)} values, not {len(ours)}"
    away = np.sqrt(np.mean((theirs - ours) ** 2) / np.mean(ours**2))
    return f"{away:.1e} from it"


def joined(task, args, scratch, note, stack):
    """The contenders of a task, loaded, each with how far it does the same as dubcore's f32. The stack ends them."""
    name, model, what, given, libraries = task
    common = {"task": what, "model": str(args.folder / model), "folder": str(args.folder), "threads": args.threads, **given}
    # Features are computed in one way, whatever the weights.
    kinds = lambda library: CONTENDERS[library][: 1 if what == "log-mel" else None]
    wanted = [(library, kind) for library in libraries if library in args.only for kind in kinds(library)]
    asked, racers, first = [], [], None
    for library, kind in wanted:
        asked.append(Contender(library, kind, args, scratch))
        stack.callback(asked[-1].end)
    for racer in asked:
        try:
            racer.hear()
        except Failed as e:
            racer.failure = e
    for racer in asked:
        try:
            if racer.failure:
                raise racer.failure
            racer.loaded = racer.ask(do="load", arithmetic=racer.arithmetic, **common)
            ran = racer.loaded["arithmetic"]
            if ran != racer.arithmetic:
                note(f"{name}: dubcore was asked for {racer.arithmetic}, and the engine answers that it runs in {ran}: left out")
                racer.end()
                continue
            found = racer.answer()
            # dubcore's f32 comes first.
            racer.same = "" if first is None else same(first, found)
            first = found if racer.name == f"{table.OURS} f32" else first
            racers.append(racer)
        except Failed as e:
            note(f"{name}: {racer.name} failed: {e}", failed=True)
            racer.end()
    return racers


def measure(task, args, scratch, note):
    """The rows of a task."""
    name, rows = task[0], []
    with contextlib.ExitStack() as stack:
        racers = joined(task, args, scratch, note, stack)
        for _ in range(args.rounds):
            for racer in list(racers):
                try:
                    seconds, racer.count = racer.turn()
                    racer.times.append(seconds)
                except Failed as e:
                    note(f"{name}: {racer.name} failed: {e}", failed=True)
                    racers.remove(racer)
        counts = {racer.count for racer in racers}
        for racer in racers:
            if len(counts) > 1:
                racer.same += f"{', ' if racer.same else ''}{racer.count} came out"
            more = {"threads": args.threads, "load": racer.loaded["seconds"], "peak": racer.peak(), "same": racer.same, "count": racer.count}
            rows.append(table.row(name, racer.library, racer.arithmetic, racer.times, **more))
            print(f"{name:26} {racer.name:18} {table.time(rows[-1]['seconds'])}", flush=True)
            for about in (racer.loaded.get("about"), racer.loaded.get("set")):
                if about:
                    note(f"{racer.library}: {about}")
    return rows


def machine(args):
    """What the numbers are worth."""
    cpu = Path("/proc/cpuinfo").read_text()
    field = lambda name: next((line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith(name)), "unknown")
    flags = field("flags").split()
    have = [f for f in "avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8".split() if f in flags]
    packages = sorted({p for library in args.only for p in PACKAGES.get(library, [])})
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    forced = f" Forced to {args.isa}, except {' and '.join(UNFORCED)}, which cannot be." if args.isa else ""
    return (
        f"{datetime.date.today()}. {field('model name')} (family {field('cpu family')}, model {field('model')}), {os.cpu_count()} cores: "
        f"{', '.join(have)}. {args.threads} threads each, {args.rounds} turns.{forced} {versions}. Load of the machine before: "
        f"{os.getloadavg()[0]:.2f}."
    )


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME", help=f"of {', '.join(CONTENDERS)}")
    parser.add_argument("--tasks", nargs="+", metavar="WORD", help="only tasks whose name has one of these words")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--isa", choices=ISAS, help="force this instruction set on all that can be told")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--program", type=Path, default=target / "release/dubcore-bench")
    parser.add_argument("--folder", type=Path, default=target / "peers", help="where checkpoints are kept")
    args = parser.parse_args()
    args.folder = args.folder.resolve()
    if not args.program.exists():
        parser.error(f"there is no {args.program}: cargo build --release --package dubcore-bench")
    if args.write and (args.tasks or args.only != list(CONTENDERS)):
        parser.error("--write wants all: a part would replace the whole table")
    return args


def main():
    args = options()
    prepare = [sys.executable, HERE / "prepare.py", args.folder, args.program, ROOT / "examples/media/kitchen.wav"]
    subprocess.run(prepare, check=True)
    head, rows, notes, failures = machine(args), [], [], []

    def note(text, failed=False):
        if text not in notes:
            notes.append(text)
            print(text, flush=True)
        if failed:
            failures.append(text)

    with tempfile.TemporaryDirectory() as scratch:
        for task in tasks(args.folder):
            if not args.tasks or any(word in task[0] for word in args.tasks):
                rows += measure(task, args, Path(scratch), note)
    measured = f"{head}\n\n{table.markdown(rows, notes)}"
    print(f"\n{measured}")
    if args.json:
        args.json.write_text(json.dumps({"machine": head, "rows": table.with_ratios(rows), "notes": notes}, indent=1) + "\n")
    if args.write and not failures:
        PLACE.write_text(table.replaced(PLACE.read_text(), BEGIN, END, measured))
    return 1 if failures or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
