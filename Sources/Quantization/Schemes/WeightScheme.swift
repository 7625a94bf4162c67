public import TensorFormats

/// A way to store a weight as codes and, in separate tensors, their scales: what serving engines read from
/// safetensors. (GGML's formats keep both in one block; they are element types.)
///
/// A weight `[R, C]`, or a stack of them `[E, R, C]`, becomes *components*: codes, scales and, for some schemes, one
/// more scale per matrix. A row's codes and scales depend on nothing but that row and the matrix's scale, except for
/// ``fp8Block(rows:columns:)``, whose tiles span rows.
///
/// ``SchemeGeometry`` says how large they are and what they hold: codes of four bits are packed, the first in the lowest
/// bits (INT4 with 8 added).
///
/// Source: the loaders of vLLM 0.33 and SGLang 0.5.23, compressed-tensors, NVIDIA's ModelOpt, and the OCP
/// Microscaling Formats specification 1.0.
public enum WeightScheme: Hashable, Sendable {
  /// Tiles of this size share a scale; the format's own are 128 x 128.
  case fp8Block(rows: Int, columns: Int)
  /// A row shares a scale.
  case fp8Channel
  /// A row shares a scale.
  case int8Channel
  /// This many neighbours in a row share a scale.
  case int4Group(Int)
  /// 16 neighbours in a row share an eight-bit scale, and a matrix has another.
  case nvfp4
  /// 32 neighbours in a row share a power of two.
  case mxfp4

  /// Block-FP8 as it is written.
  public static let fp8Tiles = WeightScheme.fp8Block(rows: BlockFP8.side, columns: BlockFP8.side)
}

// MARK: - Components

extension WeightScheme {
  /// One of the tensors that a weight is stored as.
  public struct Component: Hashable, Sendable {
    /// How its elements are stored.
    public let elementType: ElementType
    /// Row-major.
    public let shape: TensorShape

    /// Describes one.
    public init(elementType: ElementType, shape: TensorShape) {
      self.elementType = elementType
      self.shape = shape
    }
  }

  /// The elements of a row that share a scale; `nil` where all of a row do, or where tiles do.
  public var groupLength: Int? {
    if case .fp8Block = self { return nil }
    return geometry.scaleWidth
  }

  /// The codes of a weight.
  ///
  /// - Returns: `nil` if ``misfit(_:)`` gives a reason.
  public func codes(of shape: TensorShape) -> Component? {
    guard misfit(shape) == nil else { return nil }
    return Component(
      elementType: geometry.codesType,
      shape: shape.replacingColumns(shape.columns / geometry.codesPerElement))
  }

  /// The scales of a weight, without those of whole matrices.
  ///
  /// - Returns: `nil` if ``misfit(_:)`` gives a reason.
  public func scales(of shape: TensorShape) -> Component? {
    guard misfit(shape) == nil else { return nil }
    var dimensions = shape.dimensions
    let rank = dimensions.count
    dimensions[rank - 2] = geometry.scaleRows(of: dimensions[rank - 2])
    dimensions[rank - 1] = geometry.scaleColumns(of: dimensions[rank - 1])
    return Component(elementType: geometry.scalesType, shape: TensorShape(dimensions))
  }

  /// Why a weight of this shape cannot be stored in this scheme; `nil` if it can.
  public func misfit(_ shape: TensorShape) -> String? {
    guard (2...3).contains(shape.rank) else { return "\(self) stores matrices, and the shape is \(shape)" }
    if let length = groupLength, length < 1 || shape.columns % length != 0 {
      return "rows of \(shape.columns) elements are not whole groups of \(length) (\(self))"
    }
    if case .int4Group = self, shape.columns % 8 != 0 {
      return "rows of \(shape.columns) elements are not whole words of eight codes (\(self))"
    }
    return nil
  }
}

extension WeightScheme: CustomStringConvertible {
  /// The name in messages.
  public var description: String {
    switch self {
    case .fp8Block(BlockFP8.side, BlockFP8.side): "block-FP8"
    case .fp8Block(let rows, let columns): "block-FP8 of \(rows) x \(columns)"
    case .fp8Channel: "FP8 by rows"
    case .int8Channel: "INT8 by rows"
    case .int4Group(let length): "INT4 in groups of \(length)"
    case .nvfp4: "NVFP4"
    case .mxfp4: "MXFP4"
    }
  }
}

extension TensorShape {
  fileprivate func replacingColumns(_ columns: Int) -> TensorShape {
    TensorShape(dimensions.dropLast() + [columns])
  }
}
