public import ByteStreams
internal import JSON
public import TensorFormats

/// The index of a sharded checkpoint, `model.safetensors.index.json`: which shard holds which tensor.
///
/// Nothing in it is trusted: every shard name is one plain file name (see ``checkShardName(_:)``), so that a shard is
/// always looked for beside its index and nowhere else.
///
/// Source: `save_pretrained` in Hugging Face's transformers, which defined this file by writing it.
public struct SafetensorsIndex: Hashable, Sendable {
  /// The shard's file name for each tensor.
  public let weightMap: [String: String]
  /// `metadata.total_size`: the bytes of all tensors together, without headers. Some writers leave it out.
  public let totalSize: Int?
  /// The file names of all shards, sorted bytewise.
  public let shardNames: [String]

  /// The longest index that is read. Hugging Face's client stops at 10 MB, which is some 100,000 tensors; ours holds
  /// the hundreds of thousands that a model with separate experts and scales can have, and still bounds the memory
  /// that a hostile file can cost.
  public static let maximumByteCount = 64_000_000

  /// Makes an index.
  ///
  /// - Throws: `.malformed` if a shard's name is not a plain file name.
  public init(weightMap: [String: String], totalSize: Int?) throws(CheckpointError) {
    let names = Set(weightMap.values).sorted { $0.precedesBytewise($1) }
    for name in names { try Self.checkShardName(name) }
    self.init(weightMap: weightMap, totalSize: totalSize, shardNames: names)
  }

  private init(weightMap: [String: String], totalSize: Int?, shardNames: [String]) {
    self.weightMap = weightMap
    self.totalSize = totalSize
    self.shardNames = shardNames
  }
}

// MARK: - Shard names

extension SafetensorsIndex {
  /// Refuses a shard name that is anything but one plain file name.
  ///
  /// - Throws: `.malformed`, saying what is wrong with the name.
  public static func checkShardName(_ name: String) throws(CheckpointError) {
    let fault: String
    if name.isEmpty {
      fault = "is empty"
    } else if name == "." || name == ".." {
      fault = "is a directory"
    } else if name.utf8.contains(UInt8(ascii: "/")) {
      fault = name.utf8.first == UInt8(ascii: "/") ? "is an absolute path" : "contains '/'"
    } else if name.utf8.contains(UInt8(ascii: "\\")) {
      fault = "contains a backslash"
    } else if name.utf8.contains(0) {
      fault = "contains a NUL character"
    } else if name.utf8.count > 255 {
      fault = "has \(name.utf8.count) bytes, more than the 255 of a file name"
    } else {
      return
    }
    throw CheckpointError(
      .malformed,
      "the shard name '\(name.printable)' \(fault); only a plain file name beside the index is allowed")
  }
}

// MARK: - Reading

extension SafetensorsIndex {
  /// Reads and checks an index file.
  ///
  /// - Throws: As ``parse(_:)-(RawSpan)``, `.unsupported` for a file longer than ``maximumByteCount``, and what reading throws.
  ///   The error names the file.
  public static func read(from source: some ByteSource) throws(CheckpointError) -> SafetensorsIndex {
    guard source.byteCount <= maximumByteCount else {
      throw CheckpointError(
        .unsupported,
        "the index has \(source.byteCount) bytes, more than the \(maximumByteCount) that are read",
        path: source.path)
    }
    do throws(CheckpointError) {
      let bytes = try source.readBytes(0..<source.byteCount)
      return try unsafe parse(bytes.span.bytes)
    } catch {
      throw error.explained(by: source, as: .json).at(path: source.path)
    }
  }

