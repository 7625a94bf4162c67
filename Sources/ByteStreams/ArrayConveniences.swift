public import TensorFormats

// The same for bytes in an array, for small data.

extension XXH3Digester {
  /// Takes in the next bytes.
  public mutating func update(_ bytes: [UInt8]) { unsafe update(bytes.span.bytes) }
}

extension SHA256Digester {
  /// Takes in the next bytes.
  public mutating func update(_ bytes: [UInt8]) { unsafe update(bytes.span.bytes) }
}

extension OutputFile {
  /// Writes all of `bytes` at `offset`.
  ///
  /// - Throws: `.inputOutput`.
  public func write(_ bytes: [UInt8], at offset: Int) throws(CheckpointError) {
    try unsafe write(bytes.span.bytes, at: offset)
  }
}

extension FileSystem {
  /// Writes a small file atomically: to a temporary name beside it, synced, then renamed into place.
  ///
  /// - Throws: `.cannotCreate`, `.inputOutput`.
  public static func writeAtomically(_ bytes: [UInt8], to path: String) throws(CheckpointError) {
    try unsafe writeAtomically(bytes.span.bytes, to: path)
  }
}

extension Digest {
  /// SHA-256 of bytes in one piece.
  public static func sha256(of bytes: [UInt8]) -> Digest {
    var digester = SHA256Digester()
    digester.update(bytes)
    return digester.finalize()
  }
}
