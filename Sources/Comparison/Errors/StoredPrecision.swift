internal import Checkpoint
public import StoredWeights
public import Quantization
public import TensorFormats

/// How a tensor is stored, as far as it matters for precision.
public struct StoredPrecision: Hashable, Sendable {
  /// How codes and scales make values; `nil` for a tensor that holds the values itself.
  public let scheme: WeightScheme?
  /// The element type of the values or codes.
  public let elementType: ElementType

  /// A tensor that holds the values itself.
  public init(_ elementType: ElementType) {
    scheme = nil
    self.elementType = elementType
  }

  /// Codes and separate scale tensors.
  public init(_ scheme: WeightScheme) {
    self.scheme = scheme
    elementType =
      switch scheme {
      case .fp8Block, .fp8Channel: .f8E4M3
      case .int8Channel: .i8
      case .int4Group: .i32
      case .nvfp4, .mxfp4: .u8
      }
  }

  /// As a weight is stored.
  public init(_ stored: StoredWeight) {
    scheme = stored.scheme?.scheme
    elementType = stored.codes.elementType
  }

  /// The name in reports: `BF16`, `Q4_K`, `FP8_BLOCK`, `INT4_G128`.
  public var name: String {
    guard let scheme else { return elementType.rawValue }
    return switch scheme {
    case .fp8Block(BlockFP8.side, BlockFP8.side): "FP8_BLOCK"
    case .fp8Block(let rows, let columns): "FP8_BLOCK_\(rows)x\(columns)"
    case .fp8Channel: "FP8_CHANNEL"
    case .int8Channel: "INT8_CHANNEL"
    case .int4Group(let length): "INT4_G\(length)"
    case .nvfp4: "NVFP4"
    case .mxfp4: "MXFP4"
    }
  }

  /// Whether the elements are real numbers that can be decoded.
  var isReal: Bool { scheme != nil || BlockCodec.codec(for: elementType) != nil }
}

// MARK: - Floating-point types

/// The numbers that a floating-point type has.
struct FloatGrid {
  /// Significant bits, the implicit one included.
  let bits: Int
  /// The exponent of the smallest positive number.
  let lowest: Int

  /// - Returns: `nil` for blocks with scales.
  init?(_ storage: StoredPrecision) {
    guard storage.scheme == nil else { return nil }
    switch storage.elementType {
    case .f32, .f64: self.init(24, -149)  // F64 is decoded to F32 on both sides
    case .bf16: self.init(8, -133)
    case .f16: self.init(11, -24)
    case .f8E4M3: self.init(4, -9)
    case .f8E5M2: self.init(3, -16)
    case .f8E4M3FNUZ: self.init(4, -10)
    case .f8E5M2FNUZ: self.init(3, -17)
    case .f8E8M0: self.init(1, -127)
    case .f6E2M3: self.init(4, -3)
    case .f6E3M2: self.init(3, -4)
    case .f4: self.init(2, -1)
    default: return nil
    }
  }

  private init(_ bits: Int, _ lowest: Int) {
    self.bits = bits
    self.lowest = lowest
  }

  /// The type that everything is decoded to.
  static var single: FloatGrid { FloatGrid(24, -149) }

  /// The bound of rounding numbers of `source` to this grid: no error if the grid has all of them.
  func rounding(of source: FloatGrid) -> (relative: Double, absolute: Double) {
    (
      bits >= source.bits ? 0 : Double(sign: .plus, exponent: -bits, significand: 1),
      lowest <= source.lowest ? 0 : Double(sign: .plus, exponent: lowest - 1, significand: 1)
    )
  }
}
