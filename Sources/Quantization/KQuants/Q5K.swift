/// Q5_K: 5.5 bits per element, x = d · sc · l - dmin · m, eight sub-blocks of 32.
///
///     byte   0    2      4          16         48                      176
///            ├ d ─┼ dmin ┼ sc, m ───┼ high ────┼ low ──────────────────┤
///            │f16 │ f16  │ 12 × u8  │ 32 × u8  │ 128 × u8              │
///
/// - sc and m have six bits each, packed as `SuperBlock.partScale(_:at:)` says.
/// - A level has five bits. The highest: eight elements, 32 apart, share a byte. The lower four: elements i and i + 32
///   of 64 share a byte.
///
/// Source: `block_q5_K` in ggml's `ggml-common.h`; `quantize_row_q5_K_ref`, `quantize_row_q5_K_impl` and
/// `dequantize_row_q5_K` in `ggml-quants.c`.
enum Q5K {
  static func decode(_ block: borrowing SuperBlock, into values: inout MutableSpan<Float>, at first: Int) {
    let scale = block.half(at: 0)
    let offset = block.half(at: 2)
    for index in 0..<SuperBlock.elements {
      let low = SuperBlock.nibble(index)
      let high = SuperBlock.bit(index)
      let level =
        block.field(48 + low.byte, shift: low.shift, width: 4)
        + block.field(16 + high.byte, shift: high.shift, width: 1) * 16
      values[first + index] =
        scale * Float(block.partScale(index / 32, at: 4)) * Float(level)
        - offset * Float(block.partOffset(index / 32, at: 4))
    }
  }

  static func encode(_ search: inout KQuantSearch, into block: inout SuperBlock) {
    var parts = KAffineParts(
      fitting: &search, levels: 31, candidates: AffineCandidates(first: -0.5, step: 0.1, count: 15))
    parts.clamp()
    parts.store(into: &block, requantizing: &search)
    put(search.levels, into: &block)
  }

  /// Where levels are.
  static let levelBytes = 16..<176

  /// Stores levels, over zeros.
  static func put(_ levels: borrowing [Int], into block: inout SuperBlock) {
    for index in 0..<SuperBlock.elements {
      let low = SuperBlock.nibble(index)
      let high = SuperBlock.bit(index)
      block.put(levels[index] & 15, 48 + low.byte, shift: low.shift)
      block.put(levels[index] >> 4, 16 + high.byte, shift: high.shift)
    }
  }
}
