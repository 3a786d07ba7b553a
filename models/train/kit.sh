#!/bin/bash
# Gathers the synthesisers of this machine for one without a network: kit.sh OUT writes OUT/engines.tar.xz, for gpu.sh.
# Needs gcc, binutils and the Debian packages of the README; the other machine a C library and a C++ library as new as theirs.
set -euo pipefail
OUT=$(realpath "$1") SYSTEM=/usr/lib/x86_64-linux-gnu
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
KIT=$WORK/kit
mkdir -p "$KIT"/{lib,bin,share/RHVoice/voices,share/pico}

for name in espeak-ng.so.1 flite.so.1 flite_usenglish.so.1 flite_cmulex.so.1 flite_cmu_us_{slt,rms,awb,kal16}.so.1 ttspico.so.0 \
    RHVoice.so.5 RHVoice_core.so.10 estools.so.2.5 estbase.so.2.5 eststring.so.2.5 sonic.so.0 popt.so.0 asound.so.2; do
    cp -L "$SYSTEM/lib$name" "$KIT/lib/"
done
cp "$(command -v pico2wave)" "$(command -v festival)" "$KIT/bin/"
strip --strip-unneeded "$KIT"/lib/* "$KIT"/bin/*

cp -r "$SYSTEM/espeak-ng-data" "$KIT/share/"
find "$KIT/share/espeak-ng-data" -name '*_dict' ! -name en_dict -delete
cp -r /usr/share/RHVoice/languages "$KIT/share/RHVoice/"
find "$KIT/share/RHVoice/languages" -mindepth 1 -maxdepth 1 ! -name English -exec rm -r {} +
for voice in alan clb slt; do
    cp -r "/usr/share/RHVoice/voices/$voice" "$KIT/share/RHVoice/voices/"
    rm -rf "$KIT/share/RHVoice/voices/$voice/16000"
done
cp -r /etc/RHVoice "$KIT/share/RHVoice-config"
cp /usr/share/pico/lang/en-* "$KIT/share/pico/"
cp -r /usr/share/festival "$KIT/share/"
find "$KIT/share/festival/voices" -mindepth 2 -maxdepth 2 ! -name kal_diphone -exec rm -r {} +

# Libraries that play sound, which nobody does here: the same symbols, of the same version, that do nothing.
silent() { # NAME PATTERN [VERSION]
    objdump -T "$KIT"/lib/lib{est,espeak}* "$KIT/bin/festival" | awk -v p="^$2" '/UND/ && $NF ~ p { print $NF }' | sort -u |
        sed 's/.*/int &() { return 0; }/' > "$WORK/silent.c"
    echo "${3:-} { global: *; };" > "$WORK/silent.map"
    gcc -shared -fPIC -nostdlib -Wl,--version-script="$WORK/silent.map" -Wl,-soname,"$1" -o "$KIT/lib/$1" "$WORK/silent.c"
}
silent libpulse-simple.so.0 pa_simple PULSE_0
silent libpcaudio.so.0 '(audio_object|create_audio)'

tar c -C "$WORK" kit | xz -T0 > "$OUT/engines.tar.xz"
ls -la "$OUT/engines.tar.xz"