  /// Checks the text of an index.
  ///
  /// Unknown keys are skipped, beside `weight_map` as well as inside `metadata`. A known key must not appear twice.
  /// - Throws: `.malformed` for a broken rule, `.unsupported` for two tensor names that differ only in Unicode
  ///   normalisation. The error has the byte offset, and the tensor's name where one is concerned.
  /// - Complexity: O(*n* log *n*) for *n* bytes.
  public static func parse(_ bytes: RawSpan) throws(CheckpointError) -> SafetensorsIndex {
    var scanner = JSONScanner(bytes)
    var weightMap: (map: [String: String], shards: Set<String>)?
    var totalSize: Int?
    var hasMetadata = false
    var members = try scanner.openObject("the index")
    let start = scanner.tokenOffset
    while let key = try scanner.nextKey(&members) {
      switch key {
      case "weight_map":
        guard weightMap == nil else { throw scanner.errorAtToken("'weight_map' appears twice") }
        weightMap = try parseWeightMap(&scanner)
      case "metadata":
        guard !hasMetadata else { throw scanner.errorAtToken("'metadata' appears twice") }
        hasMetadata = true
        totalSize = try parseTotalSize(&scanner)
      default: try scanner.skipValue()
      }
    }
    try scanner.finish()
    guard let weightMap else {
      throw CheckpointError(.malformed, "'weight_map' is missing", offset: start)
    }
    return SafetensorsIndex(
      weightMap: weightMap.map, totalSize: totalSize,
      shardNames: weightMap.shards.sorted { $0.precedesBytewise($1) })
  }

  private static func parseWeightMap(
    _ scanner: inout JSONScanner
  ) throws(CheckpointError) -> (map: [String: String], shards: Set<String>) {
    var map: [String: String] = [:]
    var shards: Set<String> = []
    var members = try scanner.openObject("'weight_map'")
    while let tensor = try scanner.nextKey(&members) {
      let place = map.index(forKey: tensor)
      if let place {
        guard map[place].key.utf8.elementsEqual(tensor.utf8) else {
          throw CheckpointError(
            .unsupported, "its name differs from that of another tensor only in Unicode normalisation",
            offset: scanner.tokenOffset, tensor: tensor)
        }
        throw CheckpointError(
          .malformed, "the index names it twice", offset: scanner.tokenOffset, tensor: tensor)
      }
      do throws(CheckpointError) {
        let name = try scanner.scanString("a shard name")
        if let known = shards.firstIndex(of: name) {
          // One string for all tensors of a shard, not one for each.
          map[tensor] = shards[known]
        } else {
          try checkShardName(name)
          shards.insert(name)
          map[tensor] = name
        }
      } catch {
        var located = error
        located.tensor = tensor
        located.offset = error.offset ?? scanner.tokenOffset
        throw located
      }
    }
    return (map, shards)
  }

  private static func parseTotalSize(_ scanner: inout JSONScanner) throws(CheckpointError) -> Int? {
    if try scanner.scanNull() { return nil }
    var totalSize: Int?
    var members = try scanner.openObject("'metadata'")
    while let key = try scanner.nextKey(&members) {
      guard key == "total_size" else {
        try scanner.skipValue()
        continue
      }
      guard totalSize == nil else { throw scanner.errorAtToken("'total_size' appears twice") }
      totalSize = try scanner.scanWholeNumber("'total_size'")
    }
    return totalSize
  }
}

// MARK: - Writing

extension SafetensorsIndex {
  /// The text of the index file: keys sorted, indented by two spaces, ASCII only, a newline at the end, exactly as
  /// transformers writes it. The same index always gives the same bytes.
  public func serialized() -> [UInt8] {
    var text: [UInt8] = []
    text += Array("{\n  \"metadata\": {".utf8)
    if let totalSize { text += Array("\n    \"total_size\": \(totalSize)\n  ".utf8) }
    text += Array("},\n  \"weight_map\": {".utf8)
    var separator = "\n    "
    for (tensor, shard) in weightMap.sorted(by: { $0.key.precedesBytewise($1.key) }) {
      text += Array(separator.utf8)
      JSONText.append(tensor, to: &text, style: .ascii)
      text += Array(": ".utf8)
      JSONText.append(shard, to: &text, style: .ascii)
      separator = ",\n    "
    }
    text += Array((weightMap.isEmpty ? "}\n}\n" : "\n  }\n}\n").utf8)
    return text
  }
}
