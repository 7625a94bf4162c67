internal import CBlockKernels
internal import TensorFormats

/// The sub-byte scalars of safetensors and of the OCP Microscaling formats: a sign, an exponent and `mantissa` bits,
/// without infinity or NaN.
///
/// They are packed lowest bits first: two F4 in a byte, four F6 in three bytes. They are only read, because without
/// their scales, which are separate tensors, there is nothing sensible to write.
///
/// Source: "OCP Microscaling Formats (MX) Specification", version 1.0, section 5.3.
struct SubByteFloat: Sendable {
  var bits: UInt32
  var mantissa: UInt32
  var bias: Int

  static let e2m1 = SubByteFloat(bits: 4, mantissa: 1, bias: 1)
  static let e2m3 = SubByteFloat(bits: 6, mantissa: 3, bias: 1)
  static let e3m2 = SubByteFloat(bits: 6, mantissa: 2, bias: 3)

  /// Exact.
  func value(_ code: UInt32) -> Float {
    let fraction = code & (1 << mantissa - 1)
    let exponent = Int(code >> mantissa & (1 << (bits - 1 - mantissa) - 1))
    let significand = exponent == 0 ? fraction : fraction | 1 << mantissa
    let scale = Float(sign: .plus, exponent: max(exponent, 1) - bias - Int(mantissa), significand: 1)
    let magnitude = Float(significand) * scale
    return code >> (bits - 1) & 1 == 1 ? -magnitude : magnitude
  }

  /// The elements of one block.
  func unpack(_ block: BlockBytes, into values: inout BlockValues) {
    var packed: UInt32 = 0
    for (i, byte) in block.enumerated() { packed |= UInt32(byte) << (8 * UInt32(i)) }
    for i in values.indices { values[i] = value(packed >> (bits * UInt32(i)) & (1 << bits - 1)) }
  }
}

extension BlockCodec {
  /// The scalars of four and six bits.
  static var subByteCodecs: [BlockCodec] {
    unsafe [
      .flat(
        .f4, decodeKernel: cbk_decode_f4, encodeKernel: nil,
        decode: { SubByteFloat.e2m1.unpack($0, into: &$1) }, encode: nil),
      .flat(
        .f6E2M3, decodeKernel: cbk_decode_f6_e2m3, encodeKernel: nil,
        decode: { SubByteFloat.e2m3.unpack($0, into: &$1) }, encode: nil),
      .flat(
        .f6E3M2, decodeKernel: cbk_decode_f6_e3m2, encodeKernel: nil,
        decode: { SubByteFloat.e3m2.unpack($0, into: &$1) }, encode: nil),
    ]
  }
}
