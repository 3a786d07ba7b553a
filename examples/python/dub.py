"""Dubs a media file, and prints its lines as they come:

    python examples/python/dub.py examples/media/station.mp4 --to es --out out/
"""

import argparse
import sys
from pathlib import Path

import dubcore


def main() -> int:
    parser = argparse.ArgumentParser(description="Dub a media file into another language.")
    parser.add_argument("media", type=Path)
    parser.add_argument("--to", required=True, help="the language to dub into")
    parser.add_argument("--from", dest="from_", help="the language spoken; else the recogniser tells")
    parser.add_argument("--out", type=Path, default=Path("."), help="the folder for what is written")
    args = parser.parse_args()

    pipeline = dubcore.Pipeline(dubcore.Stt("micro/stt-en"), dubcore.Translator("micro/mt-en-es"), dubcore.Tts("micro/tts-es"))
    args.out.mkdir(parents=True, exist_ok=True)
    track = args.out / f"{args.media.stem}.{args.to}.wav"
    try:
        with pipeline.start(args.media, to=args.to, from_=args.from_, output=track) as run:
            while True:
                # A line that fails does not end the run: those behind it follow.
                try:
                    line = next(run)
                except StopIteration:
                    break
                except dubcore.Error as e:
                    print(f"   a line failed: {e}", file=sys.stderr)
                    continue
                print(f"{run.progress.fraction:4.0%} {line.start:7.2f} {line.source} -> {line.target}")
            made = run.finish()
    except dubcore.Error as e:
        print(f"{e.kind}: {e}\n{e.hint}", file=sys.stderr)
        return 1
    for file in made.save(args.out):
        print(file)
    return 0 if made.complete else 1


if __name__ == "__main__":
    sys.exit(main())
