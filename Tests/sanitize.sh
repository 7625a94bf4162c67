#!/bin/sh
# Builds the tests with a sanitizer, and runs those of threads and parsers.
#
# Usage: Tests/sanitize.sh thread [FILTER]     ThreadSanitizer: races
#        Tests/sanitize.sh address [FILTER]    AddressSanitizer, and UndefinedBehaviorSanitizer in C, which ends the test by a trap
#
# Each build is kept in .build/sanitize-*, beside the ordinary one.
set -eu

cd "$(dirname "$0")/.."
kind=${1:-}
case $kind in
thread)
  set -- "${2:-ParallelWorkTests|ConversionTests|ArchivingTests|ArchivesTests|RemoteFilesTests|ComparisonTests|InspectionTests|ByteStreamsTests|Disaggregation|ForwardTests|CalibrationTests}"
  flags="--sanitize=thread"
  # OpenBLAS is not built with the sanitizer, so what its threads pass to each other looks like a race.
  TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/Tests/sanitize-thread.txt"
  export TSAN_OPTIONS
  ;;
address)
  set -- "${2:-QuantizationTests|SafetensorsTests|GGUFTests|JSONTests|ArchivesTests|ByteStreamsTests|PatternsTests|TokenizationTests|ImageInputTests|QuantizationRecipesTests|StoredWeightsTests|ServingEnginesTests|CheckpointTests|TensorFormatsTests}"
  flags="--sanitize=address -Xcc -fsanitize=undefined -Xcc -fsanitize-trap=undefined"
  # Swift's runtime keeps what it makes once.
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
# shellcheck disable=SC2086
swift test -c release --skip-build --scratch-path "$scratch" $flags --filter "$1"
