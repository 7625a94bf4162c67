internal import CBlockKernels
internal import TensorFormats

/// MXFP4 and NVFP4 in GGML's layout: E2M1 elements (0, ±0.5, ±1, ±1.5, ±2, ±3, ±4, ±6) under a shared scale.
///
///     MXFP4  e E8M0 | 16 bytes of levels                                     17 bytes, 32 elements
///     NVFP4  four UE4M3, one for each 16 elements | 4 × 8 bytes of levels    36 bytes, 64 elements
///
/// Byte *j* of 2 *n* levels holds element *j* (low nibble) and element *j* + *n* (high nibble), unlike in
/// safetensors files, where neighbours share a byte. NVFP4's F32 scale of the whole tensor is a separate tensor.
///
/// Source: ggml, `ggml-common.h`, `ggml-impl.h` (scales) and `quantize_row_mxfp4_ref`, `quantize_row_nvfp4_ref`.
enum FourBitFloats {
  /// Twice the values of E2M1; scales are halved to match. There is no -0 among them.
  static let levels: [Float] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

  /// The first level of smallest distance, both rounded to F32.
  static func nearestLevel(_ x: Float, scale: Float) -> UInt8 {
    var best = 0
    var least = (levels[0] * scale - x).magnitude
    for i in 1..<16 {
      let distance = (levels[i] * scale - x).magnitude
      if distance < least {
        least = distance
        best = i
      }
    }
    return UInt8(best)
  }

  // MARK: MXFP4

  /// 2^(e - 128): half of E8M0, without a NaN.
  static func halfPower(_ e: UInt8) -> Float {
    Float(bitPattern: e < 2 ? 0x0020_0000 << UInt32(e) : UInt32(e - 1) << 23)
  }

  /// `floor(log2f(x))` of a positive finite x, as computed by the reference's C library.
  ///
  /// log2f rounds to nearest, so that the *n* floats just below 2^k already give k: with F32 spaced 2^(s-23) just
  /// below k, those within 2^(s-24) ln 2 of 2^k, relatively. (Agrees with glibc's log2f for every float near a power
  /// of two.)
  static func floorLog2(_ x: Float) -> Int {
    let floor = Int(x.exponent)
    let next = floor + 1
    guard next != 0 else { return floor }
    let power: UInt32 = next < -126 ? 1 << UInt32(next + 149) : UInt32(next + 127) << 23
    // The binade of the floats just below `next`, on the side of `floor`.
    let spacing = next > 0 ? next.log2Below : (-next).log2
    let subnormal = max(0, -125 - next)
    let below: [UInt32] = [0, 1, 2, 5, 11, 22, 44, 88]  // floor(2^n ln 2)
    let index = spacing - subnormal
    let reach = index < 0 ? 0 : below[index]
    return power - x.bitPattern <= reach ? next : floor
  }

  static func encodeMXFP4(_ x: BlockValues, into block: inout BlockBytes) {
    let largest = x.reduce(0) { max($0, $1.magnitude) }
    // The largest level is 6 = 1.5 · 2^2. Below 2^-125 the exponent wraps round, and all levels are 0.
    let e = largest > 0 ? UInt8(truncatingIfNeeded: floorLog2(largest) - 2 + 127) : 0
    let scale = halfPower(e)
    block[0] = e
    for j in 0..<16 {
      block[1 + j] = nearestLevel(x[j], scale: scale) | nearestLevel(x[j + 16], scale: scale) << 4
    }
  }

  static func decodeMXFP4(_ block: BlockBytes, into values: inout BlockValues) {
    let scale = halfPower(block[0])
    for j in 0..<16 {
      values[j] = levels[Int(block[1 + j] & 15)] * scale
      values[j + 16] = levels[Int(block[1 + j] >> 4)] * scale
    }
  }

  // MARK: NVFP4

  /// Half of an unsigned E4M3 scale. The top bit is ignored, and the code of NaN counts as 0.
  static func halfUE4M3(_ code: UInt8) -> Float {
    code == 0 || code == 0x7F ? 0 : SubnormalE4M3.value(code & 0x7F) * 0.5
  }

  /// Rounds to unsigned E4M3, halves up, and clamps to 448.
  static func ue4m3(_ x: Float) -> UInt8 {
    guard x > 0 else { return 0 }
    if x >= 448 { return 0x7E }
    if x < 0x1p-6 { return UInt8(min(7, Int32(x * 512 + 0.5))) }
    // Exponent and three bits of mantissa, rounded by the fourth.
    let code = (x.bitPattern - 120 << 23 + 1 << 19) >> 20
    return code >= 15 << 3 ? 0x7E : UInt8(code)
  }

  static func encodeNVFP4(_ x: BlockValues, into block: inout BlockBytes) {
    for part in 0..<4 {
      let values = x[(16 * part)..<(16 * part + 16)]
      let largest = values.reduce(0) { max($0, $1.magnitude) }
      let code = ue4m3(largest / 6)
      let scale = halfUE4M3(code)
      block[part] = code
      for j in 0..<8 {
        let low = nearestLevel(x[16 * part + j], scale: scale)
        let high = nearestLevel(x[16 * part + j + 8], scale: scale)
        block[4 + 8 * part + j] = low | high << 4
      }
    }
  }

  static func decodeNVFP4(_ block: BlockBytes, into values: inout BlockValues) {
    for part in 0..<4 {
      let scale = halfUE4M3(block[part])
      for j in 0..<8 {
        let byte = block[4 + 8 * part + j]
        values[16 * part + j] = levels[Int(byte & 15)] * scale
        values[16 * part + j + 8] = levels[Int(byte >> 4)] * scale
      }
    }
  }
}

/// E4M3 codes 0 ... 127 as numbers, the top exponent included.
private enum SubnormalE4M3 {
  static func value(_ code: UInt8) -> Float {
    let exponent = Int(code >> 3)
    let fraction = Float(code & 7)
    return exponent == 0
      ? fraction * 0x1p-9 : Float(sign: .plus, exponent: exponent - 7, significand: 1 + fraction / 8)
  }
}

extension Int {
  /// floor(log2(self)) of a positive number.
  fileprivate var log2: Int { Int.bitWidth - 1 - leadingZeroBitCount }
  /// floor(log2(y)) of the numbers y just below this positive one.
  fileprivate var log2Below: Int { self == 1 ? -1 : (self - 1).log2 }
}

extension BlockCodec {
  /// Four-bit floats under a shared scale.
  static var fourBitFloatCodecs: [BlockCodec] {
    unsafe [
      .flat(
        .mxfp4, decodeKernel: cbk_decode_mxfp4, encodeKernel: cbk_encode_mxfp4,
        decode: FourBitFloats.decodeMXFP4, encode: FourBitFloats.encodeMXFP4),
      .flat(
        .nvfp4, decodeKernel: cbk_decode_nvfp4, encodeKernel: cbk_encode_nvfp4,
        decode: FourBitFloats.decodeNVFP4, encode: FourBitFloats.encodeNVFP4),
    ]
  }
}
