public import TensorFormats

/// A GGUF file planned to the byte: its header, and where each tensor's data belongs.
///
/// The header is written first and never again; tensor data may then be streamed to its place in any order.
/// Bytes that no tensor covers are zero.
///
/// Reading a file whose header is ``headerBytes`` gives ``header`` again, and a layout made of a header that
/// was read has that file's bytes: order and types are kept.
public struct GGUFLayout: Hashable, Sendable {
  /// A tensor to be written.
  public struct Tensor: Hashable, Sendable {
    /// Unique in the file, at most 63 bytes.
    public let name: String
    /// A type that GGUF can hold.
    public let elementType: ElementType
    /// Row-major, at most four dimensions, rows of whole blocks.
    public let shape: TensorShape

    /// Describes a tensor.
    public init(name: String, elementType: ElementType, shape: TensorShape) {
      self.name = name
      self.elementType = elementType
      self.shape = shape
    }
  }

  /// What a reader of the file will see; its tensors have their absolute byte ranges.
  public let header: GGUFHeader
  /// The file's first bytes, zeros up to the next multiple of the alignment included.
  public let headerBytes: [UInt8]
  /// The size of the whole file, padding behind the last tensor included.
  public let byteCount: Int

  /// Plans a file with its tensors in the given order.
  ///
  /// - Parameters:
  ///   - metadata: Written in its order.
  ///   - tensors: The tensors, laid out in this order.
  ///   - alignment: A power of two below 2³², which is also recorded as `general.alignment` unless it is the default;
  ///     `nil` to go by the metadata, whose default is 32.
  ///   - version: 2 or 3, which differ only in that files of version 2 are little-endian by convention.
  ///   - byteOrder: Tensor data must be written in this order too, see ``GGUFByteOrder/swapPayload(_:_:)``.
  /// - Throws: `.invalidRequest` if something breaks a rule of the format, `.unsupported` for an element type
  ///   that GGUF does not have.
  public init(
    metadata: GGUFMetadata, tensors: [Tensor], alignment: Int? = nil, version: UInt32 = 3,
    byteOrder: GGUFByteOrder = .little
  ) throws(CheckpointError) {
    guard GGUFRules.versions.contains(version) else {
      throw CheckpointError(.invalidRequest, "GGUF version \(version) cannot be written, only 2 and 3")
    }
    var metadata = metadata
    if let alignment {
      guard let value = UInt32(exactly: alignment) else {
        throw CheckpointError(.invalidRequest, "an alignment of \(alignment) bytes is not a u32")
      }
      if alignment != GGUFRules.defaultAlignment || metadata[GGUFRules.alignmentKey] != nil {
        metadata.set(GGUFRules.alignmentKey, .uint32(value))
      }
    }
    let finalAlignment: Int
    switch GGUFRules.alignment(of: metadata) {
    case .success(let alignment): finalAlignment = alignment
    case .failure(let objection): throw CheckpointError(.invalidRequest, objection.text)
    }
    var encoder = GGUFEncoder(byteOrder: byteOrder)
    encoder.append(raw: GGUFRules.magic)
    encoder.append(version)
    encoder.append(Int64(tensors.count))
    encoder.append(Int64(metadata.entries.count))
    try encoder.appendChecked(metadata)
    let (ranges, dataByteCount) = try encoder.appendChecked(tensors, alignment: finalAlignment)
    let tableEnd = encoder.bytes.count
    encoder.pad(to: finalAlignment)
    let start = encoder.bytes.count
    guard start <= GGUFRules.maximumHeaderByteCount else {
      throw CheckpointError(
        .invalidRequest,
        "the header has \(start) bytes, at most \(GGUFRules.maximumHeaderByteCount) can be read again")
    }
    guard dataByteCount <= Int.max - start else {
      throw CheckpointError(.invalidRequest, "the size of the file overflows")
    }
    headerBytes = encoder.bytes
    byteCount = start + dataByteCount
    header = GGUFHeader(
      version: version, byteOrder: byteOrder, metadata: metadata,
      tensors: zip(tensors, ranges).map { tensor, range in
        GGUFHeader.Tensor(
          name: tensor.name, elementType: tensor.elementType, shape: tensor.shape,
          byteRange: (start + range.lowerBound)..<(start + range.upperBound))
      },
      alignment: finalAlignment, dataOffset: tensors.isEmpty ? tableEnd : start)
  }

