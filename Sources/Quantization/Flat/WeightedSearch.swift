internal import TensorFormats

/// Q4_0, Q4_1, Q5_0 and Q5_1 with an importance matrix: instead of taking the scale from the extremes, try several
/// and keep the one of least weighted squared error.
///
/// The weight of an element is its importance times the square root of (mean square of the *row* + its square), so a
/// row is encoded as a whole. Every sum runs over the elements in order, in F32.
///
/// Source: ggml, `quantize_row_q4_0_impl` and its siblings, `make_qx_quants`, `make_qkx3_quants` (arithmetic).
struct WeightedSearch: Sendable {
  var format: RoundedBlock

  func encode(
    _ values: Span<Float>, _ importance: Span<Float>, _ columns: Int, _ layout: BlockLayout,
    into blocks: inout MutableRawSpan
  ) {
    var x = BlockValues(repeating: 0, count: 32)
    var weights = BlockValues(repeating: 0, count: 32)
    var bytes = BlockBytes(repeating: 0, count: layout.bytes)
    var offset = 0
    for row in 0..<(values.count / columns) {
      var squares: Float = 0
      for j in 0..<columns { squares += values[row * columns + j] * values[row * columns + j] }
      let meanSquare = squares / Float(columns)
      for block in 0..<(columns / 32) {
        for i in 0..<32 {
          x[i] = values[row * columns + block * 32 + i]
          weights[i] = importance[block * 32 + i] * (meanSquare + x[i] * x[i]).squareRoot()
        }
        let found = format.isAffine ? affine(x, weights) : symmetric(x, weights)
        format.store(scale: found.scale, minimum: found.minimum, levels: found.levels, in: &bytes)
        for i in 0..<layout.bytes {
          blocks.storeBytes(of: bytes[i], toByteOffset: offset + i, as: UInt8.self)
        }
        offset += layout.bytes
      }
    }
  }

  private struct Found {
    var scale: Float
    var minimum: Float
    var levels: [Int32]
  }

  /// Rounds to nearest, ties to even, by adding 1.5 · 2^23, and keeps its result for infinities and NaN: a
  /// value of 2^22 in magnitude, which the caller clamps, and 0.
  private static func nearest(_ value: Float) -> Int32 {
    Int32(bitPattern: (value + 12_582_912).bitPattern & 0x007F_FFFF) - 0x0040_0000
  }

  // MARK: Symmetric

  private func symmetric(_ x: BlockValues, _ weights: BlockValues) -> Found {
    let half = format.levelCount / 2
    var largest: Float = 0
    for value in x where value.magnitude > largest.magnitude { largest = value }
    guard largest.magnitude >= 1e-15 else {
      return Found(scale: 0, minimum: 0, levels: [Int32](repeating: 0, count: x.count))
    }
    var best = trial(x, weights, inverse: -Float(half) / largest, half: half)
    var scale: Float = best.squares == 0 ? 0 : best.products / best.squares
    var score = scale * best.products
    for step in -9...9 where step != 0 {
      let next = trial(x, weights, inverse: -(Float(half) + 0.1 * Float(step)) / largest, half: half)
      guard next.squares > 0, next.products * next.products > score * next.squares else { continue }
      best = next
      scale = next.products / next.squares
      score = scale * next.products
    }
    return Found(scale: scale, minimum: 0, levels: best.levels.map { $0 + half })
  }

  /// The levels -half ..< half for one scale, with Σ w x l and Σ w l².
  private func trial(
    _ x: BlockValues, _ weights: BlockValues, inverse: Float, half: Int32
  ) -> (levels: [Int32], products: Float, squares: Float) {
    var levels: [Int32] = []
    var products: Float = 0
    var squares: Float = 0
    for i in x.indices {
      let level = max(-half, min(half - 1, Self.nearest(inverse * x[i])))
      levels.append(level)
      products += weights[i] * x[i] * Float(level)
      squares += weights[i] * Float(level) * Float(level)
    }
    return (levels, products, squares)
  }

  // MARK: Affine

  private func affine(_ x: BlockValues, _ weights: BlockValues) -> Found {
    let top = format.levelCount - 1
    var low = x[0]
    var high = x[0]
    var sumW = weights[0]
    var sumX = weights[0] * x[0]
    for i in 1..<x.count {
      if x[i] < low { low = x[i] }
      if x[i] > high { high = x[i] }
      sumW += weights[i]
      sumX += weights[i] * x[i]
    }
    if low > 0 { low = 0 }
    guard high > low else {
      return Found(scale: 0, minimum: low, levels: [Int32](repeating: 0, count: x.count))
    }
    let inverse = Float(top) / (high - low)
    var found = Found(scale: 1 / inverse, minimum: low, levels: levels(x, low, inverse, top))
    var least = error(x, weights, found)
    for step in 0...36 {
      // As in the reference, the extent is measured from the minimum of the best trial so far.
      let inverse = (-0.9 + 0.05 * Float(step) + Float(top)) / (high - found.minimum)
      let trial = levels(x, found.minimum, inverse, top)
      var sumL: Float = 0
      var sumLL: Float = 0
      var sumXL: Float = 0
      for i in x.indices {
        let level = Float(trial[i])
        sumL += weights[i] * level
        sumLL += weights[i] * level * level
        sumXL += weights[i] * level * x[i]
      }
      let determinant = sumW * sumLL - sumL * sumL
      guard determinant > 0 else { continue }
      var next = Found(
        scale: (sumW * sumXL - sumX * sumL) / determinant,
        minimum: (sumLL * sumX - sumL * sumXL) / determinant,
        levels: trial)
      if next.minimum > 0 {
        next.minimum = 0
        next.scale = sumXL / sumLL
      }
      let nextError = error(x, weights, next)
      if nextError < least {
        least = nextError
        found = next
      }
    }
    return found
  }

  private func levels(_ x: BlockValues, _ minimum: Float, _ inverse: Float, _ top: Int32) -> [Int32] {
    x.map { max(0, min(top, Self.nearest(inverse * ($0 - minimum)))) }
  }

  private func error(_ x: BlockValues, _ weights: BlockValues, _ found: Found) -> Float {
    var sum: Float = 0
    for i in x.indices {
      let difference = found.scale * Float(found.levels[i]) + found.minimum - x[i]
      sum += weights[i] * (difference * difference)
    }
    return sum
  }
}
