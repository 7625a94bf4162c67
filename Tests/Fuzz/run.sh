#!/bin/sh
# Builds one fuzz target and runs it.
#
# Usage: Tests/Fuzz/run.sh TARGET SECONDS [CORPUS FOLDER...]
#   TARGET           FuzzSafetensors, FuzzIndex, ...: a folder of Tests/Fuzz/Sources
#   SECONDS          how long to run; 0 runs until something is found or Ctrl-C
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

cd "$here"
swift build -c release --product "$target" -Xswiftc -sanitize=fuzzer,address
corpus=$here/.build/corpus/$target
finds=$here/.build/finds/$target
mkdir -p "$corpus" "$finds"
exec "$here/.build/release/$target" -max_total_time="$seconds" -rss_limit_mb=512 -timeout=10 \
  -artifact_prefix="$finds/" -print_final_stats=1 "$corpus" "$@"
