internal import ByteStreams
internal import Safetensors
internal import Synchronization
public import TensorFormats

/// Writes the results of a forward pass, row by row: `input_ids` [T] I64, `logits` [T, V] F32 and, for chosen
/// layers, `hidden_states.N` [T, H] F32.
///
/// Rows may come in any order and from any thread. The file gets its final name once it is complete; until then it has
/// the suffix `.unfinished`, and is removed if abandoned.
public final class LogitsDump: Sendable {
  private let path: String
  private let writer: SafetensorsWriter
  private let rows: Int
  /// For each tensor, which rows have been written.
  private let written: Mutex<[String: [Bool]]>

  /// Creates the file and writes the tokens.
  ///
  /// - Parameters:
  ///   - tokens: The input tokens.
  ///   - vocabulary: Logits per position.
  ///   - hiddenStates: The N of the hidden states that will be written.
  ///   - hiddenSize: Their length.
  /// - Throws: `.cannotCreate` if the file exists or cannot be created, `.inputOutput`.
  public init(
    _ path: String, tokens: [Int], vocabulary: Int, hiddenStates: [Int] = [], hiddenSize: Int = 0
  ) throws(CheckpointError) {
    guard try FileSystem.kind(of: path) == nil else {
      throw CheckpointError(.cannotCreate, "already exists", path: path)
    }
    var items = [
      SafetensorsLayout.Item(name: "input_ids", elementType: .i64, shape: TensorShape([tokens.count])),
      SafetensorsLayout.Item(
        name: "logits", elementType: .f32, shape: TensorShape([tokens.count, vocabulary])),
    ]
    for number in hiddenStates {
      items.append(
        SafetensorsLayout.Item(
          name: Self.name(number), elementType: .f32, shape: TensorShape([tokens.count, hiddenSize])))
    }
    let unfinished = path + Self.suffix
    if try FileSystem.kind(of: unfinished) == .file { try FileSystem.removeFile(unfinished) }
    self.path = path
    rows = tokens.count
    writer = try SafetensorsWriter(unfinished, layout: try SafetensorsLayout(items))
    written = Mutex(
      Dictionary(
        uniqueKeysWithValues: items.dropFirst().map {
          ($0.name, [Bool](repeating: false, count: tokens.count))
        }))
    let bytes = tokens.flatMap { token in
      (0..<8).map { UInt8(truncatingIfNeeded: token >> ($0 * 8)) }
    }
    try unsafe writer.write(tensor: "input_ids", bytes: bytes.span.bytes)
  }

  deinit {
    // After finish() this file no longer exists.
    let unfinished = path + Self.suffix
    if (try? FileSystem.kind(of: unfinished)) == .file { try? FileSystem.removeFile(unfinished) }
  }

  private static let suffix = ".unfinished"
  private static func name(_ number: Int) -> String { "hidden_states.\(number)" }

  /// Writes the logits of a position.
  ///
  /// - Throws: `.invalidRequest` for a nonexistent row or another length, `.inputOutput`.
  public func writeLogits(_ values: Span<Float>, row: Int) throws(CheckpointError) {
    try write(values, to: "logits", row)
  }

  /// Writes a hidden state of a position.
  ///
  /// - Throws: As ``writeLogits(_:row:)``.
  public func writeHiddenState(_ number: Int, _ values: Span<Float>, row: Int) throws(CheckpointError) {
    try write(values, to: Self.name(number), row)
  }

  private func write(_ values: Span<Float>, to name: String, _ row: Int) throws(CheckpointError) {
    guard let shape = writer.layout.header.tensor(named: name)?.shape, (0..<rows).contains(row),
      values.count == shape.columns
    else {
      throw CheckpointError(
        .invalidRequest, "has no row \(row) of \(values.count) values", path: path, tensor: name)
    }
    try unsafe writer.write(tensor: name, at: row * values.count * 4, bytes: values.bytes)
    written.withLock { $0[name]?[row] = true }
  }

  /// Gives the complete file its final name.
  ///
  /// - Throws: `.invalidRequest` if a row was never written, `.inputOutput`.
  public func finish() throws(CheckpointError) {
    let gap = written.withLock { rows in
      rows.sorted { $0.key < $1.key }.lazy.compactMap { name, done in
        done.firstIndex(of: false).map { (name, $0) }
      }.first
    }
    if let (name, row) = gap {
      throw CheckpointError(.invalidRequest, "row \(row) was never written", path: path, tensor: name)
    }
    try writer.finish()
    try FileSystem.rename(path + Self.suffix, to: path)
  }
}
