/// The search for the scale of one group, or of one row: `absmax` and, for ``ScaleSearch/mse``, its neighbours.
///
/// Candidates are tried in a fixed order, and only a smaller error replaces the best one so far, so that the result is
/// the same everywhere and never worse than `absmax`:
///
/// - F8_E4M3 scales: the 6 codes above and the 5 below (amax falls on 4 to 9 instead of 6);
/// - F8_E8M0 scales: 2^1, 2^-1 and 2^-2 times that of `absmax`;
/// - BF16 scales of INT4: amax divided by each of ``divisors`` instead of by 7.5;
/// - F32 scales of rows: that of `absmax` times 1 - n/32, n = 1 ... 12;
/// - and for the last two, twice, the scale of least squares for the codes that the best one gives.
///
/// Candidates use x · (1 / multiplier) as the quotient; those outside 2^-126 ... 2^126 are passed over, and so are those
/// under which a value comes out as infinity.
struct SchemeSearch {
  /// Of amax, for INT4.
  static let divisors: [Float] = [
    7, 7.25, 7.75, 8, 8.25, 8.5, 8.75, 9, 9.5, 10, 10.5, 11, 12, 13, 14.5, 16,
  ]
  /// Steps between E4M3 codes, nearest first.
  static let codeSteps: [Int] = [-1, 1, -2, 2, -3, 3, -4, 4, -5, 5, 6]
  /// Steps between exponents.
  static let exponentSteps: [Int] = [-1, 1, -2]
  /// By how many thirty-seconds a row's scale is reduced.
  static let shrinkSteps: ClosedRange<Int> = 1...12
  /// How often least squares are tried.
  static let refits = 2

  var rule: SchemeRule
  var matrixScale: Float
  var x: [Float]
  var weights: [Float]?

  /// A scale and how quotients are computed with it.
  struct Choice {
    /// As stored.
    var scale: UInt32
    var multiplier: Float
    /// `nil` to divide, as `absmax` does.
    var inverse: Float?

    func quotient(_ x: Float, _ rule: SchemeRule) -> Float {
      if let inverse { return x * inverse }
      return rule.quotient(x, multiplier)
    }
  }

  private var amax: Float { x.reduce(0) { max($0, $1.magnitude) } }

  /// The choice of the scheme's library.
  var absmax: Choice {
    let scale = rule.absmaxScale(amax, matrixScale: matrixScale)
    return Choice(scale: scale, multiplier: rule.multiplier(scale, matrixScale: matrixScale))
  }

  /// The choice with the least error, with the errors of `absmax` and of the choice.
  func best() -> (choice: Choice, before: Double, after: Double) {
    var best = absmax
    let before = error(best)
    var least = before
    func attempt(_ scale: UInt32) {
      let multiplier = rule.multiplier(scale, matrixScale: matrixScale)
      guard (0x1p-126...0x1p126).contains(multiplier) else { return }
      let choice = Choice(scale: scale, multiplier: multiplier, inverse: 1 / multiplier)
      let error = error(choice)
      if error < least {
        least = error
        best = choice
      }
    }
    for scale in candidates(best) { attempt(scale) }
    if rule.hasFineScales {
      for _ in 0..<Self.refits {
        if let scale = leastSquares(best) { attempt(rule.stored(scale)) }
      }
    }
    return (best, unscaled(before), unscaled(least))
  }

  private func candidates(_ absmax: Choice) -> [UInt32] {
    switch rule.scales {
    case .f32:
      return Self.shrinkSteps.map { (absmax.multiplier * (1 - Float($0) / 32)).bitPattern }
    case .bf16:
      let amax = amax
      return Self.divisors.map { rule.stored(amax / $0) }
    case .dividedE4M3, .multipliedE4M3:
      return Self.codeSteps.map { UInt32(max(1, min(126, Int(absmax.scale) + $0))) }
    case .e8m0:
      return Self.exponentSteps.map { UInt32(max(0, min(254, Int(absmax.scale) + $0))) }
    }
  }

  // MARK: Sums

  /// The power of two that brings numbers of up to this magnitude below 4; 2^127 at the most, 2^-126 at the least.
  ///
  /// Sums are taken in these units: the scaling is exact, and only keeps sums of finite values within F32's range.
  private static func unit(_ largest: Float) -> Float {
    let exponent = largest.magnitude.bitPattern >> 23
    return Float(bitPattern: (exponent > 252 ? 1 : 254 - exponent) << 23)
  }

  /// Of differences and values.
  private var unit: Float { Self.unit(amax) }

  /// Of weights; 1 without any.
  private var weightUnit: Float {
    weights.map { Self.unit($0.reduce(0) { max($0, $1) }) } ?? 1
  }

  /// Σ w (x - y)² in units, each product rounded to F32; infinite where a level under the scale is.
  private func error(_ choice: Choice) -> Double {
    let unit = unit
    let error = sum { i, weight in
      let difference = (x[i] - rule.level(choice.quotient(x[i], rule)) * choice.multiplier) * unit
      return weight * difference * difference
    }
    return error.isNaN ? .infinity : error
  }

  /// The same without units.
  private func unscaled(_ error: Double) -> Double {
    let inverse = 1 / Double(unit)
    return error * inverse * inverse * (1 / Double(weightUnit))
  }

  /// Σ w x l / Σ w l² for the levels l; `nil` where it is not a positive number.
  private func leastSquares(_ choice: Choice) -> Float? {
    guard (0x1p-126...0x1p126).contains(choice.multiplier) else { return nil }
    let inverse = 1 / choice.multiplier
    let unit = unit
    let products = sum { i, weight in weight * (x[i] * unit) * rule.level(x[i] * inverse) }
    let squares = sum { i, weight in
      let level = rule.level(x[i] * inverse)
      return weight * level * level
    }
    // Of a group, both are F32 numbers, and so is their quotient.
    let scale =
      (rule.groupLength == nil ? Float(products / squares) : Float(products) / Float(squares)) * (1 / unit)
    return scale > 0 && scale.isFinite ? scale : nil
  }

  /// The sum of F32 terms. In a group, element *i* is added in lane *i* mod 4, in F32; in a row, in lane *i* mod 16,
  /// in F64.
  private func sum(_ term: (_ index: Int, _ weight: Float) -> Float) -> Double {
    let weightUnit = weightUnit
    let weights = weights.map { $0.map { $0 * weightUnit } }
    if rule.groupLength == nil {
      var lanes = [Double](repeating: 0, count: 16)
      for i in x.indices { lanes[i % 16] += Double(term(i, weights?[i] ?? 1)) }
      return lanes.dropFirst().reduce(lanes[0], +)
    }
    var lanes = [Float](repeating: 0, count: 4)
    for i in x.indices { lanes[i % 4] += term(i, weights?[i] ?? 1) }
    return Double((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
  }
}

extension SchemeRule {
  /// Whether scales are fine enough to represent a least-squares result closely.
  var hasFineScales: Bool {
    switch scales {
    case .f32, .bf16: true
    case .dividedE4M3, .multipliedE4M3, .e8m0: false
    }
  }
}
