/// What the affine search finds: x ≈ scale · l - offset.
struct AffineFit {
  var scale: Float
  var offset: Float
}

/// The candidates of the affine search: scales that map the block's range to `levels` + shift steps, for `count` + 1
/// shifts from `first` in steps of `step`.
struct AffineCandidates {
  var first: Float
  var step: Float
  var count: Int

  /// With an importance matrix, in every format.
  static let weighted = AffineCandidates(first: -0.9, step: 0.05, count: 36)
}

extension KQuantSearch {
  /// Finds scale, offset and levels 0...`most` of a sub-block whose search weights are set.
  ///
  /// Each candidate scale gives levels, for which the best scale and minimum follow by weighted least squares (the
  /// minimum at most 0). The least error wins; its minimum is used for the candidates after it.
  ///
  /// - Parameter absoluteError: Measure the error as Σ w |e| instead of Σ w e².
  mutating func fitAffine(
    at first: Int, count: Int, levels most: Int, candidates: AffineCandidates, absoluteError: Bool = false
  ) -> AffineFit {
    var minimum = x[first]
    var maximum = x[first]
    var sumW = weights[0]
    var sumX = sumW * x[first]
    for index in 1..<count {
      let value = x[first + index]
      if value < minimum { minimum = value }
      if value > maximum { maximum = value }
      sumW += weights[index]
      sumX += weights[index] * value
    }
    if minimum > 0 { minimum = 0 }
    guard maximum > minimum else {
      for index in first..<first + count { levels[index] = 0 }
      return AffineFit(scale: 0, offset: -minimum)
    }

    var inverse = Float(most) / (maximum - minimum)
    var scale = 1 / inverse
    for index in 0..<count {
      trial[index] = Self.nearest(inverse * (x[first + index] - minimum), in: 0...most)
      levels[first + index] = trial[index]
    }
    var best = affineError(at: first, count: count, scale, minimum, absolute: absoluteError)

    for candidate in 0...candidates.count {
      inverse =
        (candidates.first + candidates.step * Float(candidate) + Float(most)) / (maximum - minimum)
      var sumL: Float = 0
      var sumL2: Float = 0
      var sumXL: Float = 0
      for index in 0..<count {
        let value = x[first + index]
        trial[index] = Self.nearest(inverse * (value - minimum), in: 0...most)
        let level = Float(trial[index])
        let weight = weights[index]
        sumL += weight * level
        sumL2 += weight * level * level
        sumXL += weight * level * value
      }
      let determinant = sumW * sumL2 - sumL * sumL
      guard determinant > 0 else { continue }
      var thisScale = (sumW * sumXL - sumX * sumL) / determinant
      var thisMinimum = (sumL2 * sumX - sumL * sumXL) / determinant
      if thisMinimum > 0 {
        thisMinimum = 0
        thisScale = sumXL / sumL2
      }
      let error = affineError(at: first, count: count, thisScale, thisMinimum, absolute: absoluteError)
      guard error < best else { continue }
      for index in 0..<count { levels[first + index] = trial[index] }
      best = error
      scale = thisScale
      minimum = thisMinimum
    }
    return AffineFit(scale: scale, offset: -minimum)
  }

  /// The weighted error of scale · trial + minimum.
  private func affineError(
    at first: Int, count: Int, _ scale: Float, _ minimum: Float, absolute: Bool
  ) -> Float {
    var error: Float = 0
    for index in 0..<count {
      let difference = scale * Float(trial[index]) + minimum - x[first + index]
      error += weights[index] * (absolute ? abs(difference) : difference * difference)
    }
    return error
  }
}
