/// One super-block being encoded, and the searches for its scales.
///
/// A search finds, for n values x with weights w, a scale (and perhaps a minimum) and integer *levels* l so that
/// scale · l approximates x. The order of every operation is part of the formats' definition here: sums run from the
/// first element to the last, products associate to the left, nothing is fused.
///
/// Source of the arithmetic: `make_qkx2_quants`, `make_qkx3_quants`, `make_qx_quants`, `make_q3_quants` and
/// `make_qp_quants` in ggml's `ggml-quants.c`.
struct KQuantSearch: ~Copyable {
  /// Blocks whose greatest magnitude is below this count as zero.
  static let tiny: Float = 1e-15

  /// The 256 values.
  private(set) var x = [Float](repeating: 0, count: SuperBlock.elements)
  /// The importance of each value; meaningless unless `isWeighted`.
  private(set) var importance = [Float](repeating: 0, count: SuperBlock.elements)
  /// Whether there is an importance matrix.
  private(set) var isWeighted = false
  /// The level of each value.
  var levels = [Int](repeating: 0, count: SuperBlock.elements)

  /// Search weights of the current sub-block.
  var weights = [Float](repeating: 0, count: 32)
  /// Levels of a candidate that may not be the best.
  var trial = [Int](repeating: 0, count: 32)

  /// Takes the 256 values from `first` and their importance.
  mutating func load(_ values: Span<Float>, at first: Int, importance weights: Span<Float>?, at column: Int) {
    for index in x.indices { x[index] = values[first + index] }
    isWeighted = weights != nil
    guard let weights else { return }
    for index in importance.indices { importance[index] = weights[column + index] }
  }
}

// MARK: - Rounding

extension KQuantSearch {
  /// The integer nearest to `value`, ties to even, for magnitudes up to 2²² - 1.
  ///
  /// Adding 1.5 · 2²³ leaves the integer, plus 2²², in the low 23 bits. Beyond that range, which huge and tiny inputs
  /// reach, the bits wrap; NaN gives 0 and infinity -2²². The format's bytes depend on that too.
  static func nearest(_ value: Float) -> Int {
    Int((value + 12_582_912).bitPattern & 0x7f_ffff) - 0x40_0000
  }

  /// `nearest`, clamped.
  static func nearest(_ value: Float, in range: ClosedRange<Int>) -> Int {
    max(range.lowerBound, min(range.upperBound, nearest(value)))
  }
}

// MARK: - Weights

extension KQuantSearch {
  /// The sum of the squares of `count` values.
  func sumOfSquares(at first: Int, count: Int) -> Float {
    var sum: Float = 0
    for index in first..<first + count { sum += x[index] * x[index] }
    return sum
  }

  /// Sets the weights of a sub-block to importance · √(variance + x²) and returns their sum.
  mutating func weighByImportance(at first: Int, count: Int, variance: Float) -> Float {
    var sum: Float = 0
    for index in 0..<count {
      let value = x[first + index]
      weights[index] = importance[first + index] * (variance + value * value).squareRoot()
      sum += weights[index]
    }
    return sum
  }

  /// Of `count` values, the first of greatest magnitude, with its sign; 0 if all are 0.
  static func extreme(_ values: borrowing [Float], at first: Int, count: Int) -> Float {
    var extreme: Float = 0
    for index in first..<first + count where abs(values[index]) > abs(extreme) { extreme = values[index] }
    return extreme
  }
}

// MARK: - Final levels

extension KQuantSearch {
  /// Levels of a sub-block for its scale and offset as stored: x ≈ scale · l - offset.
  ///
  /// If the scale has become zero, the levels of the search stay.
  mutating func requantize(at first: Int, count: Int, scale: Float, offset: Float, levels most: Int) {
    guard scale != 0 else { return }
    for index in first..<first + count {
      levels[index] = Self.nearest((x[index] + offset) / scale, in: 0...most)
    }
  }

  /// The same without an offset: x ≈ scale · (l - half).
  mutating func requantize(at first: Int, count: Int, scale: Float, half: Int) {
    guard scale != 0 else { return }
    for index in first..<first + count {
      levels[index] = Self.nearest(x[index] / scale, in: -half...half - 1) + half
    }
  }
}
