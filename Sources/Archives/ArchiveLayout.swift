public import TensorFormats

/// A file divided into sections that are stored alike: its header, its tensors, and any bytes between and after them.
public struct ArchiveLayout: Sendable {
  /// Consecutive bytes of the file.
  public struct Section: Hashable, Sendable {
    /// Where they lie.
    public let range: Range<Int>
    /// What they hold; `nil` for what is not a tensor.
    public let elementType: ElementType?

    /// The pieces, each of which becomes a frame, so that no frame crosses a tensor boundary.
    public var pieces: some Sequence<Range<Int>> {
      stride(from: range.lowerBound, to: range.upperBound, by: ArchiveFormat.pieceByteCount).lazy.map {
        [end = range.upperBound] in $0..<Swift.min($0 + ArchiveFormat.pieceByteCount, end)
      }
    }
  }

  /// The maximum number of original bytes in one frame.
  package static let pieceByteCount = ArchiveFormat.pieceByteCount

  /// They cover the file, in order, without a gap; none is empty.
  public let sections: [Section]

  /// Divides a file into sections.
  ///
  /// - Parameters:
  ///   - byteCount: The length of the file.
  ///   - tensors: The byte ranges of the tensors, in any order.
  /// - Returns: `nil` if tensors overlap or extend past the file.
  /// - Complexity: O(*n* log *n*) for *n* tensors.
  public init?(byteCount: Int, tensors: [(range: Range<Int>, elementType: ElementType)]) {
    var sections: [Section] = []
    var end = 0
    for tensor in tensors.sorted(by: { $0.range.lowerBound < $1.range.lowerBound })
    where !tensor.range.isEmpty {
      guard tensor.range.lowerBound >= end, tensor.range.upperBound <= byteCount else { return nil }
      if tensor.range.lowerBound > end {
        sections.append(Section(range: end..<tensor.range.lowerBound, elementType: nil))
      }
      sections.append(Section(range: tensor.range, elementType: tensor.elementType))
      end = tensor.range.upperBound
    }
    if end < byteCount { sections.append(Section(range: end..<byteCount, elementType: nil)) }
    self.sections = sections
  }

  /// A file of unknown structure.
  public init(byteCount: Int) {
    sections = byteCount > 0 ? [Section(range: 0..<byteCount, elementType: nil)] : []
  }
}
