#!/usr/bin/env bash
# The cost of GPTQ at Step-3's full width, beside the forward pass of the same run: a dense layer and one of four routed experts,
# random weights and random tokens, W4A16. Every expert is chosen by three quarters of the tokens: 8192 tokens give 6144 to each,
# about as many as 100,000 tokens give to each of 48.
#
# Usage: Tests/Benchmarks/calibration.sh [experts|linear] [TOKENS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scope=${1:-experts}
tokens=${2:-8192}
swift build --package-path "$here/../.." -c release
tools=$here/../../.build/release

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$tools/checkpoint-generator" slice "$work/slice" --layers 2 --experts 4
python3 - "$tokens" >"$work/tokens.json" <<'PYTHON'
import json, random, sys
random.seed(1)
print(json.dumps([[random.randrange(8192) for _ in range(512)] for _ in range(int(sys.argv[1]) // 512)]))
PYTHON
/usr/bin/time -v "$tools/step3-convert" "$work/slice" "$work/out" --to safetensors --quantize W4A16 --scope "$scope" \
  --method gptq --calibration-tokens "$work/tokens.json" --memory 8GiB --json --progress none \
  >"$work/out.json" 2>"$work/time" || { cat "$work/time" >&2; exit 1; }
python3 - "$work/out.json" <<'PYTHON'
import json, sys
summary = json.load(open(sys.argv[1]))
times = summary["calibrationSeconds"]
forward = times.pop("forwardPass")
print(f"forward pass {forward:.1f} s; " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in sorted(times.items())))
print(f"GPTQ {sum(times.values()) / forward:.2f} times the forward pass; {len(summary['roundedToNearest'])} matrices rounded to nearest")
PYTHON
grep -E 'Elapsed|Maximum resident' "$work/time"
