// How the scales and offsets of the sub-blocks become levels themselves.

extension KQuantSearch {
  /// Finds a scale and levels 0...`most` for the scales (or offsets) of the sub-blocks: with an importance matrix.
  ///
  /// Tries nine scales, takes the least error Σ w e², then changes one level at a time while that improves the fit; at
  /// most five rounds. Levels are bytes: a negative value, which only rounding can cause, wraps.
  static func fitPositive(
    _ x: borrowing [Float], weights: borrowing [Float], levels most: Int
  ) -> (scale: Float, levels: [UInt8]) {
    var levels = [UInt8](repeating: 0, count: x.count)
    var maximum: Float = 0
    for index in x.indices where x[index] > maximum { maximum = x[index] }
    guard maximum >= tiny else { return (0, levels) }

    var inverse = Float(most) / maximum
    let first = 1 / inverse
    var best: Float = 0
    for index in x.indices {
      let difference = x[index] - first * Float(UInt8(truncatingIfNeeded: nearest(inverse * x[index])))
      best += weights[index] * difference * difference
    }
    for candidate in -4...4 where candidate != 0 {
      let thisInverse = (0.1 * Float(candidate) + Float(most)) / maximum
      let thisScale = 1 / thisInverse
      var error: Float = 0
      for index in x.indices {
        let difference = x[index] - thisScale * Float(min(most, nearest(thisInverse * x[index])))
        error += weights[index] * difference * difference
      }
      if error < best {
        best = error
        inverse = thisInverse
      }
    }

    var sumLX: Float = 0
    var sumL2: Float = 0
    for index in x.indices {
      let level = min(most, nearest(inverse * x[index]))
      levels[index] = UInt8(truncatingIfNeeded: level)
      sumLX += weights[index] * x[index] * Float(level)
      sumL2 += weights[index] * Float(level) * Float(level)
    }
    for _ in 0..<5 {
      var changed = false
      for index in x.indices {
        let level = Float(levels[index])
        let weight = weights[index]
        var lx = sumLX - weight * x[index] * level
        var l2 = sumL2 - weight * level * level
        guard lx > 0, l2 > 0 else { continue }
        let next = min(most, nearest(x[index] * l2 / lx))
        guard next != Int(levels[index]) else { continue }
        lx += weight * x[index] * Float(next)
        l2 += weight * Float(next) * Float(next)
        if lx * lx * sumL2 > sumLX * sumLX * l2 {
          levels[index] = UInt8(truncatingIfNeeded: next)
          sumLX = lx
          sumL2 = l2
          changed = true
        }
      }
      if !changed { break }
    }
    return (sumL2 > 0 ? sumLX / sumL2 : 0, levels)
  }

  /// Levels 0...`most` for the scales (or offsets) of the sub-blocks: without an importance matrix, where the greatest
  /// maps to `most`.
  static func spread(_ x: borrowing [Float], levels most: Int) -> (scale: Float, levels: [UInt8]) {
    var maximum: Float = 0
    for index in x.indices where x[index] > maximum { maximum = x[index] }
    let inverse = maximum > 0 ? Float(most) / maximum : 0
    var levels = [UInt8](repeating: 0, count: x.count)
    for index in x.indices where maximum > 0 {
      levels[index] = UInt8(truncatingIfNeeded: nearest(inverse * x[index]))
    }
    return (maximum / Float(most), levels)
  }
}
