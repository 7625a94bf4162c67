/// IEEE binary16, as bits: `Float16` does not exist on every platform, and its NaN payloads depend on the processor.
enum HalfPrecision {
  /// Rounds to nearest, ties to even; from 65,520 on it is infinity. Every NaN becomes the quiet one of its sign.
  static func bits(_ value: Float) -> UInt16 {
    let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
    let magnitude = value.bitPattern & 0x7FFF_FFFF
    if magnitude > 0x7F80_0000 { return sign | 0x7E00 }
    if magnitude >= 0x4780_0000 { return sign | 0x7C00 }
    if magnitude < 0x3880_0000 {
      // Below 2^-14 the steps are 2^-24, the spacing of F32 just above one half.
      return sign | UInt16((Float(bitPattern: magnitude) + 0.5).bitPattern - Float(0.5).bitPattern)
    }
    let rounded = magnitude + 0xFFF + (magnitude >> 13 & 1)
    return sign | UInt16((rounded >> 13) - (112 << 10))
  }

  /// Exact. NaN keeps its payload and becomes quiet.
  static func float(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = UInt32(bits & 0x7FFF)
    if magnitude > 0x7C00 { return Float(bitPattern: sign | 0x7FC0_0000 | magnitude << 13) }
    if magnitude == 0x7C00 { return Float(bitPattern: sign | 0x7F80_0000) }
    if magnitude < 0x400 {
      return Float(bitPattern: sign | (Float(magnitude) * 0x1p-24).bitPattern)
    }
    return Float(bitPattern: sign | (magnitude << 13) + (112 << 23))
  }
}
