public import ByteStreams
public import TensorFormats

/// Writes one safetensors file: the header at once, then the bytes of its tensors in any order and from any thread.
///
/// Space for the whole file is reserved first. The caller keeps track of which bytes were written; the file is
/// complete once all of them were.
///
/// `Sendable`: it has no state but an `OutputFile`, which is.
public struct SafetensorsWriter: Sendable {
  /// What goes where.
  public let layout: SafetensorsLayout
  /// The file, `layout.fileByteCount` bytes long.
  public let file: OutputFile

  /// Creates the file and writes its header.
  ///
  /// - Parameters:
  ///   - path: The file to create.
  ///   - layout: What its header says.
  ///   - reopening: Go on with a file that an interrupted run left, instead of refusing it.
  /// - Throws: `.cannotCreate`, `.inputOutput`.
  public init(_ path: String, layout: SafetensorsLayout, reopening: Bool = false) throws(CheckpointError) {
    self.layout = layout
    file = try OutputFile(path, byteCount: layout.fileByteCount, reopening: reopening)
    try unsafe file.write(layout.headerBytes.span.bytes, at: 0)
  }

  /// Writes some bytes of a tensor.
  ///
  /// - Parameters:
  ///   - name: The tensor.
  ///   - offset: Where `bytes` go, counted from the tensor's first byte.
  ///   - bytes: Little-endian, row-major.
  /// - Throws: `.invalidRequest` if there is no such tensor or the bytes do not lie within it, `.inputOutput`.
  public func write(tensor name: String, at offset: Int = 0, bytes: RawSpan) throws(CheckpointError) {
    guard let tensor = layout.header.tensor(named: name) else {
      throw CheckpointError(.invalidRequest, "the file has no such tensor", path: file.path, tensor: name)
    }
    let range = tensor.byteRange
    guard offset >= 0, bytes.byteCount <= range.count, offset <= range.count - bytes.byteCount else {
      throw CheckpointError(
        .invalidRequest,
        "\(bytes.byteCount) bytes at byte \(offset) do not fit into its \(range.count) bytes",
        path: file.path,
        tensor: name)
    }
    try file.write(bytes, at: range.lowerBound + offset)
  }

  /// Makes sure that everything written so far survives a power cut.
  ///
  /// - Throws: `.inputOutput`.
  public func finish() throws(CheckpointError) { try file.synchronize() }
}
