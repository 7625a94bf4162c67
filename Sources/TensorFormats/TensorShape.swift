/// The dimensions of a tensor, row-major: outermost first, as PyTorch and safetensors write them.
///
/// GGUF files store dimensions innermost first; the `GGUF` module reverses them on the way in and out, so that every
/// shape in this package reads the same way.
public struct TensorShape: Hashable, Sendable {
  /// Outermost first; empty for a scalar.
  public let dimensions: [Int]
  /// The product of the dimensions; 1 for a scalar, 0 if any dimension is 0.
  public let elementCount: Int

  /// Makes a shape from dimensions known to be valid.
  ///
  /// - Precondition: No dimension is negative, and their product does not overflow. Use ``init(checking:)`` for
  ///   dimensions that come from a file.
  public init(_ dimensions: [Int]) {
    guard let shape = TensorShape(checking: dimensions) else {
      preconditionFailure("the dimensions \(dimensions) are negative or overflow")
    }
    self = shape
  }

  /// Makes a shape; `nil` if a dimension is negative or the product overflows.
  ///
  /// An overflow counts even where a later dimension is 0, as in the safetensors reference.
  public init?(checking dimensions: [Int]) {
    var product = 1
    for dimension in dimensions {
      guard dimension >= 0 else { return nil }
      let (next, overflow) = product.multipliedReportingOverflow(by: dimension)
      guard !overflow else { return nil }
      product = next
    }
    self.dimensions = dimensions
    self.elementCount = product
  }

  /// The number of dimensions.
  public var rank: Int { dimensions.count }

  /// The innermost dimension: the length of a row. 1 for a scalar.
  public var columns: Int { dimensions.last ?? 1 }

  /// How many rows of ``columns`` elements there are; 0 for an empty tensor.
  public var rows: Int { columns == 0 ? 0 : elementCount / columns }

  /// The bytes that a tensor of this shape takes; `nil` if it ends inside a block or the result overflows.
  ///
  /// For GGML's block formats each *row* must be a whole number of blocks; the sub-byte scalars of safetensors are
  /// packed across rows, so only their total counts.
  public func byteCount(as type: ElementType) -> Int? {
    if type.isBlockQuantized, columns % type.block.elements != 0 { return nil }
    return type.block.byteCount(ofElements: elementCount)
  }
}

extension TensorShape: CustomStringConvertible {
  /// `[48, 5120, 7168]`
  public var description: String { "[" + dimensions.map(String.init).joined(separator: ", ") + "]" }
}

extension TensorShape: Codable {
  /// Decodes a list of dimensions, outermost first.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let shape = TensorShape(checking: try container.decode([Int].self)) else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "a dimension is negative, or their product overflows")
    }
    self = shape
  }

  /// Encodes the list of dimensions, outermost first.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(dimensions)
  }
}
