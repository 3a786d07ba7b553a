#!/bin/bash
# Trains a model, stt or mt, or both one after the other, on a machine with one GPU, sixteen cores and no network.
#   gpu.sh start KIT SECONDS MODEL    unpacks, begins to train (and to speak), returns at once; it all ends after SECONDS;
#                                     of both, mt has the first three tenths, while the sentences for stt are spoken
#   gpu.sh finish SECONDS OUT         moves the end, waits for it, collects
#   gpu.sh collect OUT                copies the newest weights, in parts below 16 MB, and the logs
set -u
HERE=$(dirname "$(realpath "$0")")
WORK=${WORK:-/tmp/dubcore-train}
export LD_LIBRARY_PATH=$WORK/kit/lib PATH=$WORK/kit/bin:$PATH ESPEAK_DATA=$WORK/kit/share RHVOICE_DATA=$WORK/kit/share/RHVoice RHVOICE_CONFIG=$WORK/kit/share/RHVoice-config
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TOKENIZERS_PARALLELISM=false PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
PYTHON=${PYTHON:-python3}

collect() {
    mkdir -p "$1"
    for name in stt mt; do
        [ -f "$WORK/$name.safetensors" ] && split -b 15000000 "$WORK/$name.safetensors" "$1/$name.part."
    done
    cp "$WORK/stt-head.safetensors" "$1/" 2> /dev/null
    tar czf "$1/logs.tgz" -C "$WORK" logs
    ls -la "$1"
}

report() {
    for log in "$WORK"/logs/{stt,mt,speech00}.log; do [ -f "$log" ] && { echo "== $log"; grep -v '^     ' "$log" | tail -n 8; }; done
}

case $1 in
start)
    kit=$(realpath "$2")
    mkdir -p "$WORK/corpus" "$WORK/logs"
    xz -dkc "$kit/train.tsv.xz" > "$WORK/train.tsv"
    echo $(($(date +%s) + $3)) > "$WORK/end"
    if [ "$4" != stt ]; then
        until=(--end "$WORK/end")
        [ "$4" = both ] && until=(--minutes "$(awk "BEGIN { print $3 * 0.29 / 60 }")")
        OMP_NUM_THREADS=2 setsid $PYTHON "$HERE/translate.py" --pairs "$WORK/train.tsv" --from "$HERE/../micro/mt-en-es" --out "$WORK/mt.safetensors" \
            --dev "$kit/dev.tsv" "${until[@]}" ${MT_ARGS:-} > "$WORK/logs/mt.log" 2>&1 < /dev/null &
        echo $! >> "$WORK/pids"
        [ "$4" = mt ] && exit
        # stt.py waits so long at most
        STT_ARGS="${STT_ARGS:-} --wait 100000000"
    fi
    tar xJf "$kit/engines.tar.xz" -C "$WORK"
    [ -e /usr/share/festival ] || ln -s "$WORK/kit/share/festival" /usr/share/festival
    [ -e /usr/share/pico/lang ] || { mkdir -p /usr/share/pico && ln -s "$WORK/kit/share/pico" /usr/share/pico/lang; }
    workers=${WORKERS:-12}
    for w in $(seq 0 $((workers - 1))); do
        OMP_NUM_THREADS=1 setsid $PYTHON "$HERE/speech.py" --text "$WORK/train.tsv" --out "$WORK/corpus" --worker $w --workers $workers --passes 100 --sounds "${SOUNDS:-1200}" \
            > "$WORK/logs/speech$(printf %02d $w).log" 2>&1 < /dev/null &
        echo $! >> "$WORK/pids"
    done
    OMP_NUM_THREADS=2 setsid $PYTHON "$HERE/stt.py" --corpus "$WORK/corpus" --from "$HERE/../micro/stt-en" --head "$HERE/head.safetensors" --out "$WORK/stt.safetensors" \
        --monitor "$kit/monitor.npz" --end "$WORK/end" --bank 110000000 ${STT_ARGS:-} > "$WORK/logs/stt.log" 2>&1 < /dev/null &
    echo $! >> "$WORK/pids"
    ;;
finish)
    echo $(($(date +%s) + $2)) > "$WORK/end"
    for _ in $(seq $(($2 + 8))); do grep -qs '^DONE' "$(ls "$WORK"/logs/stt.log 2> /dev/null || echo "$WORK/logs/mt.log")" && break; sleep 1; done
    sleep "${SETTLE:-3}"
    report
    collect "$3"
    while read -r pid; do kill -- "-$pid" 2>/dev/null; done < "$WORK/pids"
    ;;
collect) report; collect "$2" ;;
*) sed -n 2,6p "$0" ;;
esac
