internal import CBlockKernels
internal import TensorFormats

/// One and two bits per element.
///
///     TQ1_0  48 bytes of five trits | 4 bytes of four trits | d F16   54 bytes, 256 elements   x = d (t - 1)
///     TQ2_0  64 bytes of four codes | d F16                           66 bytes, 256 elements   x = d (t - 1)
///     Q1_0   d F16 | 16 bytes of signs (1 is +)                       18 bytes, 128 elements   x = ±d
///     Q2_0   d F16 | 16 bytes of four codes                           18 bytes,  64 elements   x = d (t - 1)
///
/// Which elements share a byte: in TQ1_0 those 32 apart (elements 0 ..< 160), 16 apart (160 ..< 240) and 4 apart (the
/// rest); in TQ2_0 those 32 apart in each half; in Q1_0 and Q2_0 neighbours, lowest bits first.
///
/// Source: ggml, `ggml-common.h` and `quantize_row_tq1_0_ref`, `..._tq2_0_ref`, `..._q1_0_ref`, `..._q2_0_ref`.
enum TernaryBlocks {
  /// 0, 1 or 2 for -d, 0 and d, halves away from zero. Where 1/d overflows everything counts as 0 (code 1): the
  /// result of the reference's conversions of infinities and NaN.
  static func trits(_ x: BlockValues, largest d: Float) -> [UInt8] {
    let inverse = d == 0 ? 0 : 1 / d
    guard inverse.isFinite else { return [UInt8](repeating: 1, count: x.count) }
    return x.map { UInt8(Int32(($0 * inverse).rounded(.toNearestOrAwayFromZero)) + 1) }
  }

  static func largest(_ x: BlockValues) -> Float { x.reduce(0) { max($0, $1.magnitude) } }

  // MARK: TQ1_0

  /// Where the elements of each byte are: the first one, how far apart, how many.
  private static let ternaryBytes: [(first: Int, stride: Int, count: Int)] =
    (0..<32).map { ($0, 32, 5) } + (0..<16).map { (160 + $0, 16, 5) } + (0..<4).map { (240 + $0, 4, 4) }

  static func encodeTQ1(_ x: BlockValues, into block: inout BlockBytes) {
    let d = largest(x)
    let trits = trits(x, largest: d)
    for (byte, place) in ternaryBytes.enumerated() {
      var number = 0
      for n in 0..<5 {
        number = number * 3 + (n < place.count ? Int(trits[place.first + n * place.stride]) : 0)
      }
      // The number as a fraction of 243, in 256ths and rounded up: multiplying by 3 then yields one trit after another.
      block[byte] = UInt8((number * 256 + 242) / 243)
    }
    block.store(HalfPrecision.bits(d), at: 52)
  }

  static func decodeTQ1(_ block: BlockBytes, into values: inout BlockValues) {
    let d = HalfPrecision.float(block.littleEndian16(at: 52))
    for (byte, place) in ternaryBytes.enumerated() {
      var fraction = Int(block[byte])
      for n in 0..<place.count {
        values[place.first + n * place.stride] = Float((fraction * 3) >> 8 - 1) * d
        fraction = fraction * 3 & 255
      }
    }
  }

  // MARK: TQ2_0

  static func encodeTQ2(_ x: BlockValues, into block: inout BlockBytes) {
    let d = largest(x)
    let trits = trits(x, largest: d)
    for j in 0..<64 {
      let first = j / 32 * 128 + j % 32
      block[j] = (0..<4).reduce(0) { $0 | (trits[first + 32 * $1] & 3) << (2 * $1) }
    }
    block.store(HalfPrecision.bits(d), at: 64)
  }

  static func decodeTQ2(_ block: BlockBytes, into values: inout BlockValues) {
    let d = HalfPrecision.float(block.littleEndian16(at: 64))
    for i in 0..<256 {
      let byte = block[i / 128 * 32 + i % 32]
      values[i] = Float(Int(byte >> (2 * UInt8(i % 128 / 32)) & 3) - 1) * d
    }
  }

  // MARK: Q1_0

  static func encodeQ1(_ x: BlockValues, into block: inout BlockBytes) {
    var sum: Float = 0
    for value in x { sum += value.magnitude }
    block.store(HalfPrecision.bits(sum / 128), at: 0)
    for j in 0..<16 {
      block[2 + j] = (0..<8).reduce(0) { $0 | (x[8 * j + $1] >= 0 ? 1 << UInt8($1) : 0) }
    }
  }

  static func decodeQ1(_ block: BlockBytes, into values: inout BlockValues) {
    let d = HalfPrecision.float(block.littleEndian16(at: 0))
    for i in 0..<128 { values[i] = block[2 + i / 8] >> UInt8(i % 8) & 1 == 1 ? d : -d }
  }

  // MARK: Q2_0

  static func encodeQ2(_ x: BlockValues, into block: inout BlockBytes) {
    let d = largest(x)
    block.store(HalfPrecision.bits(d), at: 0)
    // An overflowing 1/d gives code 0 here, not 1: this encoder clamps where the ternary ones do not.
    let codes = d == 0 || (1 / d).isFinite ? trits(x, largest: d) : [UInt8](repeating: 0, count: x.count)
    for j in 0..<16 { block[2 + j] = (0..<4).reduce(0) { $0 | codes[4 * j + $1] << (2 * UInt8($1)) } }
  }

  static func decodeQ2(_ block: BlockBytes, into values: inout BlockValues) {
    let d = HalfPrecision.float(block.littleEndian16(at: 0))
    for i in 0..<64 { values[i] = Float(Int(block[2 + i / 4] >> (2 * UInt8(i % 4)) & 3) - 1) * d }
  }
}

extension BlockCodec {
  /// One and two bits per element.
  static var ternaryCodecs: [BlockCodec] {
    unsafe [
      .flat(
        .tq1_0, decodeKernel: cbk_decode_tq1_0, encodeKernel: cbk_encode_tq1_0,
        decode: TernaryBlocks.decodeTQ1, encode: TernaryBlocks.encodeTQ1),
      .flat(
        .tq2_0, decodeKernel: cbk_decode_tq2_0, encodeKernel: cbk_encode_tq2_0,
        decode: TernaryBlocks.decodeTQ2, encode: TernaryBlocks.encodeTQ2),
      .flat(
        .q1_0, decodeKernel: cbk_decode_q1_0, encodeKernel: cbk_encode_q1_0,
        decode: TernaryBlocks.decodeQ1, encode: TernaryBlocks.encodeQ1),
      .flat(
        .q2_0, decodeKernel: cbk_decode_q2_0, encodeKernel: cbk_encode_q2_0,
        decode: TernaryBlocks.decodeQ2, encode: TernaryBlocks.encodeQ2),
    ]
  }
}
