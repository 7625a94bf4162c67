// What Q4_K and Q5_K share: eight sub-blocks of 32 with 6-bit scales and offsets.

/// The scales and offsets of the eight sub-blocks, as levels of two super-block scales.
struct KAffineParts {
  private let most: Int
  private let scale: Float
  private let offset: Float
  private var scaleLevels: [UInt8]
  private var offsetLevels: [UInt8]

  /// Finds them, and the levels 0...`most` of the elements.
  ///
  /// - Parameter candidates: Those of the search without an importance matrix.
  init(fitting search: inout KQuantSearch, levels most: Int, candidates: AffineCandidates) {
    var scales = [Float](repeating: 0, count: 8)
    var offsets = scales
    var sums = scales
    let variance = search.isWeighted ? 2 * search.sumOfSquares(at: 0, count: 256) / 256 : 0
    for part in 0..<8 {
      if search.isWeighted {
        sums[part] = search.weighByImportance(at: 32 * part, count: 32, variance: variance)
      } else {
        let mean = (search.sumOfSquares(at: 32 * part, count: 32) / 32).squareRoot()
        for index in 0..<32 { search.weights[index] = mean + abs(search.x[32 * part + index]) }
      }
      let fit = search.fitAffine(
        at: 32 * part, count: 32, levels: most, candidates: search.isWeighted ? .weighted : candidates)
      scales[part] = fit.scale
      offsets[part] = fit.offset
    }
    self.most = most
    if search.isWeighted {
      (scale, scaleLevels) = KQuantSearch.fitPositive(scales, weights: sums, levels: 63)
      (offset, offsetLevels) = KQuantSearch.fitPositive(offsets, weights: sums, levels: 63)
    } else {
      (scale, scaleLevels) = KQuantSearch.spread(scales, levels: 63)
      (offset, offsetLevels) = KQuantSearch.spread(offsets, levels: 63)
      clamp()
    }
  }

  /// Limits the levels to six bits, which only wrapped ones exceed. Q4_K with an importance matrix does without, and
  /// then a wrapped level spills into its neighbour's bits.
  mutating func clamp() {
    for part in 0..<8 {
      scaleLevels[part] = min(63, scaleLevels[part])
      offsetLevels[part] = min(63, offsetLevels[part])
    }
  }

  /// Stores scales and offsets in the first 16 bytes and finds the final levels for what was stored.
  func store(into block: inout SuperBlock, requantizing search: inout KQuantSearch) {
    let storedScale = block.setHalf(scale, at: 0)
    let storedOffset = block.setHalf(offset, at: 2)
    for part in 0..<8 {
      let scaleLevel = Int(scaleLevels[part])
      let offsetLevel = Int(offsetLevels[part])
      if part < 4 {
        block.put(scaleLevel, 4 + part, shift: 0)
        block.put(offsetLevel, 8 + part, shift: 0)
      } else {
        block.put(scaleLevel & 15, 8 + part, shift: 0)
        block.put(offsetLevel & 15, 8 + part, shift: 4)
        block.put(scaleLevel >> 4, part, shift: 6)
        block.put(offsetLevel >> 4, 4 + part, shift: 6)
      }
    }
    for part in 0..<8 {
      search.requantize(
        at: 32 * part, count: 32, scale: storedScale * Float(block.partScale(part, at: 4)),
        offset: storedOffset * Float(block.partOffset(part, at: 4)), levels: most)
    }
  }
}

extension KAffineParts {
  /// What the levels of each sub-block stand for.
  static func groups(_ block: borrowing SuperBlock) -> [BlockGrid.Group] {
    let (scale, offset) = (block.half(at: 0), block.half(at: 2))
    var groups: [BlockGrid.Group] = []
    for part in 0..<8 {
      groups.append(
        BlockGrid.Group(
          scale: scale * Float(block.partScale(part, at: 4)),
          offset: offset * Float(block.partOffset(part, at: 4))))
    }
    return groups
  }
}

// MARK: - Packing

extension SuperBlock {
  /// The 6-bit scale of sub-block `part` in the twelve bytes at `offset`.
  ///
  ///     byte       bits 0…5 / 0…3     bits 6, 7 / 4…7
  ///     j          scale j            upper bits of scale j + 4
  ///     j + 4      offset j           upper bits of offset j + 4
  ///     j + 8      low 4: scale j + 4 high 4: offset j + 4
  ///
  /// for j in 0..<4.
  func partScale(_ part: Int, at offset: Int) -> Int {
    if part < 4 { return field(offset + part, shift: 0, width: 6) }
    return field(offset + part + 4, shift: 0, width: 4) + field(offset + part - 4, shift: 6, width: 2) * 16
  }

  /// The 6-bit offset of sub-block `part`, packed beside the scales.
  func partOffset(_ part: Int, at offset: Int) -> Int {
    if part < 4 { return field(offset + part + 4, shift: 0, width: 6) }
    return field(offset + part + 4, shift: 4, width: 4) + field(offset + part, shift: 6, width: 2) * 16
  }
}
