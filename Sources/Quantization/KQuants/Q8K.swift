/// Q8_K: 9.125 bits per element, x = d · l, one scale for 256 elements. Engines quantise activations to it on the
/// fly; it does not occur in model files.
///
///     byte   0    4                               260            292
///            ├ d ─┼ levels ───────────────────────┼ sums ────────┤
///            │f32 │ 256 × i8                      │ 16 × i16     │
///
/// - Sum j is that of levels 16 j ..< 16 j + 16. A block of zeros has sums of 0 here; the reference leaves them
///   unset.
///
/// Source: `block_q8_K` in ggml's `ggml-common.h`; `quantize_row_q8_K_ref` and `dequantize_row_q8_K` in
/// `ggml-quants.c`.
enum Q8K {
  static func decode(_ block: borrowing SuperBlock, into values: inout MutableSpan<Float>, at first: Int) {
    var bits: UInt32 = 0
    for index in 0..<4 { bits |= UInt32(block.bytes[index]) << (8 * index) }
    for index in 0..<SuperBlock.elements {
      values[first + index] = Float(bitPattern: bits) * Float(Int8(bitPattern: block.bytes[4 + index]))
    }
  }

  static func encode(_ search: inout KQuantSearch, into block: inout SuperBlock) {
    let extreme = KQuantSearch.extreme(search.x, at: 0, count: SuperBlock.elements)
    if extreme == 0 { return }
    let inverse = -127 / extreme
    let bits = (1 / inverse).bitPattern
    for index in 0..<4 { block.bytes[index] = UInt8(truncatingIfNeeded: bits >> (8 * index)) }
    for part in 0..<16 {
      var sum = 0
      for index in 16 * part..<16 * part + 16 {
        let level = Int8(truncatingIfNeeded: min(127, KQuantSearch.nearest(inverse * search.x[index])))
        block.bytes[4 + index] = UInt8(bitPattern: level)
        sum += Int(level)
      }
      block.bytes[260 + 2 * part] = UInt8(truncatingIfNeeded: sum)
      block.bytes[261 + 2 * part] = UInt8(truncatingIfNeeded: sum >> 8)
    }
  }
}
