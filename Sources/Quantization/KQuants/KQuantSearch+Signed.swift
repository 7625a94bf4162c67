extension KQuantSearch {
  /// Finds the scale of `count` values, x ≈ scale · (l - half), and their levels l in 0..<2 · half.
  ///
  /// Tries nineteen scales near the one that maps the extreme value to -half, each improved by weighted least squares.
  /// All but zero gives scale 0 and levels 0 (which stand for -half; the scale makes that harmless).
  static func fitSigned(
    _ x: borrowing [Float], weights: borrowing [Float], at first: Int, count: Int, half: Int,
    levels: inout [Int]
  ) -> Float {
    let extreme = extreme(x, at: first, count: count)
    guard abs(extreme) >= tiny else {
      for index in first..<first + count { levels[index] = 0 }
      return 0
    }
    var bestInverse = Float(-half) / extreme
    var (sumLX, sumL2) = signedSums(x, weights, at: first, count: count, half: half, inverse: bestInverse)
    var scale = sumL2 != 0 ? sumLX / sumL2 : 0
    var best = scale * sumLX
    for candidate in -9...9 where candidate != 0 {
      let inverse = -(Float(half) + 0.1 * Float(candidate)) / extreme
      (sumLX, sumL2) = signedSums(x, weights, at: first, count: count, half: half, inverse: inverse)
      if sumL2 > 0, sumLX * sumLX > best * sumL2 {
        bestInverse = inverse
        scale = sumLX / sumL2
        best = scale * sumLX
      }
    }
    for index in first..<first + count {
      levels[index] = nearest(bestInverse * x[index], in: -half...half - 1) + half
    }
    return scale
  }

  /// Σ w x l and Σ w l² for the levels that one scale gives.
  private static func signedSums(
    _ x: borrowing [Float], _ weights: borrowing [Float], at first: Int, count: Int, half: Int, inverse: Float
  ) -> (lx: Float, l2: Float) {
    var sumLX: Float = 0
    var sumL2: Float = 0
    for index in 0..<count {
      let value = x[first + index]
      let level = Float(nearest(inverse * value, in: -half...half - 1))
      sumLX += weights[index] * value * level
      sumL2 += weights[index] * level * level
    }
    return (sumLX, sumL2)
  }

  /// Finds the scale and levels of sixteen values with weights x²: starts from the scale that maps the extreme value
  /// to -half, then changes one level at a time while that improves the fit; at most five rounds.
  ///
  /// All but zero gives scale 0 and levels 0.
  mutating func fitByDescent(at first: Int, half: Int) -> Float {
    let range = -half...half - 1
    let extreme = Self.extreme(x, at: first, count: 16)
    guard abs(extreme) >= Self.tiny else {
      for index in first..<first + 16 { levels[index] = 0 }
      return 0
    }
    let inverse = Float(-half) / extreme
    var sumLX: Float = 0
    var sumL2: Float = 0
    for index in first..<first + 16 {
      levels[index] = Self.nearest(inverse * x[index], in: range)
      let level = Float(levels[index])
      let weight = x[index] * x[index]
      sumLX += weight * x[index] * level
      sumL2 += weight * level * level
    }
    for _ in 0..<5 {
      var changed = false
      for index in first..<first + 16 {
        let level = Float(levels[index])
        let weight = x[index] * x[index]
        // Without this element, the others' best scale is lx / l2.
        var lx = sumLX - weight * x[index] * level
        var l2 = sumL2 - weight * level * level
        guard lx > 0 else { continue }
        let next = Self.nearest(x[index] * l2 / lx, in: range)
        guard next != levels[index] else { continue }
        lx += weight * x[index] * Float(next)
        l2 += weight * Float(next) * Float(next)
        if l2 > 0, lx * lx * sumL2 > sumLX * sumLX * l2 {
          levels[index] = next
          sumLX = lx
          sumL2 = l2
          changed = true
        }
      }
      if !changed { break }
    }
    for index in first..<first + 16 { levels[index] += half }
    return sumL2 > 0 ? sumLX / sumL2 : 0
  }
}
