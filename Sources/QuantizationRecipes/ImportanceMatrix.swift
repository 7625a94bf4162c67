public import ByteStreams
public import TensorFormats

/// How much each column of a weight matrix matters: the mean square of the activations that multiply it, measured
/// on a text by llama.cpp's `llama-imatrix`. The searches of the block formats weight their error by it.
///
/// Both file forms are read: GGUF and the legacy `.dat`. Opening indexes the file and checks every value once;
/// after that only the rows asked for are in memory, as a large model's matrix takes hundreds of megabytes.
public struct ImportanceMatrix: Sendable {
  /// The file form.
  public enum Form: String, Hashable, Sendable {
    /// GGUF, with one count per expert.
    case gguf
    /// The older form, with one count per tensor.
    case legacy
  }

  /// What the file has about one tensor.
  public struct Entry: Hashable, Sendable {
    /// Sums of squares, F32, row-major: one row for a matrix, one row per expert for a stack.
    let values: Range<Int>
    /// How often each row was summed up; a single count in the legacy form, whatever the number of rows.
    let counts: [Float]

    /// How many sums there are: columns times experts.
    public var valueCount: Int { values.count / 4 }
  }

  /// The form the file has.
  public let form: Form
  /// The texts it was measured on, if the file names them.
  public let datasets: [String]
  /// How many chunks of text were measured, if the file says so.
  public let chunkCount: Int?
  /// How many tokens a chunk has, if the file says so.
  public let chunkSize: Int?
  /// By GGUF tensor name, for example `blk.4.ffn_down_exps.weight`.
  public let entries: [String: Entry]
  private let source: any ByteSource
  private let isBigEndian: Bool

  /// Makes an index from checked parts.
  init(
    form: Form, datasets: [String], chunkCount: Int?, chunkSize: Int?, entries: [String: Entry],
    source: any ByteSource, isBigEndian: Bool
  ) {
    self.form = form
    self.datasets = datasets
    self.chunkCount = chunkCount
    self.chunkSize = chunkSize
    self.entries = entries
    self.source = source
    self.isBigEndian = isBigEndian
  }

  /// Opens a file of either form.
  ///
  /// - Throws: `.truncated` or `.malformed` with tensor and byte if the file breaks its format, or has a value that
  ///   is negative or not finite; `.invalidRequest` if it is a GGUF file of something else.
  /// - Complexity: O(bytes of the file), reading through it once with about a megabyte of memory.
  public init(_ source: some ByteSource) throws(CheckpointError) {
    do throws(CheckpointError) {
      let magic = try source.readBytes(0..<min(4, source.byteCount))
      let isGGUF = magic == Array("GGUF".utf8)
      self = isGGUF ? try ImportanceMatrix.readGGUF(source) : try ImportanceMatrix.readLegacy(source)
      try checkValues()
    } catch {
      throw error.explained(by: source, as: .importanceMatrix).at(path: source.path)
    }
  }
}

// MARK: - Looking up

extension ImportanceMatrix {
  /// Whether the file has data for a tensor, after checking that it fits.
  ///
  /// Planning asks this for every tensor, so that a matrix of another model is found before anything is converted.
  /// - Parameters:
  ///   - ggufName: The tensor's name in a GGUF file.
  ///   - columns: The length of its rows.
  ///   - expertCount: How many experts are stacked in it; `nil` for a plain matrix.
  /// - Throws: `.invalidRequest` if the file has data of another size for it.
  public func covers(_ ggufName: String, columns: Int, expertCount: Int?) throws(CheckpointError) -> Bool {
    guard let entry = entries[ggufName] else { return false }
    let rows = try rowCount(of: entry, named: ggufName, columns: columns)
    guard rows == expertCount ?? 1 else {
      throw mismatch(entry, ggufName, columns: columns, rows: expertCount ?? 1)
    }
    return true
  }

