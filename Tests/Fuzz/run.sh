#!/bin/sh
# Builds one fuzz target and runs it.
#
# Usage: Tests/Fuzz/run.sh TARGET SECONDS [FOLDER OF INPUTS...]
#        Tests/Fuzz/run.sh --all SECONDS          every target, as many at a time as there are cores
#        Tests/Fuzz/run.sh --keep TARGET          saves the inputs that runs have found useful to Tests/Fuzz/Corpora
#
#   TARGET    a folder of Tests/Fuzz, for example FuzzGGUF
#   SECONDS   how long to run, quietly; 0 runs until a find or Ctrl-C, and shows progress
#
# A run starts from Tests/Fuzz/Corpora/TARGET.tar.gz, the fixtures of that kind, and the inputs of earlier runs in
# Tests/Fuzz/.build/corpus/TARGET. An input that crashes, leaks, takes more than 10 s or more than 512 MB is written to
# Tests/Fuzz/.build/finds/TARGET, and the exit status is not 0.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
fixtures=$here/../../Fixtures
built=$here/.build/release

usage() {
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 64
}

build() {
  STEP3_FUZZERS=1 swift build --package-path "$here/../.." --scratch-path "$here/.build" -c release \
    -Xswiftc -sanitize=fuzzer,address --product "$1"
}

# The inputs of earlier runs, initially the saved ones.
unpack() {
  mkdir -p "$here/.build/corpus/$1"
  kept=$here/Corpora/$1.tar.gz
  if [ -f "$kept" ] && [ ! -e "$here/.build/corpus/$1/.unpacked" ]; then
    tar -C "$here/.build/corpus" -xzf "$kept"
    : >"$here/.build/corpus/$1/.unpacked"
  fi
}

# Freed memory is returned sooner than usual, or it would count against the limit.
ASAN_OPTIONS=quarantine_size_mb=16
export ASAN_OPTIONS

run() {
  target=$1
  seconds=$2
  shift 2
  if [ $# -eq 0 ]; then
    case $target in
    FuzzSafetensors) set -- "$fixtures/malformed/safetensors" "$fixtures/golden/safetensors" ;;
    FuzzIndex | FuzzJSON) set -- "$fixtures/malformed/index" ;;
    FuzzGGUF) set -- "$fixtures/malformed/gguf" "$fixtures/golden/gguf" ;;
    FuzzArchive) set -- "$fixtures/malformed/archive" "$fixtures/golden/archive" ;;
    FuzzPicture) set -- "$fixtures/images" ;;
    FuzzSignature) set -- "$fixtures/signatures" ;;
    FuzzLogits) set -- "$fixtures/logits" ;;
    FuzzDeployment) set -- "$fixtures/../Manuals/examples" ;;
    esac
  fi
  if [ "$seconds" = 0 ]; then noise="-verbosity=1"; else noise="-verbosity=0 -print_funcs=0"; fi
  unpack "$target"
  finds=$here/.build/finds/$target
  mkdir -p "$finds"
  echo "$target: started with a limit of $seconds s (0 is none)"
  status=0
  # shellcheck disable=SC2086
  "$built/$target" -max_total_time="$seconds" -rss_limit_mb=512 -timeout=10 -max_len=16384 \
    -artifact_prefix="$finds/" -print_final_stats=1 $noise "$here/.build/corpus/$target" "$@" || status=$?
  if [ $status -ne 0 ]; then
    # The newest file, unless the run failed for another reason. libFuzzer gives them plain names.
    # shellcheck disable=SC2012
    find=$(ls -t "$finds" | head -n 1)
    echo "$target: failed with exit status $status; the input that it found: ${find:+$finds/}${find:-none}" >&2
    echo "run it alone: $built/$target ${find:+$finds/$find}" >&2
    exit "$status"
  fi
  echo "$target: nothing found"
}

keep() {
  build "$1"
  unpack "$1"
  smallest=$here/.build/smallest
  rm -rf "$smallest"
  mkdir -p "$smallest/$1" "$here/Corpora"
  "$built/$1" -merge=1 -rss_limit_mb=1024 -max_len=8192 "$smallest/$1" "$here/.build/corpus/$1"
  # The same inputs give the same file.
  (cd "$smallest" && find "$1" -type f | LC_ALL=C sort | tar -cf - --owner=0 --group=0 --mtime=2026-01-01 -T -) |
    gzip -n9 >"$here/Corpora/$1.tar.gz"
  ls -l "$here/Corpora/$1.tar.gz"
}

[ $# -ge 2 ] || usage
case $1 in
--all)
  targets=$(for main in "$here"/Fuzz*/main.swift; do basename "$(dirname "$main")"; done)
  for target in $targets; do build "$target"; done
  echo "$targets" | xargs -P "$(getconf _NPROCESSORS_ONLN)" -I TARGET "$here/run.sh" --built TARGET "$2"
  ;;
--built) run "$2" "$3" ;;
--keep) keep "$2" ;;
*)
  build "$1"
  run "$@"
  ;;
esac
