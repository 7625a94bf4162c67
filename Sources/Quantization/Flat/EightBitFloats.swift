internal import CBlockKernels
internal import TensorFormats

/// An eight-bit float: a sign bit, then the exponent, then `mantissa` bits.
///
/// | format | exponent bias | largest | infinity | NaN |
/// |---|---|---|---|---|
/// | F8_E4M3 (fn) | 7 | 448 (`7E`) | no | `7F`, `FF` |
/// | F8_E5M2 | 15 | 57,344 (`7B`) | `7C`, `FC` | `7D`-`7F`, `FD`-`FF` |
/// | F8_E4M3FNUZ | 8 | 240 (`7F`) | no | `80` (no -0) |
/// | F8_E5M2FNUZ | 16 | 57,344 (`7F`) | no | `80` (no -0) |
///
/// Sources: Micikevicius et al., "FP8 formats for deep learning", arXiv:2209.05433; Noune et al., "8-bit numerical
/// formats for deep neural networks", arXiv:2206.02915 (FNUZ).
struct EightBitFloat: Sendable {
  /// Which codes are not numbers.
  enum Specials: Sendable {
    /// Only the all-ones magnitude: NaN.
    case finite
    /// As in IEEE 754: the top exponent holds infinity and NaN.
    case ieee
    /// What would be -0 is the only NaN.
    case unsignedZero
  }

  var mantissa: UInt32
  var bias: UInt32
  /// The code of the largest finite magnitude.
  var largest: UInt32
  var specials: Specials

  static let e4m3 = EightBitFloat(mantissa: 3, bias: 7, largest: 0x7E, specials: .finite)
  static let e5m2 = EightBitFloat(mantissa: 2, bias: 15, largest: 0x7B, specials: .ieee)
  static let e4m3FNUZ = EightBitFloat(mantissa: 3, bias: 8, largest: 0x7F, specials: .unsignedZero)
  static let e5m2FNUZ = EightBitFloat(mantissa: 2, bias: 16, largest: 0x7F, specials: .unsignedZero)

  /// Rounds to nearest, ties to even, and saturates: a finite value never becomes NaN or infinity. Infinity becomes
  /// NaN where the format has none.
  func code(_ value: Float) -> UInt8 {
    let sign: UInt32 = value.sign == .minus ? 0x80 : 0
    if !value.isFinite {
      switch specials {
      case .finite: return UInt8(sign | 0x7F)
      case .ieee: return UInt8(sign | (value.isNaN ? 0x7E : 0x7C))
      case .unsignedZero: return 0x80
      }
    }
    let magnitude = value.magnitude
    let smallestNormal = Float(sign: .plus, exponent: 1 - Int(bias), significand: 1)
    var code: UInt32
    if magnitude < smallestNormal {
      // Steps of the smallest subnormal; the first code above them is the smallest normal, which continues the count.
      let step = Float(sign: .plus, exponent: 1 - Int(bias) - Int(mantissa), significand: 1)
      code = UInt32((magnitude / step).rounded(.toNearestOrEven))
    } else {
      let dropped = 23 - mantissa
      let bits = magnitude.bitPattern
      let rounded = bits + (1 << (dropped - 1) - 1) + (bits >> dropped & 1)
      code = (rounded >> dropped) - (127 - bias) << mantissa
    }
    code = min(code, largest)
    if specials == .unsignedZero && code == 0 { return 0 }
    return UInt8(sign | code)
  }

  /// Exact.
  func value(_ code: UInt8) -> Float {
    let sign = UInt32(code & 0x80) << 24
    let magnitude = UInt32(code & 0x7F)
    if specials == .unsignedZero && code == 0x80 { return Float(bitPattern: 0x7FC0_0000) }
    if specials == .ieee && magnitude == 0x7C { return Float(bitPattern: sign | 0x7F80_0000) }
    if magnitude > largest { return Float(bitPattern: sign | 0x7FC0_0000) }
    if magnitude < 1 << mantissa {
      let step = Float(sign: .plus, exponent: 1 - Int(bias) - Int(mantissa), significand: 1)
      return Float(bitPattern: sign | (Float(magnitude) * step).bitPattern)
    }
    return Float(bitPattern: sign | (magnitude << (23 - mantissa)) + (127 - bias) << 23)
  }
}

extension BlockCodec {
  /// The scalars of eight bits.
  static var eightBitCodecs: [BlockCodec] {
    unsafe [
      eightBit(.f8E4M3, .e4m3, cbk_decode_f8_e4m3, cbk_encode_f8_e4m3),
      eightBit(.f8E5M2, .e5m2, cbk_decode_f8_e5m2, cbk_encode_f8_e5m2),
      eightBit(.f8E4M3FNUZ, .e4m3FNUZ, cbk_decode_f8_e4m3fnuz, cbk_encode_f8_e4m3fnuz),
      eightBit(.f8E5M2FNUZ, .e5m2FNUZ, cbk_decode_f8_e5m2fnuz, cbk_encode_f8_e5m2fnuz),
      .flat(
        .f8E8M0, decodeKernel: cbk_decode_f8_e8m0, encodeKernel: nil,
        decode: { $1[0] = powerOfTwo($0[0]) }, encode: nil),
    ]
  }

  /// F8_E8M0: 2^(code - 127), and NaN for 255. A scale, not a weight: it is only read.
  static func powerOfTwo(_ code: UInt8) -> Float {
    switch code {
    case 255: Float(bitPattern: 0x7FC0_0000)
    case 0: Float(bitPattern: 0x0040_0000)  // 2^-127 is subnormal
    default: Float(bitPattern: UInt32(code) << 23)
    }
  }

  private static func eightBit(
    _ type: ElementType, _ format: EightBitFloat, _ decode: @escaping cbk_decode_fn,
    _ encode: @escaping cbk_encode_fn
  ) -> BlockCodec {
    unsafe .flat(
      type, decodeKernel: decode, encodeKernel: encode,
      decode: { $1[0] = format.value($0[0]) }, encode: { $1[0] = format.code($0[0]) })
  }
}
