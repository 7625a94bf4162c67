internal import CBlockKernels
internal import TensorFormats

/// Q4_0, Q4_1, Q5_0 and Q5_1: 32 elements, each rounded to one of 16 or 32 levels.
///
///     Q4_0  d F16 | 16 bytes of levels                           18 bytes   x = d (q - 8)
///     Q4_1  d F16 | m F16 | 16 bytes of levels                   20 bytes   x = d q + m
///     Q5_0  d F16 | fifth bits U32 | 16 bytes of levels          22 bytes   x = d (q - 16)
///     Q5_1  d F16 | m F16 | fifth bits U32 | 16 bytes of levels  24 bytes   x = d q + m
///
/// Byte *j* of the levels holds the low four bits of element *j* (low nibble) and of element *j* + 16 (high nibble);
/// bit *j* of the fifth bits belongs to element *j*.
///
/// Source: ggml, `ggml-common.h` (layout) and `quantize_row_q4_0_ref` ... `dequantize_row_q5_1` (arithmetic).
struct RoundedBlock: Sendable {
  /// 4 or 5.
  var bits: UInt32
  /// Whether the block stores its minimum (`_1`), or is symmetric about 0 (`_0`).
  var isAffine: Bool

  /// All levels.
  var levels: ClosedRange<Int> {
    isAffine ? 0...Int(levelCount) - 1 : Int(-levelCount / 2)...Int(levelCount / 2) - 1
  }

  var levelCount: Int32 { 1 << Int32(bits) }
  /// Where the levels (with the fifth bits) begin.
  private var levelsOffset: Int { isAffine ? 4 : 2 }

  // MARK: Decoding

  func decode(_ block: BlockBytes, into values: inout BlockValues) {
    let d = HalfPrecision.float(block.littleEndian16(at: 0))
    let m = isAffine ? HalfPrecision.float(block.littleEndian16(at: 2)) : 0
    let fifths = bits == 5 ? block.littleEndian32(at: levelsOffset) : 0
    let nibbles = levelsOffset + (bits == 5 ? 4 : 0)
    for i in 0..<32 {
      let byte = block[nibbles + i % 16]
      let low = Int32(i < 16 ? byte & 15 : byte >> 4)
      let level = low | Int32(fifths >> UInt32(i) & 1) << 4
      values[i] = isAffine ? Float(level) * d + m : Float(level - levelCount / 2) * d
    }
  }

  // MARK: Encoding

  func encode(_ x: BlockValues, into block: inout BlockBytes) {
    if isAffine { encodeAffine(x, into: &block) } else { encodeSymmetric(x, into: &block) }
  }

  /// The value of largest magnitude becomes level 0 exactly: that is why the scale has the opposite sign.
  private func encodeSymmetric(_ x: BlockValues, into block: inout BlockBytes) {
    var largest: Float = 0
    for value in x where value.magnitude > largest.magnitude { largest = value }
    let half = Float(levelCount / 2)
    let d = largest / -half
    store(
      scale: d, minimum: 0, levels: Self.levels(x, d: d, minimum: 0, offset: half + 0.5, levelCount),
      in: &block)
  }

  private func encodeAffine(_ x: BlockValues, into block: inout BlockBytes) {
    var low = Float.greatestFiniteMagnitude
    var high = -Float.greatestFiniteMagnitude
    for value in x {
      if value < low { low = value }
      if value > high { high = value }
    }
    let d = (high - low) / Float(levelCount - 1)
    store(
      scale: d, minimum: low, levels: Self.levels(x, d: d, minimum: low, offset: 0.5, levelCount), in: &block)
  }

  private static func levels(
    _ x: BlockValues, d: Float, minimum: Float, offset: Float, _ levelCount: Int32
  ) -> [Int32] {
    guard let inverse = usableInverse(d) else { return [Int32](repeating: 0, count: x.count) }
    return x.map { min(levelCount - 1, Int32(($0 - minimum) * inverse + offset)) }
  }

  /// 1/d, or 0 for 0; `nil` where d or 1/d overflows.
  ///
  /// The reference goes on with the infinity, converts infinities and NaN to integers, and keeps the low byte. On
  /// x86-64 that is 0, so every level is 0.
  static func usableInverse(_ d: Float) -> Float? {
    let inverse = d == 0 ? 0 : 1 / d
    return d.isFinite && inverse.isFinite ? inverse : nil
  }

