public import TensorFormats

// The same for bytes in an array, for small data.

extension SafetensorsHeader {
  /// Checks the header of a file that was read whole, or of which the beginning was; see
  /// ``parse(_:fileByteCount:)-(RawSpan,_)``.
  ///
  /// - Parameters:
  ///   - bytes: The file from its start to the end of the header at least.
  ///   - fileByteCount: The size of the file; that of `bytes` unless given.
  /// - Throws: As there.
  public static func parse(_ bytes: [UInt8], fileByteCount: Int? = nil) throws(CheckpointError)
    -> SafetensorsHeader
  {
    try unsafe parse(bytes.span.bytes, fileByteCount: fileByteCount ?? bytes.count)
  }
}

extension SafetensorsIndex {
  /// Checks the text of an index; see ``parse(_:)-(RawSpan)``.
  ///
  /// - Throws: As there.
  public static func parse(_ bytes: [UInt8]) throws(CheckpointError) -> SafetensorsIndex {
    try unsafe parse(bytes.span.bytes)
  }
}

extension SafetensorsWriter {
  /// Writes some bytes of a tensor; see ``write(tensor:at:bytes:)-(_,_,RawSpan)``.
  ///
  /// - Throws: As there.
  public func write(tensor name: String, at offset: Int = 0, bytes: [UInt8]) throws(CheckpointError) {
    try unsafe write(tensor: name, at: offset, bytes: bytes.span.bytes)
  }
}
