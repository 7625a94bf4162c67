internal import CBlockKernels
internal import TensorFormats

// F32, F64, F16 and BF16: one element is one block.

extension BlockCodec {
  /// The plain scalars of 16 to 64 bits.
  static var scalarCodecs: [BlockCodec] {
    unsafe [
      .flat(
        .f32, decodeKernel: cbk_decode_f32, encodeKernel: cbk_encode_f32,
        decode: { $1[0] = Float(bitPattern: $0.littleEndian32(at: 0)) },
        encode: { $1.store($0[0].bitPattern, at: 0) }),
      .flat(
        .f64, decodeKernel: cbk_decode_f64, encodeKernel: cbk_encode_f64,
        // Rounds to nearest, ties to even; beyond the range of F32 it is infinity.
        decode: {
          let bits = UInt64($0.littleEndian32(at: 0)) | UInt64($0.littleEndian32(at: 4)) << 32
          $1[0] = Float(Double(bitPattern: bits))
        },
        encode: {
          let bits = Double($0[0]).bitPattern
          $1.store(UInt32(truncatingIfNeeded: bits), at: 0)
          $1.store(UInt32(truncatingIfNeeded: bits >> 32), at: 4)
        }),
      .flat(
        .f16, decodeKernel: cbk_decode_f16, encodeKernel: cbk_encode_f16,
        decode: { $1[0] = HalfPrecision.float($0.littleEndian16(at: 0)) },
        encode: { $1.store(HalfPrecision.bits($0[0]), at: 0) }),
      .flat(
        .bf16, decodeKernel: cbk_decode_bf16, encodeKernel: cbk_encode_bf16,
        decode: { $1[0] = Float(bitPattern: UInt32($0.littleEndian16(at: 0)) << 16) },
        encode: { $1.store(bfloat16Bits($0[0]), at: 0) }),
    ]
  }

  /// The upper half of F32, rounded to nearest, ties to even. NaN keeps the upper half of its payload and becomes
  /// quiet.
  static func bfloat16Bits(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    if value.isNaN { return UInt16(bits >> 16) | 64 }
    return UInt16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
  }
}
