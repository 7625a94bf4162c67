#!/bin/sh
# Builds one fuzz target and runs it.
#
# Usage: Tests/Fuzz/run.sh TARGET SECONDS [CORPUS FOLDER...]
#   TARGET           FuzzSafetensors, FuzzIndex, FuzzJSON, FuzzGGUF, FuzzArchive: a folder of Tests/Fuzz/Sources
#   SECONDS          how long to run, quietly; 0 runs until something is found or Ctrl-C, and shows its progress
#   CORPUS FOLDER    inputs to start from; Fixtures/malformed and Fixtures/golden unless given
#
# New inputs are kept in Tests/Fuzz/.build/corpus/TARGET, so that the next run goes on from them. What crashes, leaks,
# takes more than 10 s or more than 512 MB is written to Tests/Fuzz/.build/finds/TARGET, and the exit status is not 0.
set -eu

if [ $# -lt 2 ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 64
fi
target=$1
seconds=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
fixtures=$here/../../Fixtures
[ $# -gt 0 ] || set -- "$fixtures/malformed" "$fixtures/golden"
if [ "$seconds" = 0 ]; then noise="-verbosity=1"; else noise="-verbosity=0 -print_funcs=0"; fi

swift build --package-path "$here" -c release --product "$target" -Xswiftc -sanitize=fuzzer,address
corpus=$here/.build/corpus/$target
finds=$here/.build/finds/$target
mkdir -p "$corpus" "$finds"
echo "$target: started with a limit of $seconds s (0 is none)"
status=0
"$here/.build/release/$target" -max_total_time="$seconds" -rss_limit_mb=512 -timeout=10 \
  -artifact_prefix="$finds/" -print_final_stats=1 $noise "$corpus" "$@" || status=$?
if [ $status -ne 0 ]; then
  # The newest file, unless the run failed for another reason.
  find=$(ls -t "$finds" | head -n 1)
  echo "$target: failed with exit status $status; the input that it found: ${find:+$finds/}${find:-none}" >&2
  echo "run it alone: $here/.build/release/$target ${find:+$finds/$find}" >&2
  exit "$status"
fi
echo "$target: nothing found"
