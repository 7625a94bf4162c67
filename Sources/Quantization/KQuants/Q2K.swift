/// Q2_K: 2.625 bits per element, x = d · sc · l - dmin · m, sixteen sub-blocks of 16.
///
///     byte   0          16             80   82     84
///            ├ sc, m ───┼ levels ──────┼ d ─┼ dmin ┤
///            │ 16 × u8  │ 64 × u8      │f16 │ f16  │
///
/// - Byte j of the first field has sc (low) and m (high) of sub-block j, four bits each.
/// - A level has two bits; four elements, 32 apart, share a byte, lowest first.
///
/// Source: `block_q2_K` in ggml's `ggml-common.h`; `quantize_row_q2_K_ref`, `quantize_row_q2_K_impl` and
/// `dequantize_row_q2_K` in `ggml-quants.c`.
enum Q2K {
  static func decode(_ block: borrowing SuperBlock, into values: inout MutableSpan<Float>, at first: Int) {
    let scale = block.half(at: 80)
    let offset = block.half(at: 82)
    for index in 0..<SuperBlock.elements {
      let part = index / 16
      let (byte, shift) = SuperBlock.pair(index)
      let level = Float(block.field(16 + byte, shift: shift, width: 2))
      values[first + index] =
        scale * Float(block.field(part, shift: 0, width: 4)) * level
        - offset * Float(block.field(part, shift: 4, width: 4))
    }
  }

  static func encode(_ search: inout KQuantSearch, into block: inout SuperBlock) {
    var scales = [Float](repeating: 0, count: 16)
    var offsets = scales
    var sums = scales
    let variance = search.isWeighted ? search.sumOfSquares(at: 0, count: 256) / 256 : 0
    for part in 0..<16 {
      let fit: AffineFit
      if search.isWeighted {
        sums[part] = search.weighByImportance(at: 16 * part, count: 16, variance: variance)
        fit = search.fitAffine(at: 16 * part, count: 16, levels: 3, candidates: .weighted)
      } else {
        for index in 0..<16 { search.weights[index] = abs(search.x[16 * part + index]) }
        fit = search.fitAffine(
          at: 16 * part, count: 16, levels: 3,
          candidates: AffineCandidates(first: -0.5, step: 0.1, count: 15), absoluteError: true)
      }
      scales[part] = fit.scale
      offsets[part] = fit.offset
    }
    let (scale, scaleLevels) =
      search.isWeighted
      ? KQuantSearch.fitPositive(scales, weights: sums, levels: 15) : KQuantSearch.spread(scales, levels: 15)
    let (offset, offsetLevels) =
      search.isWeighted
      ? KQuantSearch.fitPositive(offsets, weights: sums, levels: 15)
      : KQuantSearch.spread(offsets, levels: 15)

    let storedScale = block.setHalf(scale, at: 80)
    let storedOffset = block.setHalf(offset, at: 82)
    for part in 0..<16 {
      block.put(Int(scaleLevels[part]), part, shift: 0)
      block.put(Int(offsetLevels[part]), part, shift: 4)
      search.requantize(
        at: 16 * part, count: 16, scale: storedScale * Float(block.field(part, shift: 0, width: 4)),
        offset: storedOffset * Float(block.field(part, shift: 4, width: 4)), levels: 3)
    }
    put(search.levels, into: &block)
  }

  /// Where levels are.
  static let levelBytes = 16..<80

  /// Stores levels, over zeros.
  static func put(_ levels: borrowing [Int], into block: inout SuperBlock) {
    for index in 0..<SuperBlock.elements {
      let (byte, shift) = SuperBlock.pair(index)
      block.put(levels[index], 16 + byte, shift: shift)
    }
  }

  /// What the levels of each sub-block stand for.
  static func groups(_ block: borrowing SuperBlock) -> [BlockGrid.Group] {
    let (scale, offset) = (block.half(at: 80), block.half(at: 82))
    var groups: [BlockGrid.Group] = []
    for part in 0..<16 {
      groups.append(
        BlockGrid.Group(
          scale: scale * Float(block.field(part, shift: 0, width: 4)),
          offset: offset * Float(block.field(part, shift: 4, width: 4))))
    }
    return groups
  }
}
