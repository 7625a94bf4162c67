public import TensorFormats

/// A way to keep a weight as codes and, in tensors of their own, the scales that belong to them: what serving engines
/// read from safetensors. (GGML's formats keep both in one block; they are element types.)
///
/// A weight `[R, C]`, or a stack of them `[E, R, C]`, becomes *components*: codes, scales and, for some schemes, one
/// more scale per matrix. A row's codes and scales depend on nothing but that row and the matrix's scale, except for
/// ``fp8Block``, whose tiles span rows.
///
/// | scheme | codes | scales | per matrix |
/// |---|---|---|---|
/// | `fp8Block` | F8_E4M3 `[R, C]` | F32 `[⌈R/128⌉, ⌈C/128⌉]` | |
/// | `fp8Channel` | F8_E4M3 `[R, C]` | F32 `[R, 1]` | |
/// | `int8Channel` | I8 `[R, C]` | F32 `[R, 1]` | |
/// | `int4Group(g)` | I32 `[R, C/8]`, eight codes + 8 a word, low nibble first | BF16 `[R, C/g]` | |
/// | `nvfp4` | U8 `[R, C/2]`, two E2M1 codes a byte, low nibble first | F8_E4M3 `[R, C/16]` | F32 |
/// | `mxfp4` | U8 `[R, C/2]`, likewise | U8 `[R, C/32]`, exponents (E8M0) | |
///
/// Source: the loaders of vLLM 0.33 and SGLang 0.5.23, compressed-tensors, NVIDIA's ModelOpt, and the OCP
/// Microscaling Formats specification 1.0.
public enum WeightScheme: Hashable, Sendable {
  /// Tiles of so many rows and columns share a scale; the format's own are 128 x 128.
  case fp8Block(rows: Int, columns: Int)
  /// A row shares a scale.
  case fp8Channel
  /// A row shares a scale.
  case int8Channel
  /// So many neighbours in a row share a scale.
  case int4Group(Int)
  /// 16 neighbours in a row share a scale of eight bits, and a matrix another.
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
    switch self {
    case .fp8Block, .fp8Channel, .int8Channel: nil
    case .int4Group(let length): length
    case .nvfp4: 16
    case .mxfp4: 32
    }
  }

  /// How codes are stored.
  public var codesType: ElementType {
    switch self {
    case .fp8Block, .fp8Channel: .f8E4M3
    case .int8Channel: .i8
    case .int4Group: .i32
    case .nvfp4, .mxfp4: .u8
    }
  }

  /// Whether each matrix has a scale that all its rows share.
  public var hasMatrixScale: Bool { self == .nvfp4 }

  /// The codes of a weight.
  ///
  /// - Returns: `nil` where ``misfit(_:)`` has something to say.
  public func codes(of shape: TensorShape) -> Component? {
    guard misfit(shape) == nil else { return nil }
    return Component(
      elementType: codesType, shape: shape.replacingColumns(shape.columns / codesPerElement))
  }

  /// The scales of a weight, without those of whole matrices.
  ///
  /// - Returns: `nil` where ``misfit(_:)`` has something to say.
  public func scales(of shape: TensorShape) -> Component? {
    guard misfit(shape) == nil else { return nil }
    switch self {
    case .fp8Block(let rows, let columns):
      var dimensions = shape.dimensions
      let rank = dimensions.count
      dimensions[rank - 2] = (dimensions[rank - 2] + rows - 1) / rows
      dimensions[rank - 1] = (dimensions[rank - 1] + columns - 1) / columns
      return Component(elementType: .f32, shape: TensorShape(dimensions))
    case .fp8Channel, .int8Channel: return Component(elementType: .f32, shape: shape.replacingColumns(1))
    case .int4Group(let length):
      return Component(elementType: .bf16, shape: shape.replacingColumns(shape.columns / length))
    case .nvfp4: return Component(elementType: .f8E4M3, shape: shape.replacingColumns(shape.columns / 16))
    case .mxfp4: return Component(elementType: .u8, shape: shape.replacingColumns(shape.columns / 32))
    }
  }

  /// Why a weight of this shape cannot be stored so; `nil` if it can.
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
  /// What messages call it.
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
