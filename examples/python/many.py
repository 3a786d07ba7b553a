"""Dubs many files at once, as a service would: a few at a time, each within its deadline, tried again where that may help.

    python examples/python/many.py out/ examples/media/*.wav examples/media/*.mp4
"""

import asyncio
import sys
from pathlib import Path

import dubcore

AT_ONCE = 2
TRIES = 3


async def dub(media: Path, out: Path, turn: asyncio.Semaphore) -> dubcore.Dub:
    async with turn:
        for wait in range(TRIES - 1):
            try:
                return await dubcore.adub(media, to="es", out=out / media.stem, timeout=600)
            except dubcore.Error as e:
                if not e.retryable:
                    raise
            await asyncio.sleep(2.0**wait)
        return await dubcore.adub(media, to="es", out=out / media.stem, timeout=600)


async def main(out: Path, files: list[Path]) -> int:
    # Before the first request, so that it does not wait for the models.
    loaded = await dubcore.Factory.default().apreload(["micro/stt-en", "micro/mt-en-es", "micro/tts-es"], warm=True)
    for model, error in loaded.items():
        if error is not None:
            print(f"{model} cannot be loaded: {error}", file=sys.stderr)
            return 1
    turn = asyncio.Semaphore(AT_ONCE)
    found = await asyncio.gather(*(dub(media, out, turn) for media in files), return_exceptions=True)
    for media, made in zip(files, found, strict=True):
        match made:
            case dubcore.Dub():
                print(f"{media}: {len(made.lines)} lines, {made.report['real_time_factor']:.2f} of its length")
            case dubcore.Error():
                print(f"{media}: {made.kind}: {made}", file=sys.stderr)
            case _:
                raise made
    return 0 if all(isinstance(made, dubcore.Dub) for made in found) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), [Path(file) for file in sys.argv[2:]])))
