#!/bin/bash
# Runs the checklist of docs/gpu-checklist.md on this machine's GPU, the most informative steps first.
#
# Environment variables:
#   PY, STM    commands of Python and stm-skeletons, possibly of several words
#   PYTORCH    command of a Python that has PyTorch and onnxruntime-gpu
#   BUNDLES    folder of more bundles (NAME/), bundles for the tests (tests/) and weights for PyTorch (NAME.safetensors)
#   OUT        folder of the results
#   WITHIN     seconds for all steps together
set -uo pipefail
out=$(realpath -m "${OUT:-checklist}") bundles=$(realpath -m "${BUNDLES:-none}") within=${WITHIN:-240}
mkdir -p "$out" && cd "$(dirname "$0")/../.." || exit 2
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 COLUMNS=120
read -ra py <<< "${PY:-python3}"
read -ra stm <<< "${STM:-stm-skeletons}"
read -ra torch <<< "${PYTORCH:-}"
for other in "${py[*]}" python3; do
  [ ${#torch[@]} -eq 0 ] && $other -c 'import torch' 2> /dev/null && read -ra torch <<< "$other"
done
clip=examples/vtest-10s.avi cut=$(mktemp -d) bad=0
trap 'rm -rf "$cut"' EXIT
rm -f "$out"/*-{cpu,gpu,no-graphs,nsys}.jsonl "$out/cut.jsonl" "$out/steps.txt"

# NAME SHARE COMMAND...: runs a command for at most SHARE % of WITHIN; its output is in NAME.txt. Goes on if it fails.
step() {
  local name=$1 limit=$((within * $2 / 100)) left=$((within - SECONDS)) start=$SECONDS code=none
  shift 2
  ((left < limit)) && limit=$left
  if ((limit >= 3)); then
    timeout -k 20 "$limit" "$@" > "$out/$name.txt" 2>&1
    code=$?
  else
    echo "not started: all $within seconds are used up; raise WITHIN" > "$out/$name.txt"
  fi
  [ "$code" = 0 ] || bad=$((bad + 1))
  printf '%-24s code %-4s %4d s\n' "$name" "$code" $((SECONDS - start)) | tee -a "$out/steps.txt"
  tail -n 3 "$out/$name.txt" | cut -c1-300 | sed 's/^/    /'
}

# NAME MODEL FOLDER: all steps for one bundle. Its engines stay inside it, so a second run need not build them.
measure() {
  local name=$1 model=$2 folder=$3 gpu=(--model "$2" --backend tensorrt)
  local run=("${stm[@]}" run "$clip" --force --max-frames 100)
  grep -q '"variant": "edge"' "$folder/bundle.json" || run[-1]=30 # resnet50 is too slow on a CPU
  step "$name-build" 60 "${stm[@]}" build "$model" --target native --unless-fitting
  cp "$folder/engines/native/engines.json" "$out/$name-engines.json" 2> /dev/null
  step "$name-cpu" 20 "${run[@]}" --model "$model" --parts "$out/$name-cpu.jsonl"
  step "$name-gpu" 20 "${run[@]}" "${gpu[@]}" --parts "$out/$name-gpu.jsonl"
  step "$name-same-parts" 5 "${py[@]}" tests/gpu/compare_parts.py "$out/$name-cpu.jsonl" "$out/$name-gpu.jsonl" \
    "$(grep -q '"precision": "fp16"' "$folder/bundle.json" && echo fp16 || echo fp32)"
  step "$name-no-graphs" 20 "${run[@]}" "${gpu[@]}" --no-cuda-graphs --parts "$out/$name-no-graphs.jsonl"
  step "$name-same-bits" 5 cmp "$out/$name-gpu.jsonl" "$out/$name-no-graphs.jsonl"
  step "$name-calls" 10 "${py[@]}" tests/gpu/count_calls.py "$model" $clip
  local streams=()
  grep -q '"batch": 1,' "$folder/bundle.json" || ! grep -q '"batch"' "$folder/bundle.json" || streams=(--streams 4)
  step "$name-bench" 20 "${stm[@]}" bench $clip "${gpu[@]}" --frames 300 "${streams[@]}" --out "$out/$name-bench"
}

step machine 5 bash -c 'uname -a; git rev-parse HEAD; "$@" -m pip freeze; nvidia-smi; true' machine "${py[@]}"
step doctor 10 "${stm[@]}" doctor
step gpu 5 "${py[@]}" -c 'import pycuda.driver as cuda, tensorrt as trt
cuda.init(); print(trt.__version__, cuda.Device(0).name(), trt.Builder(trt.Logger()))'
edge=$("${py[@]}" -c 'from stm_skeletons.bundle import Bundle; print(Bundle.open("edge").folder)')
measure edge edge "$edge"

cp -r "$edge/engines/native" "$cut/" 2> /dev/null && truncate -s 1000 "$cut/native/read_decoder.engine"
# shellcheck disable=SC2016 # the inner bash expands it
step edge-cut-engine 5 bash -c '"$@" 2>&1 | tee /dev/stderr | grep -q "differs from the built engine"' refused \
  "${stm[@]}" run $clip --backend tensorrt --engines "$cut" --parts "$out/cut.jsonl" --force
if command -v nsys > /dev/null; then
  step edge-nsys 20 nsys profile --trace cuda --stats true --force-overwrite true -o "$out/edge-nsys" \
    "${stm[@]}" run $clip --backend tensorrt --parts "$out/edge-nsys.jsonl" --force
fi

arms=("edge,backend=tensorrt" "edge,backend=tensorrt,cuda_graphs=no")
for file in "$bundles"/*/bundle.json; do
  [ -e "$file" ] || continue
  folder=$(dirname "$file")
  measure "$(basename "$folder")" "$folder" "$folder"
  arms+=("$folder,backend=tensorrt")
done
step in-turn 20 "${stm[@]}" bench compare $clip "${arms[@]}" --frames 200 --out "$out/in-turn"

# Without a GPU the tests would run, and pass, on the simulated driver.
if grep -q '^gpu  *code 0' "$out/steps.txt"; then
  for file in "$bundles"/tests/*/bundle.json; do
    [ -e "$file" ] || continue
    export STM_SKELETONS_GPU_BUNDLES=$bundles/tests
    folder=$(dirname "$file")
    step "tests-build-$(basename "$folder")" 30 "${stm[@]}" build "$folder" --target native --unless-fitting
  done
  step tests 100 "${py[@]}" -m pytest -q -m "gpu and not slow" tests/gpu -p no:cacheprovider
else
  echo "no tests: no GPU answers"
fi

[ ${#torch[@]} -gt 0 ] || echo "PyTorch and ONNX Runtime on the GPU: skipped, no Python with torch found; set PYTORCH"
for weights in "$bundles"/*.safetensors; do
  [ -e "$weights" ] && [ ${#torch[@]} -gt 0 ] || continue
  name=$(basename "$weights" .safetensors) every=5
  [ "$name" = edge ] && every=1
  step "$name-pytorch" 20 "${torch[@]}" -m stm_skeletons bench compare $clip edge \
    "eager:$weights,device=cuda,every=$every" --frames 200 --out "$out/$name-pytorch"
done
[ ${#torch[@]} -eq 0 ] || step edge-onnxruntime-cuda 20 "${torch[@]}" -m stm_skeletons bench $clip --provider cuda \
  --frames 300 --out "$out/edge-onnxruntime-cuda"

for file in "$out"/*/{report,compare}.json; do
  [ -e "$file" ] && cp "$file" "$out/$(basename "$(dirname "$file")").json"
done
echo
cat "$out/steps.txt"
echo "$bad of $(wc -l < "$out/steps.txt") steps failed in $SECONDS s; their output is in $out"
((bad == 0))