  /// Writes a block.
  func store(scale: Float, minimum: Float, levels: [Int32], in block: inout BlockBytes) {
    block.store(HalfPrecision.bits(scale), at: 0)
    if isAffine { block.store(HalfPrecision.bits(minimum), at: 2) }
    put(levels, in: &block)
  }

  /// Writes the levels of a block.
  func put(_ levels: [Int32], in block: inout BlockBytes) {
    var nibbles = levelsOffset
    if bits == 5 {
      var fifths: UInt32 = 0
      for (i, level) in levels.enumerated() { fifths |= UInt32(level >> 4 & 1) << UInt32(i) }
      block.store(fifths, at: levelsOffset)
      nibbles += 4
    }
    for j in 0..<16 { block[nibbles + j] = UInt8(levels[j] & 15) | UInt8(levels[j + 16] & 15) << 4 }
  }

  /// What the levels of a block stand for.
  func group(_ block: BlockBytes) -> BlockGrid.Group {
    BlockGrid.Group(
      scale: HalfPrecision.float(block.littleEndian16(at: 0)),
      offset: isAffine ? -HalfPrecision.float(block.littleEndian16(at: 2)) : 0)
  }
}

/// Q8_0 and Q8_1: 32 elements of eight bits.
///
///     Q8_0  d F16 | 32 signed bytes          34 bytes   x = d q
///     Q8_1  d F16 | s F16 | 32 signed bytes  36 bytes   x = d q, s = d Σ q
///
/// Q8_1 is what ggml rounds activations to; files do not hold it, so it is only read.
///
/// Source: ggml, `ggml-common.h` and `quantize_row_q8_0_ref`, `dequantize_row_q8_0`.
enum EightBitBlock {
  static func decode(_ block: BlockBytes, levelsAt offset: Int, into values: inout BlockValues) {
    let d = HalfPrecision.float(block.littleEndian16(at: 0))
    for i in 0..<32 { values[i] = Float(Int8(bitPattern: block[offset + i])) * d }
  }

  /// Halves are rounded away from zero here, unlike elsewhere in these formats.
  static func encode(_ x: BlockValues, into block: inout BlockBytes) {
    let largest = x.reduce(0) { max($0, $1.magnitude) }
    let d = largest / 127
    block.store(HalfPrecision.bits(d), at: 0)
    let inverse = RoundedBlock.usableInverse(d)
    for i in 0..<32 {
      let level = inverse.map { Int8((x[i] * $0).rounded(.toNearestOrAwayFromZero)) } ?? 0
      block[2 + i] = UInt8(bitPattern: level)
    }
  }
}

extension BlockCodec {
  /// Blocks of 32 elements under an F16 scale.
  static var roundedBlockCodecs: [BlockCodec] {
    unsafe [
      rounded(.q4_0, RoundedBlock(bits: 4, isAffine: false), cbk_decode_q4_0, cbk_encode_q4_0),
      rounded(.q4_1, RoundedBlock(bits: 4, isAffine: true), cbk_decode_q4_1, cbk_encode_q4_1),
      rounded(.q5_0, RoundedBlock(bits: 5, isAffine: false), cbk_decode_q5_0, cbk_encode_q5_0),
      rounded(.q5_1, RoundedBlock(bits: 5, isAffine: true), cbk_decode_q5_1, cbk_encode_q5_1),
      .flat(
        .q8_0, decodeKernel: cbk_decode_q8_0, encodeKernel: cbk_encode_q8_0,
        decode: { EightBitBlock.decode($0, levelsAt: 2, into: &$1) }, encode: EightBitBlock.encode),
      .flat(
        .q8_1, decodeKernel: cbk_decode_q8_1, encodeKernel: nil,
        decode: { EightBitBlock.decode($0, levelsAt: 4, into: &$1) }, encode: nil),
    ]
  }

  private static func rounded(
    _ type: ElementType, _ format: RoundedBlock, _ decode: @escaping cbk_decode_fn,
    _ encode: @escaping cbk_encode_fn
  ) -> BlockCodec {
    let layout = type.block
    return unsafe BlockCodec(
      elementType: type, importanceUse: .optional, decodeKernel: decode, encodeKernel: encode,
      decodeTwin: { blocks, values in
        decodeBlocks(blocks, into: &values, layout) { format.decode($0, into: &$1) }
      },
      encodeTwin: { values, importance, columns, blocks in
        if let importance {
          WeightedSearch(format: format).encode(values, importance, columns, layout, into: &blocks)
        } else {
          encodeBlocks(values, into: &blocks, layout) { format.encode($0, into: &$1) }
        }
      })
  }
}
