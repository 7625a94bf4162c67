/// Q3_K: 3.4375 bits per element, x = d · (sc - 32) · (l - 4), sixteen sub-blocks of 16.
///
///     byte   0          32             96         108  110
///            ├ high ────┼ low ─────────┼ sc ──────┼ d ─┤
///            │ 32 × u8  │ 64 × u8      │ 12 × u8  │f16 │
///
/// - A level has three bits. The highest: eight elements, 32 apart, share a byte. The lower two: four elements, 32
///   apart, share a byte.
/// - A scale has six bits. The lower four: sub-blocks j and j + 8 share byte j. The upper two: sub-blocks j, j + 4,
///   j + 8 and j + 12 share byte 8 + j.
///
/// Source: `block_q3_K` in ggml's `ggml-common.h`; `quantize_row_q3_K_ref`, `quantize_row_q3_K_impl` and
/// `dequantize_row_q3_K` in `ggml-quants.c`.
enum Q3K {
  static func decode(_ block: borrowing SuperBlock, into values: inout MutableSpan<Float>, at first: Int) {
    let scale = block.half(at: 108)
    for index in 0..<SuperBlock.elements {
      let low = SuperBlock.pair(index)
      let high = SuperBlock.bit(index)
      let level =
        block.field(32 + low.byte, shift: low.shift, width: 2)
        + block.field(high.byte, shift: high.shift, width: 1) * 4 - 4
      values[first + index] = scale * Float(partScale(block, index / 16)) * Float(level)
    }
  }

  static func encode(_ search: inout KQuantSearch, into block: inout SuperBlock) {
    var scales = [Float](repeating: 0, count: 16)
    var scaleLevels = [Int](repeating: 0, count: 16)
    let scale: Float
    if search.isWeighted {
      var sums = scales
      let variance = 2 * search.sumOfSquares(at: 0, count: 256) / 256
      for part in 0..<16 {
        sums[part] = search.weighByImportance(at: 16 * part, count: 16, variance: variance)
        scales[part] = KQuantSearch.fitSigned(
          search.x, weights: search.weights, at: 16 * part, count: 16, half: 4, levels: &search.levels)
      }
      scale = KQuantSearch.fitSigned(
        scales, weights: sums, at: 0, count: 16, half: 32, levels: &scaleLevels)
    } else {
      for part in 0..<16 { scales[part] = search.fitByDescent(at: 16 * part, half: 4) }
      let extreme = KQuantSearch.extreme(scales, at: 0, count: 16)
      if extreme != 0 {
        let inverse = -32 / extreme
        for part in 0..<16 {
          let level = Int8(truncatingIfNeeded: KQuantSearch.nearest(inverse * scales[part]))
          scaleLevels[part] = max(-32, min(31, Int(level))) + 32
        }
        scale = 1 / inverse
      } else {
        scale = 0
      }
    }

    for part in 0..<16 {
      block.put(scaleLevels[part] & 15, 96 + part % 8, shift: part / 8 * 4)
      block.put(scaleLevels[part] >> 4, 104 + part % 4, shift: part / 4 * 2)
    }
    let storedScale = block.setHalf(scale, at: 108)
    for part in 0..<16 {
      search.requantize(
        at: 16 * part, count: 16, scale: storedScale * Float(partScale(block, part)), half: 4)
    }
    put(search.levels, into: &block)
  }

  /// Where levels are.
  static let levelBytes = 0..<96

  /// Stores levels, with 4 added, over zeros.
  static func put(_ levels: borrowing [Int], into block: inout SuperBlock) {
    for index in 0..<SuperBlock.elements {
      let low = SuperBlock.pair(index)
      let high = SuperBlock.bit(index)
      block.put(levels[index] & 3, 32 + low.byte, shift: low.shift)
      block.put(levels[index] >> 2, high.byte, shift: high.shift)
    }
  }

  /// What the levels of each sub-block stand for.
  static func groups(_ block: borrowing SuperBlock) -> [BlockGrid.Group] {
    let scale = block.half(at: 108)
    var groups: [BlockGrid.Group] = []
    for part in 0..<16 { groups.append(BlockGrid.Group(scale: scale * Float(partScale(block, part)))) }
    return groups
  }

  /// The scale of a sub-block as stored, -32...31.
  private static func partScale(_ block: borrowing SuperBlock, _ part: Int) -> Int {
    let low = block.field(96 + part % 8, shift: part / 8 * 4, width: 4)
    return low + block.field(104 + part % 4, shift: part / 4 * 2, width: 2) * 16 - 32
  }
}
