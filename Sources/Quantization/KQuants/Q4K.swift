/// Q4_K: 4.5 bits per element, x = d · sc · l - dmin · m, eight sub-blocks of 32.
///
///     byte   0    2      4          16                      144
///            ├ d ─┼ dmin ┼ sc, m ───┼ levels ───────────────┤
///            │f16 │ f16  │ 12 × u8  │ 128 × u8              │
///
/// - sc and m have six bits each, packed as `SuperBlock.partScale(_:at:)` says.
/// - A level has four bits; elements i and i + 32 of 64 share a byte, the first in the low half.
///
/// Source: `block_q4_K` in ggml's `ggml-common.h`; `quantize_row_q4_K_ref`, `quantize_row_q4_K_impl` and
/// `dequantize_row_q4_K` in `ggml-quants.c`.
enum Q4K {
  static func decode(_ block: borrowing SuperBlock, into values: inout MutableSpan<Float>, at first: Int) {
    let scale = block.half(at: 0)
    let offset = block.half(at: 2)
    for index in 0..<SuperBlock.elements {
      let (byte, shift) = SuperBlock.nibble(index)
      let level = Float(block.field(16 + byte, shift: shift, width: 4))
      values[first + index] =
        scale * Float(block.partScale(index / 32, at: 4)) * level
        - offset * Float(block.partOffset(index / 32, at: 4))
    }
  }

  static func encode(_ search: inout KQuantSearch, into block: inout SuperBlock) {
    let parts = KAffineParts(
      fitting: &search, levels: 15, candidates: AffineCandidates(first: -1, step: 0.1, count: 20))
    parts.store(into: &block, requantizing: &search)
    put(search.levels, into: &block)
  }

  /// Where levels are.
  static let levelBytes = 16..<144

  /// Stores levels, over zeros.
  static func put(_ levels: borrowing [Int], into block: inout SuperBlock) {
    for index in 0..<SuperBlock.elements {
      let (byte, shift) = SuperBlock.nibble(index)
      block.put(levels[index], 16 + byte, shift: shift)
    }
  }
}
