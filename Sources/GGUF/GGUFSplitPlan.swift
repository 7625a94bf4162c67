public import TensorFormats

/// A model laid out over several GGUF files, as llama.cpp's `gguf-split` lays it out: tensors in order, all
/// metadata in the first part, only the `split.*` keys (and `general.alignment`, which each file needs for
/// itself) in the others.
public struct GGUFSplitPlan: Hashable, Sendable {
  /// When a part is full.
  public enum Limit: Hashable, Sendable {
    /// The most bytes of tensor data in a part, padding included. The header comes on top.
    case bytes(Int)
    /// The most tensors in a part.
    case tensors(Int)
  }

  /// One file.
  public struct Part: Hashable, Sendable {
    /// Its name.
    public let name: GGUFSplitName
    /// Which of the tensors it holds.
    public let tensors: Range<Int>
    /// Its layout.
    public let layout: GGUFLayout
  }

  /// The files, in order. At least one.
  public let parts: [Part]

  /// Distributes tensors over files.
  ///
  /// - Parameters:
  ///   - prefix: What the files' names start with; a folder may be part of it.
  ///   - metadata: `split.*` keys in it are replaced.
  ///   - tensors: The tensors of all parts, in order.
  ///   - limit: When a part is full.
  ///   - metadataOnlyFirst: Give the first part no tensors, so that it is small and can be exchanged.
  ///   - alignment: As for ``GGUFLayout``, in all parts.
  ///   - version: As for ``GGUFLayout``, in all parts.
  ///   - byteOrder: As for ``GGUFLayout``, in all parts.
  /// - Throws: `.invalidRequest` if a tensor alone exceeds the limit, if there are more parts than a u16
  ///   counts or more tensors than an i32, or a name comes twice; and what ``GGUFLayout`` throws.
  public init(
    prefix: String, metadata: GGUFMetadata, tensors: [GGUFLayout.Tensor], limit: Limit,
    metadataOnlyFirst: Bool = false, alignment: Int? = nil, version: UInt32 = 3,
    byteOrder: GGUFByteOrder = .little
  ) throws(CheckpointError) {
    guard let total = Int32(exactly: tensors.count) else {
      throw CheckpointError(
        .invalidRequest, "\(tensors.count) tensors cannot be split, an i32 must count them")
    }
    // Planning a single file first finds any fault in a name, a shape, a type or the alignment.
    let whole = try GGUFLayout(
      metadata: metadata, tensors: tensors, alignment: alignment, version: version, byteOrder: byteOrder)
    var ranges = try GGUFSplitPlan.distribute(whole.header, limit: limit)
    if metadataOnlyFirst, !tensors.isEmpty { ranges.insert(0..<0, at: 0) }
    guard let count = UInt16(exactly: ranges.count) else {
      throw CheckpointError(
        .invalidRequest, "\(ranges.count) parts are too many, a u16 must count them",
        remedy: "choose a higher limit")
    }
    var parts: [Part] = []
    for (index, range) in ranges.enumerated() {
      var own = index == 0 ? whole.header.metadata : GGUFMetadata()
      if index > 0, whole.header.alignment != GGUFRules.defaultAlignment {
        own.set(GGUFRules.alignmentKey, .uint32(UInt32(whole.header.alignment)))
      }
      own.set(GGUFSplitKey.index, .uint16(UInt16(index)))
      own.set(GGUFSplitKey.count, .uint16(count))
      own.set(GGUFSplitKey.tensorCount, .int32(total))
      parts.append(
        Part(
          name: GGUFSplitName(prefix: prefix, index: index, count: ranges.count), tensors: range,
          layout: try GGUFLayout(
            metadata: own, tensors: Array(tensors[range]), version: version, byteOrder: byteOrder)))
    }
    self.parts = parts
  }

  private static func distribute(_ header: GGUFHeader, limit: Limit) throws(CheckpointError) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var start = 0
    var bytes = 0
    switch limit {
    case .tensors(let maximum):
      guard maximum > 0 else {
        throw CheckpointError(.invalidRequest, "a limit of \(maximum) tensors leaves no room for any")
      }
      for first in stride(from: 0, to: header.tensors.count, by: maximum) {
        start = first + min(maximum, header.tensors.count - first)
        ranges.append(first..<start)
      }
    case .bytes(let maximum):
      for (index, tensor) in header.tensors.enumerated() {
        // The plan of the whole file has already padded each of them, so this cannot overflow.
        let size = GGUFRules.padded(tensor.byteRange.count, to: header.alignment) ?? tensor.byteRange.count
        guard size <= maximum else {
          throw CheckpointError(
            .invalidRequest,
            "the tensor alone needs \(size) bytes, more than the \(maximum) allowed in a part",
            tensor: tensor.name, remedy: "choose a higher limit")
        }
        if size > maximum - bytes {
          ranges.append(start..<index)
          start = index
          bytes = 0
        }
        bytes += size
      }
      ranges.append(start..<header.tensors.count)
    }
    return ranges.isEmpty ? [0..<0] : ranges
  }
}
