internal import ByteStreams
internal import Checkpoint
internal import Safetensors
internal import TensorFormats

/// Puts the tensors of one part into safetensors files.
///
/// The format allows no gaps, so tensors stay aligned only if those of wider elements come first. And a file's digests
/// can be computed while it is written only if its tensors come in the order in which the source is read. Both hold if
/// every shard has elements of one width, in source order, so that is how large outputs are divided. An output that
/// fits into one shard becomes one file, sorted as the reference writer sorts.
enum SafetensorsPacking {
  /// Data starts on a page, so that engines that map files or read around the page cache find the first tensor, and
  /// with Step-3's shapes nearly every other, on a page boundary.
  static let dataAlignment = 4096

  static func pack(
    _ tensors: [OutputTensor], directory: String, maximumBytes: Int?, metadata: [String: String],
    headers: inout [String: [UInt8]]
  ) throws(CheckpointError) -> (files: [ShardPlan.File], index: ShardPlan.Document?) {
    let shards = cut(tensors, maximumBytes: maximumBytes)
    var files: [ShardPlan.File] = []
    var weightMap: [String: String] = [:]
    for (number, shard) in shards.enumerated() {
      let name =
        shards.count == 1
        ? "model.safetensors" : "model-\(padded(number + 1))-of-\(padded(shards.count)).safetensors"
      let path = joinPath(directory, name)
      let layout = try SafetensorsLayout(
        shard.map {
          SafetensorsLayout.Item(
            name: $0.tensor.name, elementType: $0.tensor.elementType, shape: $0.tensor.shape)
        }, metadata: metadata, order: .asGiven, alignment: dataAlignment)
      headers[path] = layout.headerBytes
      files.append(
        ShardPlan.File(
          path: path, bytes: layout.fileByteCount, dataOffset: layout.header.dataOffset,
          headerXXH3: digest(of: layout.headerBytes),
          tensors: zip(shard, layout.header.tensors).map { $0.placed(as: $1.name, at: $1.byteRange) }))
      for output in shard { weightMap[output.tensor.name] = name }
    }
    guard files.count > 1 else { return (files, nil) }
    let total = files.reduce(0) { $0 + $1.bytes - $1.dataOffset }
    let index = try SafetensorsIndex(weightMap: weightMap, totalSize: total)
    let name = "model.safetensors.index.json"
    let document = ShardPlan.Document(
      path: joinPath(directory, name),
      text: String(decoding: index.serialized(), as: UTF8.self))
    return (files, document)
  }

  private static func cut(_ tensors: [OutputTensor], maximumBytes: Int?) -> [[OutputTensor]] {
    let total = tensors.reduce(0) { $0 + $1.byteCount }
    let limit = maximumBytes ?? .max
    if total <= limit {
      return [
        tensors.sorted {
          let (left, right) = ($0.rank, $1.rank)
          return left != right
            ? left > right : $0.tensor.name.precedesBytewise($1.tensor.name)
        }
      ]
    }
    var shards: [[OutputTensor]] = []
    let widths = Set(tensors.map(\.width)).sorted(by: >)
    for width in widths {
      var shard: [OutputTensor] = []
      var bytes = 0
      for tensor in tensors.filter({ $0.width == width }).sorted(by: OutputTensor.inSourceOrder) {
        if !shard.isEmpty, bytes + tensor.byteCount > limit {
          shards.append(shard)
          (shard, bytes) = ([], 0)
        }
        shard.append(tensor)
        bytes += tensor.byteCount
      }
      if !shard.isEmpty { shards.append(shard) }
    }
    return shards
  }

  private static func padded(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }
}

extension OutputTensor {
  fileprivate var byteCount: Int { tensor.shape.byteCount(as: tensor.elementType) ?? 0 }
  fileprivate var rank: Int { tensor.elementType.safetensorsRank ?? 0 }
  fileprivate var width: Int { tensor.elementType.safetensorsAlignment ?? 1 }
}

/// The XXH3-128 of some bytes, in hexadecimal.
func digest(of bytes: [UInt8]) -> String {
  var digester = XXH3Digester()
  digester.update(bytes)
  return "\(digester.finalize())"
}
