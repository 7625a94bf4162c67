public import TensorFormats

/// The header of one safetensors file: its tensors and its metadata, checked against every rule of the format.
/// Owns no tensor data.
///
/// Source: the safetensors format, version 0.8 (`safetensors/src/tensor.rs`).
public struct SafetensorsHeader: Hashable, Sendable {
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
}
