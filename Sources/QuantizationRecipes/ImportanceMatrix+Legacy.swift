internal import ByteStreams
internal import TensorFormats

/// The legacy form, little-endian throughout:
///
///     i32 number of entries
///     per entry:  i32 length of the name | name | i32 number of calls | i32 number of values | values, F32
///     optional:   i32 number of chunks [ | i32 length of the data set's name | name ]
///
/// A stack of experts has the rows of all its experts one after the other, and one number of calls for all of them.
///
/// Source: `common/imatrix-loader.cpp` of llama.cpp.
extension ImportanceMatrix {
  static func readLegacy(_ source: some ByteSource) throws(CheckpointError) -> ImportanceMatrix {
    var cursor = LegacyCursor(source: source)
    let count = try cursor.readCount("entries", atLeast: 1)
    guard count <= cursor.remaining / LegacyCursor.smallestEntry else {
      throw CheckpointError(
        .malformed, "claims \(count) entries, but only \(cursor.remaining) bytes follow", offset: 0,
        remedy:
          "an importance matrix is a GGUF file or a legacy .dat file; this is neither, or it is truncated")
    }
    var entries: [String: Entry] = [:]
    for _ in 0..<count {
      let start = cursor.position
      let name = try cursor.readText("a tensor's name", isOptional: false)
      let calls = try cursor.readCount("calls", atLeast: 0)
      let values = try cursor.skipFloats(try cursor.readCount("values", atLeast: 1), of: name)
      let entry = Entry(values: values, counts: [Float(calls)])
      guard entries.updateValue(entry, forKey: name) == nil else {
        throw CheckpointError(.malformed, "is in the importance matrix twice", offset: start, tensor: name)
      }
    }
    var chunks: Int?
    var datasets: [String] = []
    if cursor.remaining > 0 { chunks = try cursor.readCount("chunks", atLeast: 0) }
    if cursor.remaining > 0 {
      let dataset = try cursor.readText("the data set's name", isOptional: true)
      if !dataset.isEmpty { datasets = [dataset] }
    }
    guard cursor.remaining == 0 else {
      throw CheckpointError(
        .malformed, "\(cursor.remaining) bytes follow after the end of the importance matrix",
        offset: cursor.position)
    }
    return ImportanceMatrix(
      form: .legacy, datasets: datasets, chunkCount: chunks, chunkSize: nil, entries: entries, source: source,
      isBigEndian: false)
  }
}

/// Reads the legacy form front to back and compares every length with the bytes that are left.
private struct LegacyCursor {
  /// A name of one byte and one value.
  static let smallestEntry = 4 + 1 + 4 + 4 + 4
  /// Tensor names have fewer than 64 bytes and data sets are file names; 4 KiB is the longest path on Linux.
  static let longestText = 4096

  private let source: any ByteSource
  private(set) var position = 0

  init(source: any ByteSource) { self.source = source }

  var remaining: Int { source.byteCount - position }

  mutating func readCount(_ what: String, atLeast minimum: Int) throws(CheckpointError) -> Int {
    try require(4, "the number of \(what)")
    let bytes = try source.readBytes(position..<(position + 4))
    let bits = bytes.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    let count = Int(Int32(bitPattern: bits))
    guard count >= minimum else {
      throw CheckpointError(.malformed, "the number of \(what) is \(count)", offset: position)
    }
    position += 4
    return count
  }

  mutating func readText(_ what: String, isOptional: Bool) throws(CheckpointError) -> String {
    let start = position
    let count = try readCount("bytes of \(what)", atLeast: isOptional ? 0 : 1)
    guard count <= Self.longestText else {
      throw CheckpointError(
        .malformed, "\(what) has \(count) bytes; the limit is \(Self.longestText)", offset: start)
    }
    try require(count, what)
    let bytes = try source.readBytes(position..<(position + count))
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw CheckpointError(.malformed, "\(what) is not UTF-8", offset: position)
    }
    position += count
    return text
  }

  mutating func skipFloats(_ count: Int, of tensor: String) throws(CheckpointError) -> Range<Int> {
    guard count <= remaining / 4 else {
      throw CheckpointError(
        .truncated, "\(count) values are claimed, \(remaining) bytes are left", offset: position,
        tensor: tensor)
    }
    defer { position += count * 4 }
    return position..<(position + count * 4)
  }

  private func require(_ count: Int, _ what: String) throws(CheckpointError) {
    guard count <= remaining else {
      throw CheckpointError(
        .truncated, "\(what) needs \(count) bytes, \(remaining) are left", offset: position)
    }
  }
}
