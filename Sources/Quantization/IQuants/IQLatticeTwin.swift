/// The search that IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S share.
///
/// A sub-block is a scale, signs, and groups of four or eight magnitudes, each group a point of a codebook whose
/// coordinate `c` stands for the level `2 * c + 1`. Some candidate scales are tried: every magnitude is rounded to a
/// level, a group that is not on a point moves to the nearest one, and the scale is fitted to the result. The fit with
/// the largest gain is kept, and refined once.
///
/// Source: `quantize_row_iq2_xxs_impl`, `…iq2_xs_impl`, `…iq2_s_impl`, `…iq3_xxs_impl`, `…iq3_s_impl` in ggml-quants.c.
struct IQLatticeTwin {
  /// Which groups are rounded again at the fitted scale.
  enum Refinement {
    /// Those that were not on a point.
    case offPoints
    /// All, if any was not on a point.
    case allIfAnyOffPoint
    case always
  }

  let codebook: IQCodebook
  /// Elements of a sub-block.
  let size: Int
  /// Candidate scales on each side of the middle one, and the step between them in levels.
  let attempts: Int
  let step: Float
  /// A sub-block whose largest magnitude is below this is all zero.
  let floor: Float
  /// Whether the number of negative signs among eight elements must be even, so that seven determine the eighth.
  let evenSigns: Bool
  let refinement: Refinement
  /// The weights' part that is common to a block is this times the sum of squares, over 256.
  var energyScale: Float = 2
  /// Without importance, the share of that which is added to the square.
  var plainShare: Float = 0
  /// Whether a fit to plain levels comes first, which then takes the place of the largest magnitude.
  var seeded = false

  /// What the search finds for a sub-block.
  struct Found {
    var scale: Float
    /// One byte per eight elements, first element in the lowest bit.
    var signs: [UInt8]
    /// One position in the codebook per group.
    var positions: [Int]
  }

  /// Searches all sub-blocks of a block; `nil` for those that are all zero.
  func search(_ x: [Float], importance: [Float]?) -> [Found?] {
    let energy = energyScale * IQTwin.energy(x) / 256
    return stride(from: 0, to: x.count, by: size).map { first in
      let part = first..<first + size
      return search(x[part], importance: importance?[part], energy: energy)
    }
  }

  private func search(_ x: ArraySlice<Float>, importance: ArraySlice<Float>?, energy: Float) -> Found? {
    let weights = x.indices.map { i in
      if let importance { return importance[i] * (energy + x[i] * x[i]).squareRoot() }
      return plainShare != 0 ? plainShare * energy + x[i] * x[i] : x[i] * x[i]
    }
    var (values, signs) = splitSigns(Array(x), weights)
    let largest = values.reduce(values[0]) { $0 > $1 ? $0 : $1 }
    if largest < floor { return nil }

    let top = Float(2 * codebook.top + 1)
    var scale = largest / top
    var reach = largest
    if seeded {
      scale = Self.positiveFit(values, weights)
      reach = scale * Float(codebook.top + 1)
      if reach <= 0 { return nil }
    }

    let roots = weights.map { $0.squareRoot() }
    let groups = 0..<size / codebook.dimensions
    var cells = groups.map { _ in 0 }
    var offPoint = groups.map { _ in refinement == .allIfAnyOffPoint }
    var best: Float = 0
    for attempt in -attempts...attempts {
      let inverse = (top + Float(attempt) * step) / reach
      let rounded = groups.map { round($0, values, roots, inverse: inverse, scale: 1 / inverse) }
      let (qx, qq) = fit(rounded.map(\.cell), values, weights)
      if qq > 0 && qx * qx > best * qq {
        scale = qx / qq
        best = scale * qx
        cells = rounded.map(\.cell)
        offPoint = rounded.map(\.off)
      }
    }
    if scale > 0 && (refinement == .always || offPoint.contains(true)) {
      for group in groups where refinement != .offPoints || offPoint[group] {
        cells[group] = round(group, values, roots, inverse: 1 / scale, scale: scale).cell
      }
      let (qx, qq) = fit(cells, values, weights)
      if qq > 0 { scale = qx / qq }
    }
    if scale < 0 {
      scale = -scale
      signs = signs.map { ~$0 }
    }
    return Found(scale: scale, signs: signs, positions: cells.map { codebook.positions[$0] })
  }

