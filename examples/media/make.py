#!/usr/bin/env python3
"""Makes the sample clips in this folder: station.mp4, kitchen.wav and their *.en.json.

    apt-get install flite ffmpeg        # Debian 12: flite 2.2, ffmpeg 5.1
    python3 examples/media/make.py      # standard library only; a few seconds

The sentences are chosen so that the bundled recogniser (models/micro/stt-en) gets each word right.
NAME.en.json lists what is spoken: start and end in seconds, voice, text.
"""

import json
import math
import subprocess
import sys
import tempfile
import wave
from array import array
from pathlib import Path

HERE = Path(__file__).resolve().parent
RATE = 16000  # what flite's voices speak at
SPEECH_DB = -20.0  # RMS of each sentence, dBFS
BED_DB = -50.0  # RMS of the music bed, dBFS

# Per clip: silence before the first sentence, then (voice, text, silence after it), in seconds.
STATION = (
    0.8,
    [
        ("slt", "I live here with my brother.", 0.7),
        ("rms", "It is a beautiful day.", 0.9),
        ("slt", "We are going to the city by train.", 0.8),
        ("rms", "What time does the train leave?", 0.7),
        ("slt", "The next train leaves in ten minutes.", 1.2),
        ("slt", "My sister is waiting for us at the station.", 0.8),
        ("slt", "She wants to show us her new house.", 0.7),
        ("rms", "We will have lunch with her.", 0.8),
        ("slt", "We will be back before dark.", 1.1),
        ("rms", "Do you want to come with us?", 0.7),
        ("slt", "I think you will like it.", 1.4),
    ],
)
KITCHEN = (
    0.6,
    [
        ("slt", "Can you help me in the kitchen?", 1.0),
        ("slt", "We have three apples and some milk.", 1.1),
        ("slt", "Put the water on the fire.", 1.0),
        ("slt", "Wait for ten minutes.", 0.9),
    ],
)


def ffmpeg(*args):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, args)], check=True)


def say(voice, text, tmp):
    """One sentence, its edge silences cut off, levelled to SPEECH_DB."""
    path = Path(tmp) / "say.wav"
    subprocess.run(["flite", "-voice", voice, "-t", text, "-o", path], check=True)
    with wave.open(str(path)) as w:
        if (w.getframerate(), w.getnchannels(), w.getsampwidth()) != (RATE, 1, 2):
            sys.exit(f"flite gave an unexpected format: {w.getparams()}")
        x = array("h", w.readframes(w.getnframes()))
    if sys.byteorder == "big":
        x.byteswap()
    # 10 ms frames; a frame is speech where its RMS is within 35 dB of the loudest one's.
    step = RATE // 100
    rms = [math.sqrt(sum(v * v for v in x[i : i + step]) / step) for i in range(0, len(x), step)]
    loud = [i for i, r in enumerate(rms) if r > max(rms) * 10 ** (-35 / 20)]
    x = x[loud[0] * step : (loud[-1] + 1) * step]
    gain = 32768 * 10 ** (SPEECH_DB / 20) / math.sqrt(sum(v * v for v in x) / len(x))
    gain = min(gain, 30000 / max(map(abs, x)))
    fade = RATE // 200
    return [v * gain * min(1, (i + 1) / fade, (len(x) - i) / fade) for i, v in enumerate(x)]


def speak(name, script, tmp):
    """Writes the speech track and NAME.en.json; gives the track's path and length."""
    lead, lines = script
    track = array("h", bytes(2 * round(lead * RATE)))
    spoken = []
    for voice, text, pause in lines:
        start = len(track) / RATE
        track.extend(round(v) for v in say(voice, text, tmp))
        spoken.append({"start": round(start, 3), "end": round(len(track) / RATE, 3), "voice": voice, "text": text})
        track.extend(array("h", bytes(2 * round(pause * RATE))))
    length = len(track) / RATE
    head = f'{{"language": "en", "duration": {round(length, 3)}, "segments": [\n  '
    (HERE / f"{name}.en.json").write_text(head + ",\n  ".join(map(json.dumps, spoken)) + "\n]}\n")
    if sys.byteorder == "big":
        track.byteswap()
    path = Path(tmp) / f"{name}.wav"
    with wave.open(str(path), "wb") as w:
        w.setparams((1, 2, RATE, 0, "NONE", ""))
        w.writeframes(track.tobytes())
    return path, length


