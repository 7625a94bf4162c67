public import TensorFormats

/// A file cut into what is stored in the same way: its header, its tensors, and what lies between and behind them.
public struct ArchiveLayout: Sendable {
  /// Consecutive bytes of the file.
  public struct Section: Hashable, Sendable {
    /// Where they lie.
    public let range: Range<Int>
    /// What they hold; `nil` for what is no tensor.
    public let elementType: ElementType?

    /// The pieces, each of which becomes a frame, so that no frame crosses the border of a tensor.
    public var pieces: some Sequence<Range<Int>> {
      stride(from: range.lowerBound, to: range.upperBound, by: ArchiveFormat.pieceByteCount).lazy.map {
        [end = range.upperBound] in $0..<Swift.min($0 + ArchiveFormat.pieceByteCount, end)
      }
    }
  }

  /// How many bytes of the original a frame stands for, at the most.
  package static let pieceByteCount = ArchiveFormat.pieceByteCount

  /// They cover the file, in order, without a gap; none is empty.
  public let sections: [Section]

  /// Cuts a file.
  ///
  /// - Parameters:
  ///   - byteCount: The length of the file.
  ///   - tensors: Where tensors lie, in any order.
  /// - Returns: `nil` if tensors overlap or lie outside.
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

  /// A file of which nothing is known.
  public init(byteCount: Int) {
    sections = byteCount > 0 ? [Section(range: 0..<byteCount, elementType: nil)] : []
  }
}
