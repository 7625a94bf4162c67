public import Foundation
public import Step3Model
internal import TensorFormats
internal import Tokenization

/// Checkpoints of full size without content: sparse files behind a real header.
public enum SparseCheckpoint {
  /// A tensor of a file to be written.
  public struct Entry: Sendable {
    /// The name.
    public let name: String
    /// The element type, as safetensors spells it.
    public let type: String
    /// Row-major.
    public let shape: [Int]
    /// Its size in bytes.
    public let bytes: Int

    /// Describes a tensor.
    public init(name: String, type: String, shape: [Int], bytes: Int) {
      self.name = name
      self.type = type
      self.shape = shape
      self.bytes = bytes
    }
  }

  /// Where a tensor's bytes lie.
  public struct Region: Sendable {
    /// The tensor.
    public let entry: Entry
    /// The file.
    public let path: String
    /// The first byte, from the start of the file.
    public let offset: Int
  }

  /// A safetensors header, including its length prefix, padded to 8 bytes. Written independently of the toolkit's own
  /// writer, which tests must not trust.
  public static func header(_ entries: [Entry]) -> Data {
    var json = "{"
    var offset = 0
    for (index, entry) in entries.enumerated() {
      if index > 0 { json += "," }
      let shape = entry.shape.map(String.init).joined(separator: ",")
      json += "\"\(entry.name)\":{\"dtype\":\"\(entry.type)\",\"shape\":[\(shape)],"
      json += "\"data_offsets\":[\(offset),\(offset + entry.bytes)]}"
      offset += entry.bytes
    }
    json += "}"
    json += String(repeating: " ", count: (8 - json.utf8.count % 8) % 8)
    var data = withUnsafeBytes(of: UInt64(json.utf8.count).littleEndian) { Data($0) }
    data.append(contentsOf: json.utf8)
    return data
  }

  /// Writes one file: the header, then a hole of the tensors' size.
  @discardableResult
  public static func write(_ entries: [Entry], to url: URL) throws -> [Region] {
    let header = header(entries)
    try header.write(to: url)
    let path = url.path(percentEncoded: false)
    var offset = header.count
    var regions: [Region] = []
    for entry in entries {
      regions.append(Region(entry: entry, path: path, offset: offset))
      offset += entry.bytes
    }
    let file = try FileHandle(forWritingTo: url)
    defer { try? file.close() }
    try file.truncate(atOffset: UInt64(offset))
    return regions
  }

  /// Writes a whole checkpoint: shards of about `shardBytes` (a larger tensor gets a shard of its own), index, `config.json`
  /// and a small tokenizer.
  @discardableResult
  public static func write(
    _ configuration: Step3Configuration, to directory: URL, shardBytes: Int = 5_000_000_000
  ) throws -> [Region] {
    let tensors = try Step3Inventory(configuration).tensors
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    let shards = shards(of: tensors, shardBytes: shardBytes)
    var map: [String: String] = [:]
    var regions: [Region] = []
    func five(_ number: Int) -> String { String(String(100_000 + number).dropFirst()) }
    for (index, shard) in shards.enumerated() {
      let name = "model-\(five(index + 1))-of-\(five(shards.count)).safetensors"
      for entry in shard { map[entry.name] = name }
      regions += try write(shard, to: directory.appendingPathComponent(name))
    }
    let total = shards.joined().reduce(0) { $0 + $1.bytes }
    let index = try JSONSerialization.data(
      withJSONObject: ["metadata": ["total_size": total], "weight_map": map] as [String: Any],
      options: [.sortedKeys])
    let tokenizer = SmallTokenizer.tokenizer
    let files: [(String, Data)] = [
      ("model.safetensors.index.json", index),
      ("config.json", Data(try configuration.configJSON())),
      ("tokenizer.json", Data(try tokenizer.tokenizerJSON())),
      (
        "tokenizer_config.json",
        Data(try tokenizer.tokenizerConfigJSON(contextLength: configuration.text.contextLength))
      ),
      ("generation_config.json", Data(try tokenizer.generationConfigJSON())),
    ]
    for (name, data) in files { try data.write(to: directory.appendingPathComponent(name)) }
    return regions
  }

  private static func shards(of tensors: [Step3Inventory.Tensor], shardBytes: Int) -> [[Entry]] {
    var shards: [[Entry]] = [[]]
    var size = 0
    for tensor in tensors {
      let bytes = tensor.shape.byteCount(as: tensor.elementType) ?? 0
      if size > 0, size + bytes > shardBytes {
        shards.append([])
        size = 0
      }
      size += bytes
      shards[shards.count - 1].append(
        Entry(
          name: tensor.publishedName, type: tensor.elementType.rawValue, shape: tensor.shape.dimensions,
          bytes: bytes))
    }
    return shards
  }
}