  /// Plans a file with the same header as one that was read.
  ///
  /// - Throws: As ``init(metadata:tensors:alignment:version:byteOrder:)``; a header that was read breaks none
  ///   of the format's rules.
  public init(rewriting header: GGUFHeader) throws(CheckpointError) {
    try self.init(
      metadata: header.metadata,
      tensors: header.tensors.map { Tensor(name: $0.name, elementType: $0.elementType, shape: $0.shape) },
      version: header.version, byteOrder: header.byteOrder)
  }

  /// The zeros behind each tensor, up to the next one or the end of the file; empty ranges are left out.
  public var paddingRanges: [Range<Int>] {
    var ranges: [Range<Int>] = []
    for (index, tensor) in header.tensors.enumerated() {
      let isLast = index + 1 == header.tensors.count
      let next = isLast ? byteCount : header.tensors[index + 1].byteRange.lowerBound
      if tensor.byteRange.upperBound < next { ranges.append(tensor.byteRange.upperBound..<next) }
    }
    return ranges
  }
}

extension GGUFEncoder {
  fileprivate mutating func appendChecked(_ metadata: GGUFMetadata) throws(CheckpointError) {
    for entry in metadata.entries {
      if let objection = GGUFRules.objection(toKey: entry.key) {
        throw CheckpointError(.invalidRequest, objection)
      }
      let longest =
        switch entry.value {
        case .string(let text): text.utf8.count
        case .array(.string(let texts)): texts.lazy.map { $0.utf8.count }.max() ?? 0
        default: 0
        }
      guard longest <= GGUFRules.maximumStringByteCount else {
        throw CheckpointError(
          .invalidRequest, "the value of '\(entry.key.printable)' has a string of \(longest) bytes")
      }
      if case .array(let array) = entry.value, array.count > GGUFRules.maximumArrayCount {
        throw CheckpointError(
          .invalidRequest, "the value of '\(entry.key.printable)' has \(array.count) elements")
      }
      append(entry.key)
      append(entry.value)
    }
  }

  /// Appends the tensor table.
  ///
  /// - Returns: Each tensor's bytes, relative to the start of tensor data, and the end of the last one,
  ///   padded.
  fileprivate mutating func appendChecked(
    _ tensors: [GGUFLayout.Tensor], alignment: Int
  ) throws(CheckpointError) -> (ranges: [Range<Int>], byteCount: Int) {
    var names: Set<ExactText> = []
    var ranges: [Range<Int>] = []
    var offset = 0
    for tensor in tensors {
      if let objection = GGUFRules.objection(toTensorName: tensor.name) {
        throw CheckpointError(
          .invalidRequest, objection, tensor: tensor.name,
          remedy: "GGML keeps names in 64 bytes, so the tensor needs a shorter one")
      }
      guard names.insert(ExactText(tensor.name)).inserted else {
        throw CheckpointError(.invalidRequest, "the name appears twice", tensor: tensor.name)
      }
      guard let id = tensor.elementType.ggmlTypeID else {
        throw CheckpointError(
          .unsupported, "GGUF has no element type \(tensor.elementType)", tensor: tensor.name,
          remedy: "convert the tensor to a type that GGUF has")
      }
      guard tensor.shape.rank <= GGUFRules.maximumRank else {
        throw CheckpointError(
          .invalidRequest,
          "shape \(tensor.shape) has \(tensor.shape.rank) dimensions, GGUF allows \(GGUFRules.maximumRank)",
          tensor: tensor.name)
      }
      let size: Int
      switch GGUFRules.byteCount(of: tensor.shape, as: tensor.elementType) {
      case .success(let count): size = count
      case .failure(let objection):
        throw CheckpointError(.invalidRequest, objection.text, tensor: tensor.name)
      }
      append(tensor.name)
      append(UInt32(tensor.shape.rank))
      for dimension in tensor.shape.dimensions.reversed() { append(Int64(dimension)) }
      append(id)
      append(UInt64(offset))
      let (end, overflow) = offset.addingReportingOverflow(size)
      guard !overflow, let next = GGUFRules.padded(end, to: alignment) else {
        throw CheckpointError(.invalidRequest, "the size of the file overflows", tensor: tensor.name)
      }
      ranges.append(offset..<end)
      offset = next
    }
    return (ranges, offset)
  }
}
