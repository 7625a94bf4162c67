internal import JSON
public import TensorFormats

/// A safetensors file to be written: its header, and where each tensor's bytes go.
///
/// A pure function of its arguments, without any tensor data: whoever has the data writes it to the byte ranges of
/// ``header``, in any order. With the reference order and alignment 8 the header is, byte for byte, what the
/// `safetensors` package writes (given metadata with one key at most: it writes several in random order, here they
/// are sorted).
public struct SafetensorsLayout: Hashable, Sendable {
  /// A tensor to be stored.
  public struct Item: Hashable, Sendable {
    /// Its name.
    public let name: String
    /// Its element type, one of ``TensorFormats/ElementType/safetensorsTypes``.
    public let elementType: ElementType
    /// Row-major.
    public let shape: TensorShape

    /// Describes a tensor.
    public init(name: String, elementType: ElementType, shape: TensorShape) {
      self.name = name
      self.elementType = elementType
      self.shape = shape
    }
  }

  /// How tensors follow each other.
  public enum Order: Hashable, Sendable {
    /// As the reference writer sorts: rank of the element type descending (see
    /// ``TensorFormats/ElementType/safetensorsRank``), so that every tensor is aligned to its elements, then name,
    /// bytewise.
    case reference
    /// As given. To align further tensors as `alignment` does the first, put those first whose sizes are multiples
    /// of it: the format allows no gaps.
    case asGiven
  }

  /// What a reader of the finished file will see.
  public let header: SafetensorsHeader
  /// The start of the file: length, JSON text, padding. As long as `header.dataOffset`.
  public let headerBytes: [UInt8]

  /// How long the finished file is.
  public var fileByteCount: Int { headerBytes.count + header.dataByteCount }

  /// Lays out a file.
  ///
  /// - Parameters:
  ///   - items: The tensors.
  ///   - metadata: `__metadata__`, which is left out if empty.
  ///   - order: How the tensors follow each other.
  ///   - alignment: The header is padded with spaces until the first tensor starts on a multiple of this: a power of
  ///     two from 8.
  /// - Throws: `.invalidRequest` for a name that appears twice or is `__metadata__`, for a shape that ends inside a
  ///   byte, for sizes that overflow, and for another alignment. `.unsupported` for an element type that safetensors
  ///   does not have, and for a header longer than the format allows.
  /// - Complexity: O(*n* log *n*) in the number of tensors.
  public init(
    _ items: [Item], metadata: [String: String] = [:], order: Order = .reference, alignment: Int = 8
  ) throws(CheckpointError) {
    guard alignment >= 8, alignment & (alignment - 1) == 0 else {
      throw CheckpointError(.invalidRequest, "an alignment of \(alignment) is not a power of two from 8 on")
    }
    var items = items
    if order == .reference { items.sort(by: Self.precedesInReferenceOrder) }
    let ends = try Self.checkedEnds(of: items)
    var text = Self.json(items, ends: ends, metadata: metadata)
    let field = SafetensorsHeader.lengthFieldByteCount
    let unpadded = text.count + field
    // Compared before rounding up, which cannot overflow then unless the alignment is absurd.
    let (sum, overflow) = unpadded.addingReportingOverflow(alignment - 1)
    let dataOffset = sum & ~(alignment - 1)
    guard !overflow, dataOffset - field <= SafetensorsHeader.maximumByteCount else {
      throw CheckpointError(
        .unsupported,
        "the header of these \(items.count) tensors would be longer than the \(SafetensorsHeader.maximumByteCount) "
          + "bytes that safetensors allows",
        remedy: "write more and smaller shards, or use a smaller alignment")
    }
    guard (ends.last ?? 0) <= Int.max - dataOffset else { throw Self.overflow }
    text += [UInt8](repeating: UInt8(ascii: " "), count: dataOffset - unpadded)

    let length = UInt64(dataOffset - field)
    headerBytes = (0..<field).map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) } + text
    var begin = dataOffset
    var tensors: [SafetensorsHeader.Tensor] = []
    var indices = [String: Int](minimumCapacity: items.count)
    tensors.reserveCapacity(items.count)
    for (index, item) in items.enumerated() {
      let end = dataOffset + ends[index]
      tensors.append(
        SafetensorsHeader.Tensor(
          name: item.name, elementType: item.elementType, shape: item.shape, byteRange: begin..<end))
      begin = end
      guard indices.updateValue(index, forKey: item.name) == nil else {
        throw CheckpointError(.invalidRequest, "the name appears twice", tensor: item.name)
      }
    }
    header = SafetensorsHeader(tensors: tensors, metadata: metadata, dataOffset: dataOffset, indices: indices)
  }
}

