#!/usr/bin/env bash
# Trains the weights of edge on one large GPU within a given time. Needs no internet access.
#
#   training/on_gpu.sh START.safetensors COCO_FOLDER OUT [MINUTES]
#
# START comes from "stm-skeletons init edge --from movenet-multipose.onnx". Each of the three stages of the recipe "edge"
# gets a share of the time. A short probe run measures how many steps fit. Writes OUT/weights.safetensors.
# Environment variables: STM (the command), ACCELERATOR, PRECISION, BATCH (sequences per step), WORKERS.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,/^set/p' "$0" | grep '^#' >&2
    exit 2
fi
start=$1 data=$2 out=$3 minutes=${4:-10}
stm=${STM:-stm-skeletons} batch=${BATCH:-16}
options=(--accelerator "${ACCELERATOR:-cuda}" --precision "${PRECISION:-32-true}")
options+=(--workers "${WORKERS:-$(($(nproc) - 1))}" --checkpoint-every 50 --data "coco=$data")
mkdir -p "$out"

recipe() { # NAME LIKE BATCH STEPS: writes a recipe like LIKE that does not train other recipes first
    local validate=$(($4 > 100 ? $4 : 100))
    cat > "$out/$1.toml" << TOML
like = "$2"
title = "$2, on one GPU"
after = []

[optimiser]
batch = $3
length = "$4 steps"

[validation]
every = $validate
sequences = 20
TOML
}

stage() { # LIKE BATCH SHARE WEIGHTS: trains for SHARE percent of the time
    local like=$1 size=$2 seconds=$((minutes * 60 * $3 / 100)) weights=$4
    recipe "$like-probe" "$like" "$size" 20
    $stm train "$out/$like-probe.toml" --init "$weights" --out "$out" "${options[@]}"
    local probe="$out/$like-probe/seed0/log.csv"
    # Time of the last ten steps of the probe, after warm-up. The time for validation is not included.
    local steps
    steps=$(awk -F, -v left="$seconds" '$3 != "" {before = last; last = $7}
        END {steps = int((left - last) / ((last - before) / 10)); print steps < 20 ? 20 : steps}' "$probe")
    echo "== $like: $steps steps with $size sequences each in $seconds s"
    recipe "$like-gpu" "$like" "$size" "$steps"
    $stm train "$out/$like-gpu.toml" --init "$weights" --out "$out" "${options[@]}"
}

stage edge-short $((4 * batch)) 25 "$start"
stage edge-long "$batch" 50 "$out/edge-short-gpu/seed0/weights.safetensors"
stage edge $((4 * batch)) 25 "$out/edge-long-gpu/seed0/weights.safetensors"
cp "$out/edge-gpu/seed0/weights.safetensors" "$out/weights.safetensors"
echo "wrote $out/weights.safetensors"
