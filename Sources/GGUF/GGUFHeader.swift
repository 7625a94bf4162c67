public import TensorFormats

/// The header of one GGUF file: metadata and the tensor table, checked against every rule of the format.
/// Owns no tensor data.
///
/// Source: the GGUF specification (`ggml/docs/gguf.md`) and its reference reader (`ggml/src/gguf.cpp`).
public struct GGUFHeader: Hashable, Sendable {
  /// One tensor of the file.
  public struct Tensor: Hashable, Sendable {
    /// The name, unique in the file, at most 63 bytes.
    public let name: String
    /// The element type.
    public let elementType: ElementType
    /// Row-major (the file stores the dimensions the other way round).
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

  /// 2 or 3.
  public let version: UInt32
  /// The byte order of every number in the file, tensor data included.
  public let byteOrder: GGUFByteOrder
  /// Key-value pairs, in file order.
  public let metadata: GGUFMetadata
  /// The tensors, in file order, which is also by rising offset.
  public let tensors: [Tensor]
  /// `general.alignment`, or 32: each tensor starts on a multiple of it, counted from ``dataOffset``.
  public let alignment: Int
  /// Where tensor data starts, in bytes from the start of the file.
  public let dataOffset: Int
}

/// The order of the bytes in a number.
public enum GGUFByteOrder: Hashable, Sendable {
  /// Least significant byte first, as nearly all files are.
  case little
  /// Most significant byte first, as files for big-endian machines are.
  case big
}
