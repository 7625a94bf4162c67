import ByteStreams
import Foundation
import FuzzSupport
import Safetensors
import TensorFormats

/// Any bytes as the index of a sharded checkpoint: refused with an error, or sound.
func check(_ text: [UInt8]) {
  guard let index = try? SafetensorsIndex.read(from: MemorySource(text)) else { return }
  require(Set(index.weightMap.values) == Set(index.shardNames), "the shards are not those of the tensors")
  for name in index.shardNames {
    let bytes = name.utf8
    require(
      !bytes.isEmpty && bytes.count <= 255 && name != "." && name != ".."
        && !bytes.contains(UInt8(ascii: "/"))
        && !bytes.contains(UInt8(ascii: "\\")) && !bytes.contains(0), "a shard name leaves the folder")
  }
  require((index.totalSize ?? 0) >= 0, "the total size is negative")
  do {
    let again = try SafetensorsIndex.read(from: MemorySource(index.serialized()))
    require(again == index, "what is written reads differently")
  } catch {
    fatalError("cannot read what was written: \(error)")
  }
  let issues = ShardedSafetensors.issues(index: index, shards: [:])
  require(
    issues.filter { $0.severity == .error }.map(\.shard) == index.shardNames,
    "not every missing shard is reported")
  let isOff = index.shardNames.isEmpty && (index.totalSize ?? 0) != 0
  require(
    issues.filter { $0.severity == .warning }.map(\.code) == (isOff ? [.totalSizeMismatch] : []),
    "the total size of nothing is not compared, or another warning is given")
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
