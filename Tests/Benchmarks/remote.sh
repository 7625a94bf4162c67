#!/usr/bin/env bash
# Reads a file from the test server with remote-bench and with aria2c (if it is installed), at 20 ms latency and
# a limited rate per connection; the headers of 173 shards; and a model that is quantised to Q8_0 while it is fetched.
#
# Usage: Tests/Benchmarks/remote.sh [BYTES PER SECOND AND CONNECTION]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rate=${1:-5000000}
swift build --package-path "$here/../HubServer" -c release
swift build --package-path "$here" -c release --product remote-bench
swift build --package-path "$here/../.." -c release
tools=$here/../../.build/release
bench=$here/.build/release/remote-bench

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/owner/model/.sha256" "$work/owner/shards/.sha256"
head -c 268435456 /dev/urandom >"$work/owner/model/big.bin"
head -c 400000 /dev/urandom >"$work/shard"
for number in $(seq -w 1 173); do
  name=model-00$number-of-00173.safetensors
  ln "$work/shard" "$work/owner/shards/$name"
  sha256sum "$work/shard" | cut -c 1-64 >"$work/owner/shards/.sha256/$name"
done

"$tools/checkpoint-generator" slice "$work/owner/slice" --layers 2 --experts 20 --width-divisor 4
mkdir "$work/owner/slice/.sha256"
(cd "$work/owner/slice" && for file in *.safetensors; do sha256sum "$file" | cut -c 1-64 >".sha256/$file"; done)
slice=$(cat "$work/owner/slice"/*.safetensors | wc -c)

# The server exits when its standard input ends.
coproc server { exec "$here/../HubServer/.build/release/hub-server" "$work"; }
read -r port _ <&"${server[0]}"
session=http://127.0.0.1:$port/s/bench~latency=20~rate=$rate
file=$session/static/owner/model/big.bin
if command -v aria2c >/dev/null; then
  start=$(date +%s%N)
  aria2c --quiet -x8 -s8 -k1M --file-allocation=none -d "$work" -o copy "$file"
  echo "aria2c -x8: $((268435456 * 1000 / ($(date +%s%N) - start))) MB/s"
fi
for size in 4 8 16; do "$bench" read "$file" big.bin $size 8; done
export HF_ENDPOINT=$session HF_HOME=$work/none
for size in 65536 262144 1048576; do "$bench" heads hf://owner/shards $size 32; done
"$bench" heads hf://owner/shards 262144 8

# The whole of a model, fetched alone and quantised on the way.
elapsed() {
  local start
  start=$(date +%s%N)
  "$@" >/dev/null || exit 1
  echo $((($(date +%s%N) - start) / 1000000))
}
fetch() {
  for file in "$work/owner/slice"/*.safetensors; do
    aria2c --quiet -x8 -s8 -k1M --file-allocation=none --allow-overwrite=true -d "$work" -o copy \
      "$session/static/owner/slice/$(basename "$file")"
  done
}
for _ in 1 2 3; do
  rm -rf "$work/q8"
  # The hub's redirections cost requests that the plain address does not need.
  plain=$(elapsed "$tools/step3-convert" "$session/static/owner/slice/" "$work/q8" --to gguf --quantize Q8_0 --threads 2 --progress none)
  rm -rf "$work/q8"
  hub=$(elapsed "$tools/step3-convert" hf://owner/slice "$work/q8" --to gguf --quantize Q8_0 --threads 2 --progress none)
  line="$((slice / 1000000)) MB to Q8_0: $((slice / plain / 1000)) MB/s, from the hub $((slice / hub / 1000)) MB/s"
  if command -v aria2c >/dev/null; then
    alone=$(elapsed fetch)
    line+=", aria2c -x8 alone $((slice / alone / 1000)) MB/s: $((alone * 100 / plain)) %, $((alone * 100 / hub)) %"
  fi
  echo "$line"
done
