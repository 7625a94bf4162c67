internal import TensorFormats

/// Numbers by the definitions of their types, one at a time: slow, and sharing nothing with the decoders.
enum DefinedNumber {
  /// The sixteen values of E2M1.
  static let fourBits: [Double] = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]

  /// The value of a bit pattern; `nil` for types that are not real numbers, or are blocks.
  ///
  /// - Parameter bits: The element, its lowest byte first in the file.
  static func value(_ bits: UInt64, as type: ElementType) -> Double? {
    switch type {
    case .f64: Double(bitPattern: bits)
    case .f32: Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits)))
    case .bf16: Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits) << 16))
    case .f16: float(bits, exponent: 5, fraction: 10, bias: 15, .withInfinity)
    case .f8E4M3: float(bits, exponent: 4, fraction: 3, bias: 7, .lastIsNaN)
    case .f8E5M2: float(bits, exponent: 5, fraction: 2, bias: 15, .withInfinity)
    case .f8E4M3FNUZ: float(bits, exponent: 4, fraction: 3, bias: 8, .negativeZeroIsNaN)
    case .f8E5M2FNUZ: float(bits, exponent: 5, fraction: 2, bias: 16, .negativeZeroIsNaN)
    case .f8E8M0: exponent(bits)
    case .i8: Double(Int8(truncatingIfNeeded: bits))
    case .u8: Double(UInt8(truncatingIfNeeded: bits))
    case .i32: Double(Int32(truncatingIfNeeded: bits))
    case .i64: Double(Int64(truncatingIfNeeded: bits))
    default: nil
    }
  }

  /// E8M0: a power of two, with 127 for 1 and 255 for NaN.
  static func exponent(_ bits: UInt64) -> Double {
    bits & 255 == 255 ? .nan : Double(sign: .plus, exponent: Int(bits & 255) - 127, significand: 1)
  }

  /// The meaning of the codes at the end of the range.
  private enum Special { case withInfinity, lastIsNaN, negativeZeroIsNaN }

  private static func float(
    _ bits: UInt64, exponent exponentBits: Int, fraction fractionBits: Int, bias: Int, _ special: Special
  ) -> Double {
    let fraction = bits & (1 << fractionBits - 1)
    let exponent = Int(bits >> fractionBits & (1 << exponentBits - 1))
    let isNegative = bits >> (exponentBits + fractionBits) & 1 == 1
    let isLast = exponent == 1 << exponentBits - 1
    switch special {
    case .withInfinity where isLast:
      return fraction != 0 ? .nan : isNegative ? -.infinity : .infinity
    case .lastIsNaN where isLast && fraction == 1 << fractionBits - 1: return .nan
    case .negativeZeroIsNaN where isNegative && exponent == 0 && fraction == 0: return .nan
    default: break
    }
    let steps = Double(exponent == 0 ? fraction : fraction | 1 << fractionBits)
    let power = max(exponent, 1) - bias - fractionBits
    let size = steps * Double(sign: .plus, exponent: power, significand: 1)
    return isNegative ? -size : size
  }
}
