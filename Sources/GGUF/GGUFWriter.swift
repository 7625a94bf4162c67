internal import ByteStreams
public import TensorFormats

/// Writes a planned GGUF file: the header at once, then each tensor's data in portions.
///
/// The tensors may come in any order and interleaved; the portions of one tensor follow each other. For
/// writes from several threads use the ``GGUFLayout`` with an `OutputFile` directly.
public struct GGUFWriter: ~Copyable {
  /// The plan that the file follows.
  public let layout: GGUFLayout
  private let file: OutputFile
  /// How many bytes of each tensor have been written.
  private var written: [Int]

  /// Creates the file and writes its header and all padding.
  ///
  /// - Throws: `.cannotCreate` if the file exists or may not be written, `.inputOutput` if there is no room
  ///   for it.
  public init(_ path: String, layout: GGUFLayout) throws(CheckpointError) {
    let file = try OutputFile(path, byteCount: layout.byteCount)
    // Unsafe only by name, here and below: bytes have no padding that could be read uninitialised.
    try unsafe file.write(layout.headerBytes.span.bytes, at: 0)
    for range in layout.paddingRanges {
      // An alignment of up to 2 GiB is legal.
      for start in stride(from: range.lowerBound, to: range.upperBound, by: 1 << 20) {
        let zeros = [UInt8](repeating: 0, count: min(range.upperBound - start, 1 << 20))
        try unsafe file.write(zeros.span.bytes, at: start)
      }
    }
    self.layout = layout
    self.file = file
    written = Array(repeating: 0, count: layout.header.tensors.count)
  }

  /// Writes the next bytes of a tensor, which must be in the file's byte order.
  ///
  /// - Parameters:
  ///   - bytes: The tensor's next bytes.
  ///   - index: The tensor's place in the layout.
  /// - Precondition: There is such a tensor.
  /// - Throws: `.invalidRequest` if the tensor would get more bytes than it has, `.inputOutput` if writing
  ///   fails.
  public mutating func append(_ bytes: RawSpan, toTensor index: Int) throws(CheckpointError) {
    let tensor = layout.header.tensors[index]
    guard bytes.byteCount <= tensor.byteRange.count - written[index] else {
      throw CheckpointError(
        .invalidRequest,
        "\(written[index] + bytes.byteCount) bytes were given, but the tensor has \(tensor.byteRange.count)",
        path: file.path, tensor: tensor.name)
    }
    try file.write(bytes, at: tensor.byteRange.lowerBound + written[index])
    written[index] += bytes.byteCount
  }

  /// Checks that every tensor is complete and makes sure that the file survives a power cut.
  ///
  /// - Throws: `.invalidRequest` if bytes of a tensor are missing, `.inputOutput` if syncing fails.
  public consuming func finish() throws(CheckpointError) {
    for (tensor, count) in zip(layout.header.tensors, written) where count < tensor.byteRange.count {
      throw CheckpointError(
        .invalidRequest, "only \(count) of \(tensor.byteRange.count) bytes were given", path: file.path,
        tensor: tensor.name)
    }
    try file.synchronize()
  }
}