  /// The importance of each column: the mean of the squares, as llama.cpp computes it when it quantises.
  ///
  /// Where a row was never summed up (an expert that no token was routed to), or only zeros were, the data says
  /// nothing about its columns, and all of them get 1. For rows without a count llama.cpp does the same; it
  /// keeps all-zero sums, but an error search weighted with zeros is undefined.
  ///
  /// - Parameters:
  ///   - ggufName: The tensor's name in a GGUF file.
  ///   - columns: The length of its rows.
  ///   - expert: Which expert of a stack, counted from 0; `nil` for a plain matrix.
  /// - Returns: `columns` values that are finite and not negative; `nil` if the file has nothing about the tensor.
  /// - Throws: `.invalidRequest` if the sizes do not fit; whatever reading throws.
  public func weights(
    for ggufName: String, columns: Int, expert: Int?
  ) throws(CheckpointError) -> [Float]? {
    guard let entry = entries[ggufName] else { return nil }
    let rows = try rowCount(of: entry, named: ggufName, columns: columns)
    let row = expert ?? 0
    guard row >= 0, row < rows, expert != nil || rows == 1 else {
      throw mismatch(entry, ggufName, columns: columns, rows: expert.map { $0 + 1 } ?? 1)
    }
    let start = entry.values.lowerBound + row * columns * 4
    var values = try floats(start..<(start + columns * 4), tensor: ggufName)
    let count = entry.counts[entry.counts.count == 1 ? 0 : row]
    let saysNothing = values.allSatisfy { $0 == 0 } || (form == .gguf && count == 0)
    if saysNothing { return [Float](repeating: 1, count: columns) }
    // A legacy file without a count already holds means.
    if count > 0 {
      for index in values.indices { values[index] /= count }
    }
    return values
  }

  /// How many rows of activations each matrix of a tensor was measured on: a single number if the file has no more
  /// detail.
  ///
  /// - Returns: `nil` if the file has nothing about the tensor.
  public func counts(for ggufName: String) -> [Float]? { entries[ggufName]?.counts }

  /// How many rows an entry has when each has `columns` values.
  private func rowCount(
    of entry: Entry, named name: String, columns: Int
  ) throws(CheckpointError) -> Int {
    guard columns > 0, entry.valueCount % columns == 0 else {
      throw mismatch(entry, name, columns: columns, rows: nil)
    }
    let rows = entry.valueCount / columns
    guard form == .legacy || entry.counts.count == rows else {
      throw mismatch(entry, name, columns: columns, rows: nil)
    }
    return rows
  }

  private func mismatch(_ entry: Entry, _ name: String, columns: Int, rows: Int?) -> CheckpointError {
    let wanted = rows.map { $0 == 1 ? "\(columns)" : "\($0) experts of \(columns)" } ?? "rows of \(columns)"
    let counts = form == .gguf ? " in \(entry.counts.count) rows" : ""
    return CheckpointError(
      .invalidRequest,
      "the importance matrix has \(entry.valueCount) values\(counts), the tensor needs \(wanted)",
      path: source.path, tensor: name,
      remedy: "it was measured on another model, or on a split form of this one")
  }
}

// MARK: - Values

extension ImportanceMatrix {
  /// Reads through all sums, in pieces, so that a bad value is found before hours of work depend on it.
  private func checkValues() throws(CheckpointError) {
    let piece = 1 << 20
    for (name, entry) in entries.sorted(by: { $0.value.values.lowerBound < $1.value.values.lowerBound }) {
      var start = entry.values.lowerBound
      while start < entry.values.upperBound {
        let end = min(start + piece, entry.values.upperBound)
        _ = try floats(start..<end, tensor: name)
        start = end
      }
    }
  }

  private func floats(_ range: Range<Int>, tensor: String) throws(CheckpointError) -> [Float] {
    try ImportanceMatrix.floats(source, range, isBigEndian: isBigEndian, tensor: tensor)
  }

  /// Reads F32 numbers that must be finite and not negative.
  static func floats(
    _ source: any ByteSource, _ range: Range<Int>, isBigEndian: Bool, tensor: String
  ) throws(CheckpointError) -> [Float] {
    let bytes = try source.readBytes(range)
    var values: [Float] = []
    values.reserveCapacity(bytes.count / 4)
    let span = unsafe bytes.span.bytes
    for offset in stride(from: 0, to: bytes.count, by: 4) {
      let bits = unsafe span.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self)
      let value = Float(bitPattern: isBigEndian ? UInt32(bigEndian: bits) : UInt32(littleEndian: bits))
      guard value.isFinite, value >= 0 else {
        throw CheckpointError(
          .malformed,
          "the importance matrix has the value \(value); a sum of squares is finite and not negative",
          path: source.path, offset: range.lowerBound + offset, tensor: tensor)
      }
      values.append(value)
    }
    return values
  }
}
