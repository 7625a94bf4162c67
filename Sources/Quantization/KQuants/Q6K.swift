/// Q6_K: 6.5625 bits per element, x = d · sc · (l - 32), sixteen sub-blocks of 16.
///
///     byte   0                       128            192        208  210
///            ├ low ──────────────────┼ high ────────┼ sc ──────┼ d ─┤
///            │ 128 × u8              │ 64 × u8      │ 16 × i8  │f16 │
///
/// - A level has six bits. The lower four: elements i and i + 64 of 128 share a byte. The upper two: four elements, 32
///   apart, share a byte.
///
/// Source: `block_q6_K` in ggml's `ggml-common.h`; `quantize_row_q6_K_ref`, `quantize_row_q6_K_impl` and
/// `dequantize_row_q6_K` in `ggml-quants.c`.
enum Q6K {
  static func decode(_ block: borrowing SuperBlock, into values: inout MutableSpan<Float>, at first: Int) {
    let scale = block.half(at: 208)
    for index in 0..<SuperBlock.elements {
      let low = lowBits(index)
      let high = SuperBlock.pair(index)
      let level =
        block.field(low.byte, shift: low.shift, width: 4)
        + block.field(128 + high.byte, shift: high.shift, width: 2) * 16 - 32
      values[first + index] = scale * Float(Int8(bitPattern: block.bytes[192 + index / 16])) * Float(level)
    }
  }

  static func encode(_ search: inout KQuantSearch, into block: inout SuperBlock) {
    var scales = [Float](repeating: 0, count: 16)
    for part in 0..<16 {
      for index in 0..<16 {
        let value = search.x[16 * part + index]
        search.weights[index] = search.isWeighted ? search.importance[16 * part + index] : value * value
      }
      scales[part] = KQuantSearch.fitSigned(
        search.x, weights: search.weights, at: 16 * part, count: 16, half: 32, levels: &search.levels)
    }
    let extreme = KQuantSearch.extreme(scales, at: 0, count: 16)
    // A super-block of zeros has zeros for levels too, although they stand for -32.
    if abs(extreme) < KQuantSearch.tiny { return }

    let inverse = -128 / extreme
    let storedScale = block.setHalf(1 / inverse, at: 208)
    for part in 0..<16 {
      let level = Int8(truncatingIfNeeded: min(127, KQuantSearch.nearest(inverse * scales[part])))
      block.bytes[192 + part] = UInt8(bitPattern: level)
      search.requantize(at: 16 * part, count: 16, scale: storedScale * Float(level), half: 32)
    }
    put(search.levels, into: &block)
  }

  /// Where levels are.
  static let levelBytes = 0..<192

  /// Stores levels, with 32 added, over zeros.
  static func put(_ levels: borrowing [Int], into block: inout SuperBlock) {
    for index in 0..<SuperBlock.elements {
      let low = lowBits(index)
      let high = SuperBlock.pair(index)
      block.put(levels[index] & 15, low.byte, shift: low.shift)
      block.put(levels[index] >> 4, 128 + high.byte, shift: high.shift)
    }
  }

  /// What the levels of each sub-block stand for.
  static func groups(_ block: borrowing SuperBlock) -> [BlockGrid.Group] {
    let scale = block.half(at: 208)
    var groups: [BlockGrid.Group] = []
    for part in 0..<16 {
      groups.append(BlockGrid.Group(scale: scale * Float(Int8(bitPattern: block.bytes[192 + part]))))
    }
    return groups
  }

  /// Where the lower four bits of element `index` are.
  private static func lowBits(_ index: Int) -> (byte: Int, shift: Int) {
    (index / 128 * 64 + index % 64, index % 128 / 64 * 4)
  }
}
