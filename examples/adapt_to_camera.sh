#!/usr/bin/env bash
# Adapts the shipped model to your own camera: label, train, compare, export.
# bash examples/adapt_to_camera.sh OUT VIDEO [VIDEO ...]
# Of several videos some are kept for validation, of a single one its end. To try it in a few minutes on the sample clip:
# STEPS=20 FRAMES=60 bash examples/adapt_to_camera.sh adapted examples/vtest-10s.avi
set -euo pipefail
out=${1:?give a folder to write to, then your videos}
shift
video=${1:?give at least one video}
frames=${FRAMES:-400}
mkdir -p "$out"
stm-skeletons init edge --from edge --out "$out/edge.safetensors"

# 1. A teacher labels the footage. Look at the contact sheets (labels/*.jpg): what they show wrongly is learnt.
if [ $# -gt 1 ]; then
    stm-skeletons label "$@" --out "$out/labels" --max-frames "$frames"
else
    stm-skeletons label "$video" --out "$out/labels/train" --max-frames "$frames"
    stm-skeletons label "$video" --out "$out/labels/val" --first-frame "$frames" --max-frames "$frames"
fi

# 2. Train. Ctrl-C writes a checkpoint; the same command with --resume continues.
cat > "$out/camera.toml" << TOML
like = "edge-footage"
title = "edge on our camera"
[optimiser]
length = "${STEPS:-500} steps"
TOML
stm-skeletons train "$out/camera.toml" --data footage="$out/labels" --init "$out/edge.safetensors" --out "$out/runs"
trained=$out/runs/camera/seed0/weights.safetensors

# 3. Compare before and after on the videos kept for validation. Agreement with the teacher, not with the truth.
stm-skeletons eval "$out/edge.safetensors" "$trained" --data footage="$out/labels"

# 4. Export, and look at it.
stm-skeletons export "$trained" --out "$out/bundle"
stm-skeletons run "$video" --model "$out/bundle" --overlay "$out/overlay.mp4" --max-frames 100 --force
echo "done: $out/bundle and $out/overlay.mp4; contact sheets of the labels: $out/labels"
