public import TensorFormats

// The same for bytes in an array, for small data.

extension GGUFWriter {
  /// Writes the next bytes of a tensor; see ``append(_:toTensor:)-(RawSpan,_)``.
  ///
  /// - Throws: As there.
  public mutating func append(_ bytes: [UInt8], toTensor index: Int) throws(CheckpointError) {
    try unsafe append(bytes.span.bytes, toTensor: index)
  }
}
