internal import ByteStreams
internal import TensorFormats

/// A run of bytes of one file, and what they should be.
struct CheckedRange: Sendable {
  enum Content: Sendable {
    /// Bytes with this XXH3-128.
    case digest(String)
    /// Padding.
    case zeros
  }

  let file: String
  let range: Range<Int>
  let content: Content
  var tensor: String?

  /// Read at a time.
  private static let chunk = 4 << 20

  /// Reads the range and compares it.
  ///
  /// - Parameter progress: Called with the size of each piece read.
  /// - Returns: What is wrong, or `nil`. A file that is too short has been reported by its size already, yet every
  ///   range that is missing is named as well.
  func check(in store: any ByteStore, progress: (Int) -> Void) -> ChecksumReport.Finding? {
    do throws(CheckpointError) {
      let source = try store.open(file)
      guard source.byteCount >= range.upperBound else {
        return finding(.changed, "bytes are missing: the file ends at \(source.byteCount)")
      }
      let buffer = BufferPool(keep: 0).take(min(Self.chunk, max(1, range.count)))
      var digester = XXH3Digester()
      var position = range.lowerBound
      while position < range.upperBound {
        let count = min(buffer.byteCount, range.upperBound - position)
        let clean = try buffer.fill { (span) throws(CheckpointError) -> Bool in
          var piece = span._mutatingExtracting(first: count)
          try source.read(into: &piece, at: position)
          guard case .zeros = content else { return true }
          return piece.bytes.isZero
        }
        guard clean else { return finding(.changed, "padding is not zero") }
        digester.update(buffer.bytes.extracting(0..<count))
        position += count
        progress(count)
      }
      if case .digest(let expected) = content {
        let found = "\(digester.finalize())"
        if found != expected { return finding(.changed, "XXH3-128 is \(found), \(expected) was written") }
      }
      return nil
    } catch {
      return finding(.unreadable, error.message)
    }
  }

  private func finding(_ kind: ChecksumReport.Finding.Kind, _ message: String) -> ChecksumReport.Finding {
    ChecksumReport.Finding(
      kind: kind, file: file, tensor: tensor, start: range.lowerBound, end: range.upperBound,
      message: message,
      fatal: true)
  }
}

extension RawSpan {
  /// Whether every byte is 0.
  fileprivate var isZero: Bool {
    for offset in byteOffsets where unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self) != 0 {
      return false
    }
    return true
  }
}
