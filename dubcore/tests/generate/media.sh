#!/bin/sh
# Makes the clips under tests/fixtures/media with ffmpeg and python3. The tests do not run this: the clips are committed.
# The signal is written down twice, here and as `signal()` in tests/media.rs; keep the two the same.
set -eu
cd "$(dirname "$0")/../fixtures/media"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 - "$work" <<'PY'
import math, struct, sys, wave
rate, n = 44100, 44541
def value(i):
    t = i / rate
    fade = min(1.0, t / 0.02)
    s = 0.4 * math.sin(2 * math.pi * (200 * t + 900 * t * t)) + 0.2 * math.sin(2 * math.pi * 440 * t)
    return math.floor(fade * s * 32767 + 0.5)
for name, channels in (("mono", 1), ("stereo", 2)):
    with wave.open(f"{sys.argv[1]}/{name}.wav", "wb") as w:
        w.setnchannels(channels); w.setsampwidth(2); w.setframerate(rate)
        # The right channel is half the left, so that a mix that forgets a channel shows.
        w.writeframes(b"".join(struct.pack("<h", v) if channels == 1 else struct.pack("<hh", v, v // 2)
                               for v in map(value, range(n))))
PY

mono="$work/mono.wav"
stereo="$work/stereo.wav"
ff() { ffmpeg -v error -y -fflags +bitexact "$@"; }
bits="-flags:a +bitexact -flags:v +bitexact -map_metadata -1"
video="-f lavfi -i color=c=black:s=16x16:r=5:d=1"

ff -i "$stereo" $bits -c:a libmp3lame -b:a 96k tone.mp3
ff -i "$mono"   $bits -c:a libmp3lame -b:a 64k -write_xing 0 -id3v2_version 0 bare.mp3
ff -i "$mono"   $bits -c:a flac -compression_level 12 tone.flac
ff -i "$stereo" $bits -c:a libvorbis -q:a 3 tone.ogg
ff -i "$stereo" $bits -c:a aac -b:a 96k tone.m4a
ff -i "$mono"   $bits -c:a aac -b:a 64k -f adts tone.aac
ff $video -i "$mono" $bits -map 0:v -map 1:a -c:v mpeg4 -c:a aac -b:a 64k tone.mp4
ff $video -i "$mono" $bits -map 0:v -map 1:a -c:v mpeg4 -c:a aac -b:a 64k -movflags frag_keyframe+empty_moov fragmented.mp4
ff $video -i "$mono" $bits -map 0:v -map 1:a -c:v mpeg4 -c:a aac -b:a 64k tone.mov
# The same, with the sound beginning a quarter of a second after the picture.
ff $video -itsoffset 0.25 -i "$mono" $bits -map 0:v -map 1:a -c:v mpeg4 -c:a aac -b:a 64k late.mp4
ff $video -itsoffset 0.25 -i "$mono" $bits -map 0:v -map 1:a -c:v mpeg4 -c:a libvorbis -q:a 3 late.mkv
ff $video -i "$mono" $bits -map 0:v -map 1:a -c:v mpeg4 -c:a aac -b:a 64k aac.mkv
ff -i "$mono"   $bits -c:a libvorbis -q:a 3 vorbis.mkv
ff -i "$mono"   $bits -c:a flac -compression_level 12 flac.mkv
ff -i "$mono"   $bits -c:a libmp3lame -b:a 64k mp3.mkv
ff -i "$mono"   $bits -c:a libvorbis -q:a 3 tone.webm
ff -i "$mono"   $bits -c:a libopus -b:a 32k opus.webm
ff -i "$mono"   $bits -c:a ac3 -b:a 64k ac3.mp4
ff -i "$mono"   $bits -c:a ac3 -b:a 64k ac3.mkv
ff -i "$mono"   $bits -c:a alac -t 0.2 alac.m4a
ff $video $bits -c:v mpeg4 silent.mp4
ls -l
