public import TensorFormats

extension GGUFByteOrder {
  /// Turns tensor data from one byte order into the other, in place. Doing it twice changes nothing.
  ///
  /// Everything else in this package takes tensor data to be little-endian, so data from a big-endian file goes
  /// through here before a codec sees it, and data for such a file after.
  ///
  /// A number inside a GGML block is swapped with the width in which GGML's decoders load it, which is how a
  /// big-endian machine reads the file. Types made of bytes alone stay as they are.
  ///
  /// - Precondition: `bytes` is a whole number of blocks of `type`.
  /// - Complexity: O(n).
  public static func swapPayload(_ type: ElementType, _ bytes: inout MutableRawSpan) {
    let blockByteCount = type.block.bytes
    precondition(bytes.byteCount % blockByteCount == 0, "the bytes end inside a block")
    let fields = type.numericFields
    if let field = fields.first, fields.count == 1, field.width * field.count == blockByteCount {
      // A plain scalar: one run over all of them.
      swap(NumericField(at: 0, width: field.width, count: bytes.byteCount / field.width), in: &bytes, from: 0)
      return
    }
    guard !fields.isEmpty else { return }
    for start in stride(from: 0, to: bytes.byteCount, by: blockByteCount) {
      for field in fields { swap(field, in: &bytes, from: start) }
    }
  }

  private static func swap(_ field: NumericField, in bytes: inout MutableRawSpan, from blockStart: Int) {
    switch field.width {
    case 2: swap(UInt16.self, field, in: &bytes, from: blockStart)
    case 4: swap(UInt32.self, field, in: &bytes, from: blockStart)
    default: swap(UInt64.self, field, in: &bytes, from: blockStart)
    }
  }

  private static func swap<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, _ field: NumericField, in bytes: inout MutableRawSpan, from blockStart: Int
  ) {
    for index in 0..<field.count {
      let offset = blockStart + field.offset + index * field.step
      // Unsafe only by name: an offset outside the span traps, and every bit pattern is an integer.
      let value = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self)
      bytes.storeBytes(of: value.byteSwapped, toByteOffset: offset, as: T.self)
    }
  }
}

/// A run of numbers in a block.
private struct NumericField {
  /// Of the first number, in bytes from the start of the block.
  let offset: Int
  /// Of one number: 2, 4 or 8 bytes.
  let width: Int
  let count: Int
  /// From one number to the next.
  let step: Int

  init(at offset: Int, width: Int, count: Int = 1, step: Int? = nil) {
    self.offset = offset
    self.width = width
    self.count = count
    self.step = step ?? width
  }
}

extension ElementType {
  /// The numbers of more than one byte in a block.
  ///
  /// Source: the structures of `ggml/src/ggml-common.h`, and `ggml/src/ggml-quants.c` for the fields that are
  /// declared as bytes or as u16 but loaded as wider numbers: the fifth bits of Q5_0 and Q5_1 and the signs and scales
  /// of IQ2_XXS and IQ3_XXS (u32), and the scales of IQ1_M (u16). IQ2_XXS alternates four index bytes with such a u32.
  /// Q3_K's scales are loaded as u32 as well, but only for masks that treat all four bytes alike.
  fileprivate var numericFields: [NumericField] {
    switch self {
    case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ, .f4, .f6E2M3, .f6E3M2, .mxfp4,
      .nvfp4:
      []
    case .u16, .i16, .f16, .bf16: [NumericField(at: 0, width: 2)]
    case .u32, .i32, .f32: [NumericField(at: 0, width: 4)]
    case .u64, .i64, .f64: [NumericField(at: 0, width: 8)]
    case .c64: [NumericField(at: 0, width: 4, count: 2)]
    // One half-precision scale in front.
    case .q4_0, .q8_0, .q1_0, .q2_0, .iq4NL, .iq2S, .iq3S: [NumericField(at: 0, width: 2)]
    // Scale and minimum (or sum) in front.
    case .q4_1, .q8_1, .q4K, .q5K: [NumericField(at: 0, width: 2, count: 2)]
    // The same at the end.
    case .q2K: [NumericField(at: 80, width: 2, count: 2)]
    case .q3K: [NumericField(at: 108, width: 2)]
    case .q6K: [NumericField(at: 208, width: 2)]
    case .tq1_0: [NumericField(at: 52, width: 2)]
    case .tq2_0: [NumericField(at: 64, width: 2)]
    // Scale (and minimum), then the fifth bits.
    case .q5_0: [NumericField(at: 0, width: 2), NumericField(at: 2, width: 4)]
    case .q5_1: [NumericField(at: 0, width: 2, count: 2), NumericField(at: 4, width: 4)]
    // Single-precision scale, then behind 256 bytes the sums of groups of 16.
    case .q8K: [NumericField(at: 0, width: 4), NumericField(at: 260, width: 2, count: 16)]
    // Scale, then eight times four index bytes and a u32.
    case .iq2XXS: [NumericField(at: 0, width: 2), NumericField(at: 6, width: 4, count: 8, step: 8)]
    // Scale, then 32 indices with signs.
    case .iq2XS: [NumericField(at: 0, width: 2, count: 33)]
    // Scale, 64 index bytes, eight u32.
    case .iq3XXS: [NumericField(at: 0, width: 2), NumericField(at: 66, width: 4, count: 8)]
    // Scale, 32 index bytes, eight u16.
    case .iq1S: [NumericField(at: 0, width: 2), NumericField(at: 34, width: 2, count: 8)]
    // Four u16 at the end, which hold the scale too.
    case .iq1M: [NumericField(at: 48, width: 2, count: 4)]
    // Scale and high bits of the scales.
    case .iq4XS: [NumericField(at: 0, width: 2, count: 2)]
    }
  }
}
