/// What the twins of the IQ formats share. They work block by block on arrays: easy to read, and slow.
///
/// Sources of the formats' arithmetic: the functions `quantize_iq*` and `dequantize_row_iq*` of ggml-quants.c in ggml
/// (MIT licence). The order of the floating-point operations is part of the formats; nothing here may be reordered or
/// fused.
enum IQTwin {
  /// Decodes one block at a time.
  static func decoder(
    bytes: Int, elements: Int, _ decode: @escaping @Sendable (_ block: [UInt8]) -> [Float]
  ) -> @Sendable (_ blocks: RawSpan, _ values: inout MutableSpan<Float>) -> Void {
    { blocks, values in
      for block in 0..<blocks.byteCount / bytes {
        let raw = (0..<bytes).map {
          unsafe blocks.unsafeLoad(fromByteOffset: block * bytes + $0, as: UInt8.self)
        }
        for (index, value) in decode(raw).enumerated() { values[block * elements + index] = value }
      }
    }
  }

  /// Encodes one block at a time.
  static func encoder(
    bytes: Int, elements: Int,
    _ encode: @escaping @Sendable (_ values: [Float], _ importance: [Float]?) -> [UInt8]
  )
    -> @Sendable (
      _ values: Span<Float>, _ importance: Span<Float>?, _ columns: Int, _ blocks: inout MutableRawSpan
    ) -> Void
  {
    { values, importance, columns, blocks in
      for block in 0..<values.count / elements {
        let first = block * elements
        let own = (first..<first + elements).map { values[$0] }
        var weights: [Float]?
        if let importance {
          let column = first % columns
          weights = (column..<column + elements).map { importance[$0] }
        }
        for (index, byte) in encode(own, weights).enumerated() {
          blocks.storeBytes(of: byte, toByteOffset: block * bytes + index, as: UInt8.self)
        }
      }
    }
  }

  /// The reference's rounding to an integer, half to even: the low bits of the mantissa after adding 1.5 * 2^23. It
  /// gives a number for every input, infinity and NaN too.
  static func nearest(_ value: Float) -> Int {
    Int((value + 12_582_912).bitPattern & 0x7F_FFFF) - 0x40_0000
  }

  /// The square of every value, added up from the first to the last.
  static func energy(_ values: some Sequence<Float>) -> Float {
    values.reduce(0) { $0 + $1 * $1 }
  }
}

extension Array where Element == UInt8 {
  /// The little-endian 16-bit number at a byte offset.
  func iqUInt16(at offset: Int) -> UInt16 { UInt16(self[offset]) | UInt16(self[offset + 1]) << 8 }

  /// The little-endian 32-bit number at a byte offset.
  func iqUInt32(at offset: Int) -> UInt32 {
    UInt32(iqUInt16(at: offset)) | UInt32(iqUInt16(at: offset + 2)) << 16
  }

  /// The half-precision number at a byte offset.
  func iqHalf(at offset: Int) -> Float { HalfPrecision.float(iqUInt16(at: offset)) }

  mutating func iqPut(_ value: UInt16, at offset: Int) {
    self[offset] = UInt8(truncatingIfNeeded: value)
    self[offset + 1] = UInt8(truncatingIfNeeded: value >> 8)
  }

  mutating func iqPut(_ value: UInt32, at offset: Int) {
    iqPut(UInt16(truncatingIfNeeded: value), at: offset)
    iqPut(UInt16(truncatingIfNeeded: value >> 16), at: offset + 2)
  }

  mutating func iqPutHalf(_ value: Float, at offset: Int) { iqPut(value.iqHalfBits, at: offset) }
}

extension Float {
  /// The nearest half-precision number, ties to even. NaN becomes the reference's one, with its sign.
  var iqHalfBits: UInt16 {
    HalfPrecision.bits(self)
  }
}
