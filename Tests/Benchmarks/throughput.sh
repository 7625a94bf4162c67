#!/usr/bin/env bash
# How fast conversions are, compared with hashing their source: two files of 0.7 GB in BF16, copied as they are and converted to F16, F32,
# Q8_0 and Q4_0, against `openssl dgst -sha256` of the same files, one process for each. Both sides take turns, and medians count.
#
#   rate   openssl's time divided by the conversion's: 1 is as fast as hashing the source once on two cores.
#   work   the same for processor time, user plus system, over all threads: the ratio if no core ever waited.
#
# Other load on the machine affects `work` less than `rate`. `cp, then openssl` is copying and SHA-256 by separate
# programs.
#
# Usage: Tests/Benchmarks/throughput.sh [DIRECTORY] [ROUNDS]
#
# DIRECTORY needs 6 GB of space; in /dev/shm there is no device to wait for. BASELINE=DIR measures the tools of another build
# in the same rounds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rounds=${2:-5}
swift build --package-path "$here/../.." -c release
tools=$here/../../.build/release

work=$(mktemp -d -p "${1:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$work"' EXIT
"$tools/checkpoint-generator" slice "$work/slice" --layers 1
"$tools/step3-convert" "$work/slice" "$work/source" --to safetensors --max-shard-size 750MB --progress none 2>"$work/log" >&2 ||
  { cat "$work/log" >&2; exit 1; }
rm -rf "$work/slice"
files=("$work"/source/*.safetensors)
[ ${#files[@]} = 2 ]

# Runs a command and records its elapsed and processor time: NAME, then the command.
measured() {
  local name=$1
  shift
  /usr/bin/time -o "$work/time" -f '%e %U %S' "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  awk -v name="$name" '{ printf "%s\t%s\t%s\n", name, $1, $2 + $3 }' "$work/time" >>"$work/times"
}
hash_both() {
  # shellcheck disable=SC2016 # the inner shell expands these
  measured "$1" bash -c 'openssl dgst -sha256 "$1" & openssl dgst -sha256 "$2"; wait $!' - "${files[@]}"
}
convert() {
  local name=$1 build=$2
  shift 2
  rm -rf "$work/out"
  measured "$name" "$build/step3-convert" "$work/source" "$work/out" --progress none "$@"
  rm -rf "$work/out"
}

builds=("$tools")
[ -z "${BASELINE:-}" ] || builds+=("$BASELINE")
jobs=(
  "copy|--to safetensors --max-shard-size 750MB"
  "F16|--to safetensors --quantize F16 --max-shard-size 750MB"
  "F32|--to safetensors --quantize F32 --max-shard-size 1500MB"
  "Q8_0|--to gguf --quantize Q8_0"
  "Q4_0|--to gguf --quantize Q4_0"
)
for round in $(seq "$rounds"); do
  measured "cp" cp -r "$work/source" "$work/out"
  rm -rf "$work/out"
  for job in "${jobs[@]}"; do
    read -ra options <<<"${job#*|}"
    for threads in 1 2; do
      hash_both "openssl"
      # The first to run may have to wait for memory that a virtual machine has given back.
      order=("${!builds[@]}")
      if ((round % 2 == 0 && ${#order[@]} > 1)); then order=(1 0); fi
      for build in "${order[@]}"; do
        convert "${job%%|*}, $threads|$build" "${builds[build]}" --threads "$threads" "${options[@]}"
      done
    done
  done
done

python3 - "$work/times" <<'PYTHON'
import collections, statistics, sys
times = collections.defaultdict(list)
for line in open(sys.argv[1]):
    name, *seconds = line.rstrip("\n").split("\t")
    times[name].append([float(second) for second in seconds])
medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in times.items()}
hashing, copying = medians.pop("openssl"), medians.pop("cp")
def row(name, build, wall, processor):
    print(f"{name:20}{build:10}{wall:8.2f} s {processor:8.2f} s {hashing[0] / wall:8.2f} {hashing[1] / processor:8.2f}")
print(f"{'job, threads':20}{'':10}{'time':>8}   {'processor':>9} {'rate':>9} {'work':>8}")
row("openssl, 2 processes", "", *hashing)
row("cp, then openssl", "", hashing[0] + copying[0], hashing[1] + copying[1])
for name, seconds in medians.items():
    job, build = name.split("|")
    row(job, "" if build == "0" else "baseline", *seconds)
PYTHON