def bed(length):
    """A soft chord, its notes swelling at their own slow pace: an aevalsrc source, one expression a side."""
    notes = [(130.81, 5.0), (196.00, 7.0), (261.63, 6.0), (329.63, 9.0), (392.00, 11.0)]
    # (1 + sin) / 2 has a mean square of 3/8, a sine 1/2.
    amp = 10 ** (BED_DB / 20) / math.sqrt(len(notes) * 3 / 8 / 2)
    side = lambda shift: "+".join(
        f"{amp:.6f}*(1+sin(2*PI*t/{swell}+{i + shift}))/2*sin(2*PI*{hz}*t+{i})"
        for i, (hz, swell) in enumerate(notes)
    )
    ends = f"afade=in:d=0.5,afade=out:st={length - 0.8:.3f}:d=0.8"
    return f"aevalsrc='{side(0)}|{side(1.5)}':s=44100:d={length:.3f},{ends}"


def picture(length):
    """A small train that crosses an evening sky."""
    source = "s=320x180:r=12"
    car = "color=0x2b3a55:s=48x20:r=12,drawbox=x=6:y=4:w=10:h=7:c=0xffe9a8:t=fill,"
    car += "drawbox=x=19:y=4:w=10:h=7:c=0xffe9a8:t=fill,drawbox=x=32:y=4:w=10:h=7:c=0xffe9a8:t=fill"
    sky = f"gradients={source}:c0=0x27406e:c1=0xf2a65a:x0=0:y0=0:x1=320:y1=180:n=2:seed=1:speed=0.002:d={length:.3f}"
    ground = "drawbox=x=0:y=150:w=320:h=30:c=0x2f4f3a:t=fill,drawbox=x=0:y=148:w=320:h=2:c=0x777777:t=fill"
    ride = "mod(t*36,480)-160"
    return (
        f"{sky},{ground}[p0];{car},split=3[c0][c1][c2];"
        f"[p0][c0]overlay=x='{ride}':y=127:shortest=1[p1];"
        f"[p1][c1]overlay=x='{ride}+51':y=127:shortest=1[p2];"
        f"[p2][c2]overlay=x='{ride}+102':y=127:shortest=1,format=yuv420p[v]"
    )


def main():
    with tempfile.TemporaryDirectory() as tmp:
        exact = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"]
        speech, _ = speak("kitchen", KITCHEN, tmp)
        ffmpeg("-i", speech, "-ar", "22050", "-c:a", "pcm_s16le", *exact, HERE / "kitchen.wav")

        speech, length = speak("station", STATION, tmp)
        # normalize=0 keeps both levels; a mono track panned so keeps its level on each side.
        sound = (
            f"[0:a]aresample=44100,pan=stereo|c0=c0|c1=c0[s];{bed(length)}[b];"
            "[s][b]amix=inputs=2:duration=first:normalize=0[a]"
        )
        ffmpeg(
            *["-i", speech, "-filter_complex", f"{sound};{picture(length)}", "-map", "[v]", "-map", "[a]"],
            *["-c:v", "libx264", "-preset", "veryslow", "-crf", "30", "-g", "120", "-threads", "1"],
            *["-c:a", "aac", "-b:a", "96k", "-metadata:s:a:0", "language=eng"],
            *["-t", f"{length:.3f}", *exact, "-movflags", "+faststart", HERE / "station.mp4"],
        )
    for path in sorted(HERE.iterdir()):
        print(f"{path.stat().st_size:8} {path.name}")


if __name__ == "__main__":
    main()