// MARK: - The steps

extension SafetensorsLayout {
  private static func precedesInReferenceOrder(_ left: Item, _ right: Item) -> Bool {
    let (leftRank, rightRank) = (left.elementType.safetensorsRank, right.elementType.safetensorsRank)
    guard leftRank == rightRank else { return leftRank ?? -1 > rightRank ?? -1 }
    return left.name.precedesBytewise(right.name)
  }

  /// Where each item ends, counted from the start of the data section.
  private static func checkedEnds(of items: [Item]) throws(CheckpointError) -> [Int] {
    var ends: [Int] = []
    ends.reserveCapacity(items.count)
    var end = 0
    for item in items {
      let byteCount = try item.checkedByteCount()
      let (sum, overflow) = end.addingReportingOverflow(byteCount)
      guard !overflow else { throw Self.overflow }
      end = sum
      ends.append(end)
    }
    return ends
  }

  private static var overflow: CheckpointError {
    CheckpointError(.invalidRequest, "the tensors together are larger than any file can be")
  }

  /// The JSON text, as serde_json prints it: no white space, metadata first.
  private static func json(_ items: [Item], ends: [Int], metadata: [String: String]) -> [UInt8] {
    var text: [UInt8] = []
    text.reserveCapacity(items.count * 128)
    text.append(UInt8(ascii: "{"))
    if !metadata.isEmpty {
      JSONText.append(SafetensorsHeader.metadataKey, to: &text, style: .minimal)
      text += Array(":{".utf8)
      for (index, entry) in metadata.sorted(by: { $0.key.precedesBytewise($1.key) }).enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        JSONText.append(entry.key, to: &text, style: .minimal)
        text.append(UInt8(ascii: ":"))
        JSONText.append(entry.value, to: &text, style: .minimal)
      }
      text.append(UInt8(ascii: "}"))
    }
    var begin = 0
    for (index, item) in items.enumerated() {
      if index > 0 || !metadata.isEmpty { text.append(UInt8(ascii: ",")) }
      JSONText.append(item.name, to: &text, style: .minimal)
      let dimensions = item.shape.dimensions.map(String.init).joined(separator: ",")
      text += Array(
        #":{"dtype":"\#(item.elementType)","shape":[\#(dimensions)],"data_offsets":[\#(begin),\#(ends[index])]}"#
          .utf8)
      begin = ends[index]
    }
    text.append(UInt8(ascii: "}"))
    return text
  }
}

extension SafetensorsLayout.Item {
  /// The tensor's bytes in a safetensors file.
  ///
  /// - Throws: `.unsupported` or `.invalidRequest` if a safetensors file cannot hold it.
  func checkedByteCount() throws(CheckpointError) -> Int {
    guard name != SafetensorsHeader.metadataKey else {
      throw CheckpointError(.invalidRequest, "the name is reserved for metadata", tensor: name)
    }
    guard elementType.isSafetensorsType else {
      throw CheckpointError(
        .unsupported, "safetensors has no element type \(elementType)", tensor: name,
        remedy: "write GGUF, or convert to another type")
    }
    guard let byteCount = shape.byteCount(as: elementType) else {
      throw CheckpointError(
        .invalidRequest, "shape \(shape) as \(elementType) is not a whole number of bytes that fits",
        tensor: name)
    }
    return byteCount
  }
}
