#!/bin/sh
# Builds the tests with a sanitizer, and runs those of concurrent code, or of parsers and kernels.
#
# Usage: Tests/Sanitizers/run.sh thread [FILTER]     ThreadSanitizer: races
#        Tests/Sanitizers/run.sh address [FILTER]    AddressSanitizer, and UndefinedBehaviorSanitizer in C, which ends
#                                                    the test with a trap
#
# FILTER is a regular expression of tests. Each build is kept in .build/sanitize-*, beside the ordinary one.
set -eu

cd "$(dirname "$0")/../.."
here=Tests/Sanitizers
kind=${1:-}
case $kind in
thread)
  # The scheduler's tests wait for each other, which takes for ever beside hundreds of slow tests.
  first='^ParallelWorkTests\.'
  filter=${2:-'^(Archives|Archiving|ByteStreams|RemoteFiles|Comparison|Inspection|Conversion|Step3Runtime|Calibration|Verification)Tests\.'}
  flags="--sanitize=thread"
  TSAN_OPTIONS="suppressions=$PWD/$here/thread.txt"
  export TSAN_OPTIONS
  ;;
address)
  filter=${2:-'^(TensorFormats|ByteStreams|JSON|Safetensors|GGUF|Archives|Checkpoint|Patterns|Quantization|QuantizationRecipes|Step3Model|Tokenization|ImageInput|StoredWeights|ServingEngines)Tests\.'}
  flags="--sanitize=address -Xcc -fsanitize=undefined -Xcc -fsanitize-trap=undefined"
  # Swift's runtime never frees its one-time allocations.
  ASAN_OPTIONS="detect_leaks=0"
  export ASAN_OPTIONS
  ;;
*)
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 64
  ;;
esac
scratch=.build/sanitize-$kind
# shellcheck disable=SC2086
swift build -c release --build-tests --scratch-path "$scratch" $flags
if [ "$kind" = thread ] && [ "$(uname)" = Linux ]; then
  # Only the tests get the shim, not the compiler.
  shim=$PWD/$scratch/mutex_shim.so
  clang -O1 -Wall -shared -fPIC -o "$shim" $here/mutex_shim.c -ldl
  if [ -n "${2:-}" ]; then set -- "$2"; else set -- "$first" "$filter"; fi
  for tests; do
    LD_PRELOAD=$shim "$scratch/release/step3-toolkitPackageTests.xctest" --testing-library swift-testing --filter "$tests"
  done
  exit 0
fi
# shellcheck disable=SC2086
swift test -c release --skip-build --scratch-path "$scratch" $flags --filter "$filter"
