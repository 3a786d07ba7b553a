"""Writes the parity fixtures: `generate.py [group ...] [--micro DIR]`, all groups by default.

The Rust tests read what this leaves under `tests/fixtures` and need neither Python nor a network. Run it again only when
a case is added or the reference version in `requirements.txt` is raised, and review the difference.
"""

import argparse
import importlib
from pathlib import Path

from common import FIXTURES, MICRO

GROUPS = {
    "whisper": "whisper",
    "marian": "marian",
    "logmel": "logmel",
    "vits": "vits",
    "sentencepiece": "sentencepiece_lines",
    "whisper-rules": "whisper_rules",
    "micro": "micro",
    "windows": "windows",
    "vad": "vad",
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("groups", nargs="*", default=list(GROUPS), metavar="group", help=", ".join(GROUPS))
parser.add_argument("--micro", type=Path, default=MICRO, help="folder of the bundled micro models")
arguments = parser.parse_args()
if unknown := set(arguments.groups) - set(GROUPS):
    parser.error(f"no such group: {', '.join(sorted(unknown))}")

for group in arguments.groups:
    importlib.import_module(GROUPS[group]).generate(arguments.micro)
    files = [f for f in (FIXTURES / group).rglob("*") if f.is_file()]
    for file in files:
        # safetensors writes files that only their owner can read.
        file.chmod(0o644)
    print(f"{group}: {sum(f.stat().st_size for f in files) / 1024:.0f} KiB")