  /// Magnitudes and signs. If the parity must be even, the element that loses least by it flips its sign, and its
  /// magnitude becomes negative.
  private func splitSigns(_ x: [Float], _ weights: [Float]) -> (values: [Float], signs: [UInt8]) {
    var values = x.map(\.magnitude)
    var signs: [UInt8] = []
    for first in stride(from: 0, to: x.count, by: 8) {
      var own = (0..<8).reduce(UInt8(0)) { $0 | (x[first + $1] < 0 ? 1 << $1 : 0) }
      if evenSigns && own.nonzeroBitCount % 2 == 1 {
        func loss(_ i: Int) -> Float { weights[first + i] * x[first + i] * x[first + i] }
        var least = 0
        for i in 1..<8 where loss(i) < loss(least) { least = i }
        values[first + least] = -values[first + least]
        own ^= 1 << least
      }
      signs.append(own)
    }
    return (values, signs)
  }

  /// Rounds one group at a scale; its cell ends up on a point, and `off` says whether it had to move.
  private func round(
    _ group: Int, _ values: [Float], _ roots: [Float], inverse: Float, scale: Float
  ) -> (cell: Int, off: Bool) {
    let first = group * codebook.dimensions
    let cell = codebook.cell(
      of: (0..<codebook.dimensions).map { i in
        max(0, min(codebook.top, IQTwin.nearest(0.5 * (inverse * values[first + i] - 1))))
      })
    if codebook.positions[cell] >= 0 { return (cell, false) }
    let nearest = codebook.nearest(to: cell) { coordinates in
      var distance: Float = 0
      for (i, coordinate) in coordinates.enumerated() {
        let difference = scale * Float(2 * coordinate + 1) - values[first + i]
        distance += roots[first + i] * difference * difference
      }
      return distance
    }
    return (nearest, true)
  }

  /// The weighted sums of value * level and level * level.
  private func fit(_ cells: [Int], _ values: [Float], _ weights: [Float]) -> (qx: Float, qq: Float) {
    var qx: Float = 0
    var qq: Float = 0
    for (i, coordinate) in cells.flatMap(codebook.coordinates(of:)).enumerated() {
      let level = Float(2 * coordinate + 1)
      qx += weights[i] * values[i] * level
      qq += weights[i] * level * level
    }
    return (qx, qq)
  }
}

extension IQLatticeTwin {
  /// The scale of a fit of values to the levels 0 ... 4, which IQ2_XXS starts from; 0 if there is none.
  ///
  /// The reference keeps the levels in bytes, in which a negative one wraps (a value is negative if its sign was
  /// flipped). Source: `make_qp_quants` in ggml-quants.c.
  static func positiveFit(_ x: [Float], _ weights: [Float]) -> Float {
    let largest = x.reduce(0) { $0 > $1 ? $0 : $1 }
    if largest < 1e-15 { return 0 }
    func loss(_ scale: Float, level: (Float) -> Int) -> Float {
      var loss: Float = 0
      for (value, weight) in zip(x, weights) {
        let difference = value - scale * Float(level(value))
        loss += weight * difference * difference
      }
      return loss
    }

    var inverse = 4 / largest
    var least = loss(1 / inverse) { IQTwin.nearest(inverse * $0) & 255 }
    for attempt in -4...4 where attempt != 0 {
      let candidate = (0.1 * Float(attempt) + 4) / largest
      let own = loss(1 / candidate) { min(4, IQTwin.nearest(candidate * $0)) }
      if own < least {
        least = own
        inverse = candidate
      }
    }

    var levels: [Int] = []
    var lx: Float = 0
    var ll: Float = 0
    for (value, weight) in zip(x, weights) {
      let level = min(4, IQTwin.nearest(inverse * value))
      lx += weight * value * Float(level)
      ll += weight * Float(level) * Float(level)
      levels.append(level & 255)
    }
    // Then one level at a time is changed if that is a gain.
    for _ in 0..<5 {
      var changed = false
      for i in x.indices {
        let own = Float(levels[i])
        var newLX = lx - weights[i] * x[i] * own
        var newLL = ll - weights[i] * own * own
        guard newLX > 0, newLL > 0 else { continue }
        let level = min(4, IQTwin.nearest(x[i] * newLL / newLX))
        guard level != levels[i] else { continue }
        newLX += weights[i] * x[i] * Float(level)
        newLL += weights[i] * Float(level) * Float(level)
        if newLX * newLX * ll > lx * lx * newLL {
          levels[i] = level & 255
          lx = newLX
          ll = newLL
          changed = true
        }
      }
      if !changed { break }
    }
    return ll > 0 ? lx / ll : 0
  }
}
