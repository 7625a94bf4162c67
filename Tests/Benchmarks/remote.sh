#!/usr/bin/env bash
# Reads a file from the server of the tests with remote-bench and with aria2c (if it is installed), at 20 ms latency and
# a limited rate per connection, and the headers of 173 shards.
#
# Usage: Tests/Benchmarks/remote.sh [BYTES PER SECOND AND CONNECTION]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rate=${1:-5000000}
swift build --package-path "$here/../HubServer" -c release
swift build --package-path "$here" -c release --product remote-bench
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

# The server ends with its standard input.
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
