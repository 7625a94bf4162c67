/// The arithmetic of one scheme of codes and separate scales: what ``RowScheme`` computes, without the layout.
///
/// The `absmax` arithmetic is that of the scheme's own library *for weights in BF16*, roundings included; see the
/// table at ``RowScheme``. PyTorch computes an operation on BF16 tensors in F32 and rounds the result to BF16.
struct SchemeRule: Hashable, Sendable {
  /// How a quotient (a value divided by its multiplier) becomes a code.
  enum Codes: Hashable, Sendable {
    case e4m3
    case e2m1
    /// Whole numbers from the lowest on; four bits are stored with 8 added.
    case int4
    case int8(lowest: Float)
  }

  /// How the largest magnitude of a group becomes a scale.
  enum Scales: Hashable, Sendable {
    /// amax / divisor in BF16, stored as F32.
    case f32(divisor: Float)
    /// amax / divisor in BF16.
    case bf16(divisor: Float)
    /// compressed-tensors: F8_E4M3(global · BF16(amax / 6)). Values are code · (scale / global).
    case dividedE4M3
    /// ModelOpt: F8_E4M3(amax / (6 · scale2)). Values are code · (scale · scale2).
    case multipliedE4M3
    /// A power of two that brings the largest code, 6, next to amax. `roundsUp` from 1.75 · 2^n on, or never.
    case e8m0(roundsUp: Bool)
  }

  var codes: Codes
  var scales: Scales
  /// The length of a group; `nil` for the row.
  var groupLength: Int?
  /// Whether a quotient is rounded to BF16 before it is rounded to a code.
  var roundsQuotients: Bool
  /// Whether -0 keeps its sign. All rules keep the sign of what is rounded to 0.
  var signsZeros = false

  /// The codes that a byte holds.
  var codesPerByte: Int {
    switch codes {
    case .e4m3, .int8: 1
    case .e2m1, .int4: 2
    }
  }

  /// The bytes of a scale.
  var scaleBytes: Int {
    switch scales {
    case .f32: 4
    case .bf16: 2
    case .dividedE4M3, .multipliedE4M3, .e8m0: 1
    }
  }
}

// MARK: - Scales

extension SchemeRule {
  /// The stored scale of a group: the bits of F32, BF16, F8_E4M3 or F8_E8M0.
  func absmaxScale(_ amax: Float, matrixScale: Float) -> UInt32 {
    switch scales {
    case .f32(let divisor), .bf16(let divisor):
      let scale = (amax / divisor).roundedToBF16
      // The machine epsilon of BF16 where the division gives 0.
      return stored(scale == 0 ? 0x1p-7 : scale)
    case .dividedE4M3:
      let code = EightBitFloat.e4m3.code(min(matrixScale * (amax / 6).roundedToBF16, 448))
      return UInt32(code == 0 ? 0x20 : code)  // 0.125
    case .multipliedE4M3:
      let scale = amax / (6 * matrixScale)
      return UInt32(EightBitFloat.e4m3.code(scale == 0 ? 1 : max(0x1p-9, min(448, scale))))
    case .e8m0(let roundsUp):
      let exponent = (amax.bitPattern + (roundsUp ? 1 << 21 : 0)) >> 23
      return exponent < 2 ? 0 : exponent - 2
    }
  }

  /// A scale of F32 or BF16 as it is stored.
  func stored(_ scale: Float) -> UInt32 {
    if case .bf16 = scales { return scale.roundedToBF16.bitPattern >> 16 }
    return scale.bitPattern
  }

  /// The factor for codes.
  func multiplier(_ scale: UInt32, matrixScale: Float) -> Float {
    switch scales {
    case .f32: Float(bitPattern: scale)
    case .bf16: Float(bitPattern: scale << 16)
    case .dividedE4M3: EightBitFloat.e4m3.value(UInt8(scale)) / matrixScale
    case .multipliedE4M3: EightBitFloat.e4m3.value(UInt8(scale)) * matrixScale
    case .e8m0: BlockCodec.powerOfTwo(UInt8(scale))
    }
  }
}

// MARK: - Codes

extension SchemeRule {
  /// The quotient of the `absmax` arithmetic. Under a multiplier that underflowed to 0, everything is 0.
  func quotient(_ x: Float, _ multiplier: Float) -> Float {
    guard multiplier != 0 else { return 0 }
    return roundsQuotients ? (x / multiplier).roundedToBF16 : x / multiplier
  }

  /// The nearest number that has a code; ties go to the even one, and values out of range are clamped.
  func level(_ quotient: Float) -> Float {
    switch codes {
    case .e4m3: EightBitFloat.e4m3.value(EightBitFloat.e4m3.code(max(-448, min(448, quotient))))
    case .e2m1: FourBitCode.value(FourBitCode.code(quotient))
    case .int4: max(-8, min(7, quotient)).rounded(.toNearestOrEven)
    case .int8(let lowest): max(lowest, min(127, quotient)).rounded(.toNearestOrEven)
    }
  }

  /// The code of that number.
  func code(_ quotient: Float) -> UInt8 {
    switch codes {
    case .e4m3:
      let code = EightBitFloat.e4m3.code(max(-448, min(448, quotient)))
      return quotient == 0 && !signsZeros ? 0 : code
    case .e2m1:
      let code = FourBitCode.code(quotient)
      return quotient == 0 && !signsZeros ? 0 : code
    case .int4: return UInt8(level(quotient) + 8)
    case .int8: return UInt8(bitPattern: Int8(level(quotient)))
    }
  }

  /// The number of a code; the upper half of a byte is ignored where codes have four bits.
  func value(_ code: UInt8) -> Float {
    switch codes {
    case .e4m3: EightBitFloat.e4m3.value(code)
    case .e2m1: FourBitCode.value(code)
    case .int4: Float(code & 15) - 8
    case .int8: Float(Int8(bitPattern: code))
    }
  }
}

/// E2M1: a sign bit, two bits of exponent (bias 1), one of mantissa. 0, 0.5, 1, 1.5, 2, 3, 4, 6, and their negatives.
enum FourBitCode {
  /// Rounds to nearest, ties to even, and saturates.
  static func code(_ value: Float) -> UInt8 {
    let magnitude = value.magnitude
    let code: UInt8 =
      if magnitude <= 0.25 { 0 } else if magnitude < 0.75 { 1 } else if magnitude <= 1.25 {
        2
      } else if magnitude
        < 1.75
      { 3 } else if magnitude <= 2.5 { 4 } else if magnitude < 3.5 { 5 } else if magnitude <= 5 { 6 } else {
        7
      }
    return value.sign == .minus ? code | 8 : code
  }

  /// Exact; code 8 is -0.
  static func value(_ code: UInt8) -> Float {
    let magnitudes: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    let magnitude = magnitudes[Int(code & 7)]
    return code & 8 == 0 ? magnitude : -magnitude
  }
}

extension Float {
  /// To the nearest BF16 number, ties to even. Not for NaN.
  var roundedToBF16: Float {
    Float(bitPattern: (bitPattern &+ 0x7FFF &+ (bitPattern >> 16 & 1)) & 0xFFFF_0000)
  }
}
