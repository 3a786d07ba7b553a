"""The command line: `python -m dubcore`, or `dubcore`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dubcore
from dubcore import _dubcore

EPILOG = "exit status: 0 done, 1 failed, 2 wrong arguments, 130 interrupted"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dubcore", description="Speech in one language in, speech in another out.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"dubcore {dubcore.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], Any], about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about, epilog=EPILOG)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print one JSON value instead of text")
        return sub

    def loading(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default=None, help="auto, cpu or cuda:N")
        sub.add_argument("--compute-type", default=None, help="auto, f32, bf16 or int8 (default: what DUBCORE_COMPUTE_TYPE says)")

    def media(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("media", help="a file with sound")
        sub.add_argument("--quiet", action="store_true", help="show no progress")
        loading(sub)

    sub = command("dub", _dub, "dub a media file into another language")
    media(sub)
    sub.add_argument("--to", required=True, help="the language to dub into: es, es-MX, spa")
    sub.add_argument("--from", dest="from_", default=None, help="the language spoken; else the recogniser tells")
    sub.add_argument("--out", default=".", help="the folder for track, subtitles and report (default: here)")
    for stage, about in (("stt", "recogniser"), ("translator", "translator"), ("tts", "voice")):
        sub.add_argument(f"--{stage}", default=None, help=f"the {about} (default: an embedded one)")

    sub = command("transcribe", _transcribe, "write down what is said")
    media(sub)
    sub.add_argument("--model", default="micro/stt-en", help="the recogniser (default: %(default)s)")
    sub.add_argument("--language", default=None, help="the language spoken; else the model tells")

    sub = command("translate", _translate, "translate texts")
    sub.add_argument("texts", nargs="*", help="the texts (default: each line of the standard input)")
    sub.add_argument("--from", dest="from_", default="en", help="their language (default: %(default)s)")
    sub.add_argument("--to", default="es", help="the language to translate to (default: %(default)s)")
    sub.add_argument("--model", default="micro/mt-en-es", help="the translator (default: %(default)s)")
    sub.add_argument("--beams", type=int, default=0, help="beam width; 0 for what the model was made for")
    loading(sub)

    sub = command("speak", _speak, "speak a text into a WAV file")
    sub.add_argument("text", help="what is said")
    sub.add_argument("out", help="the WAV file")
    sub.add_argument("--model", default="micro/tts-es", help="the voice (default: %(default)s)")
    sub.add_argument("--rate", type=float, default=1.0, help="how fast, 0.25 to 4 (default: %(default)s)")
    sub.add_argument("--seed", type=int, default=0, help="the seed of chance (default: %(default)s)")
    loading(sub)

    command("models", _models, "list the models that are on this machine")
    command("doctor", _doctor, "say what this machine has, and what to do about what it lacks")
    return parser


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[dubcore.Progress], None] | None]:
    """Shows how far a call is, on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    shown = -1

    def show(progress: dubcore.Progress) -> None:
        nonlocal shown
        percent = int(progress.fraction * 100)
        if percent != shown:
            shown = percent
            done = percent * 30 // 100
            print(f"\r[{'=' * done}{' ' * (30 - done)}] {percent:3} %", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if shown >= 0:
            print(f"\r{' ' * 40}\r", end="", file=sys.stderr, flush=True)


def _dub(args: argparse.Namespace) -> tuple[Any, list[str]]:
    with _progress(args.quiet) as progress:
        made = dubcore.dub(
            args.media,
            to=args.to,
            from_=args.from_,
            out=args.out,
            stt=args.stt,
            translator=args.translator,
            tts=args.tts,
            device=args.device,
            compute_type=args.compute_type,
            progress=progress,
        )
    text = [f"{line.start:7.2f} {line.source} -> {line.target}" for line in made.lines]
    text += [str(f) for f in made.files]
    if not made.complete:
        text.append("some lines could not be dubbed: the original is heard there, and the report tells why")
    return {**made.report, "files": [str(f) for f in made.files]}, text


def _transcribe(args: argparse.Namespace) -> tuple[Any, list[str]]:
    stt = dubcore.Stt(args.model, device=args.device, compute_type=args.compute_type)
    with _progress(args.quiet) as progress:
        heard = stt.transcribe(args.media, language=args.language, progress=progress)
    return heard.to_dict(), [f"{s.start:7.2f} {s.text.strip()}" for s in heard.segments]


def _translate(args: argparse.Namespace) -> tuple[Any, list[str]]:
    texts = args.texts or [line.rstrip("\n") for line in sys.stdin]
    translator = dubcore.Translator(args.model, device=args.device, compute_type=args.compute_type)
    found = translator.translate(texts, from_=args.from_, to=args.to, beams=args.beams)
    return [t.to_dict() for t in found], [t.text for t in found]


def _speak(args: argparse.Namespace) -> tuple[Any, list[str]]:
    voice = dubcore.Tts(args.model, device=args.device, compute_type=args.compute_type)
    (said,) = voice.synthesize([args.text], speaking_rate=args.rate, seed=args.seed)
    said.audio.save(args.out)
    return {**said.to_dict(), "file": args.out, "duration": said.audio.duration}, [f"{args.out}: {said.audio.duration:.2f} s"]


def _models(_: argparse.Namespace) -> tuple[Any, list[str]]:
    found = dubcore.Factory.default().installed()
    why = "  (cannot be run: another architecture, or no weights in safetensors)"
    text = [f"{m['model']:32} {m['model_type'] or '':8} {m['folder'] or 'embedded'}{'' if m['runs'] else why}" for m in found]
    return found, text


def _doctor(args: argparse.Namespace) -> tuple[Any, list[str]]:
    """Each finding: what, whether it is well, what was found, and what to do about it if not."""
    found: list[dict[str, Any]] = []

    def tell(what: str, well: bool, is_: str, advice: str = "") -> None:
        found.append({"what": what, "well": well, "found": is_, "advice": "" if well else advice})

    status = dubcore.Factory.default().status()
    features = _dubcore.cpu_features()
    fast = any(f in features for f in ("avx2", "neon"))
    tell("processor", fast, f"{os.cpu_count()} cores, {' '.join(features)}", "it has no wide arithmetic: dubbing will be slow")
    memory = status["memory"]
    free = memory["available"]
    known = f"{free / 1e9:.1f} GB available of {memory['limit'] / 1e9:.1f}" if free and memory["limit"] else "not known"
    tell("memory", free is None or free > 500e6, known, "the embedded models take 0.3 GB: free some, or raise the container's limit")
    tell("GPU", True, "this build runs on the processor")
    cache, endpoint = dubcore.Factory.default()._native.hub()
    if cache is None:
        tell("models' folder", False, "the user has no home", "set HF_HOME")
    else:
        kept = Path(cache)
        folder = next(p for p in (kept, *kept.parents) if p.exists())
        writable, there = os.access(folder, os.W_OK), "" if kept.exists() else " (not there yet)"
        tell("models' folder", writable, f"{kept}{there}", "it cannot be written: set HF_HOME")
        space = shutil.disk_usage(folder).free
        tell("disk", space > 2e9, f"{space / 1e9:.1f} GB free there", "large models take gigabytes: free some, or set HF_HOME")
    offline = not dubcore.Factory.default().health()["security"]["downloads"]
    if offline:
        tell("hub", True, "HF_HUB_OFFLINE: nothing is fetched")
    else:
        reached = _reaches(endpoint)
        advice = "models that are not on this machine cannot be fetched: see to the network or proxy, or set HF_HUB_OFFLINE=1"
        tell("hub", reached, f"{endpoint} {'answers' if reached else 'does not answer'}", advice)
    began = dubcore.Factory.default().preload(_dubcore.embedded_models(), warm=True)
    wrong = {name: str(e) for name, e in began.items() if e is not None}
    tell("embedded models", not wrong, "all work" if not wrong else str(wrong), "the installation is damaged: install dubcore again")
    text = [f"{'ok ' if f['well'] else 'BAD'} {f['what']}: {f['found']}" for f in found]
    text += [f"    {f['what']}: {f['advice']}" for f in found if not f["well"]]
    args.failed = any(not f["well"] for f in found)
    return found, text


def _reaches(endpoint: str) -> bool:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(endpoint, method="HEAD"), timeout=5):
            return True
    except HTTPError:
        # It answers, whatever it says.
        return True
    except (OSError, ValueError):
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    args = _parser().parse_args(argv)
    args.failed = False
    try:
        value, text = args.run(args)
    except dubcore.Error as e:
        if args.json:
            print(json.dumps({"error": str(e), "kind": e.kind, "hint": e.hint, "retryable": e.retryable}))
        print(f"dubcore: error ({e.kind}): {e}\n{e.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dubcore: interrupted", file=sys.stderr)
        return 130
    try:
        print(json.dumps(value, ensure_ascii=False) if args.json else "\n".join(text), flush=True)
    except BrokenPipeError:
        # Whoever read has seen enough. What is left in the buffer must not raise again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if args.failed else 0


if __name__ == "__main__":
    sys.exit(main())
