public import TensorFormats

/// The header of one safetensors file: its tensors and its metadata, checked against every rule of the format.
/// Owns no tensor data.
///
/// Made by ``read(from:)`` or ``parse(_:fileByteCount:)-(RawSpan,_)``, or part of a ``SafetensorsLayout``. In each case the byte
/// ranges of ``tensors`` tile the file from ``dataOffset`` to its end, without hole or overlap.
///
/// Source: the safetensors format, version 0.8 (`safetensors/src/tensor.rs`).
public struct SafetensorsHeader: Sendable {
  /// One tensor of the file.
  public struct Tensor: Hashable, Sendable {
    /// The name, unique in the file.
    public let name: String
    /// The element type.
    public let elementType: ElementType
    /// Row-major.
    public let shape: TensorShape
    /// The tensor's bytes, counted from the start of the file.
    public let byteRange: Range<Int>

    /// Describes a tensor.
    public init(name: String, elementType: ElementType, shape: TensorShape, byteRange: Range<Int>) {
      self.name = name
      self.elementType = elementType
      self.shape = shape
      self.byteRange = byteRange
    }
  }

  /// The tensors, by rising offset.
  public let tensors: [Tensor]
  /// `__metadata__`; empty if the file has none.
  public let metadata: [String: String]
  /// Where tensor data starts: 8 plus the header's length.
  public let dataOffset: Int
  /// Where in ``tensors`` a name is.
  private let indices: [String: Int]

  /// Takes over values that were checked.
  ///
  /// - Parameter indices: For every name its place in `tensors`.
  init(tensors: [Tensor], metadata: [String: String], dataOffset: Int, indices: [String: Int]) {
    self.tensors = tensors
    self.metadata = metadata
    self.dataOffset = dataOffset
    self.indices = indices
  }
}

// MARK: - Looking up

extension SafetensorsHeader {
  /// The tensor of this name.
  ///
  /// - Complexity: O(1) on average.
  public func tensor(named name: String) -> Tensor? { index(of: name).map { tensors[$0] } }

  /// Where in ``tensors`` the tensor of this name is.
  ///
  /// - Complexity: O(1) on average.
  public func index(of name: String) -> Int? { indices[name] }

  /// The bytes of all tensors together.
  public var dataByteCount: Int { (tensors.last?.byteRange.upperBound ?? dataOffset) - dataOffset }
}

// MARK: - Comparing

extension SafetensorsHeader: Hashable {
  public static func == (left: SafetensorsHeader, right: SafetensorsHeader) -> Bool {
    left.dataOffset == right.dataOffset && left.tensors == right.tensors && left.metadata == right.metadata
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(dataOffset)
    hasher.combine(tensors)
    hasher.combine(metadata)
  }
}

// MARK: - Limits

extension SafetensorsHeader {
  /// The bytes before the JSON text: its length as a little-endian 64-bit number.
  package static let lengthFieldByteCount = 8

  /// The longest JSON text that the reference reader accepts (`MAX_HEADER_SIZE`). Hugging Face's client stops at
  /// 25,000,000 bytes already.
  public static let maximumByteCount = 100_000_000

  /// The key that holds metadata, and so cannot name a tensor.
  package static let metadataKey = "__metadata__"
}
