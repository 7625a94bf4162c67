internal import JSON

/// The distribution of a tensor's finite values.
public struct ValueDistribution: Hashable, Sendable {
  /// The percents of ``values``: both tails, which show whether the extremes of ``ValueStatistics`` are outliers.
  public static let valuePercents = [0.1, 1, 50, 99, 99.9]
  /// The percents of ``magnitudes``: the range that a symmetric quantiser has to hold if it clips the rest.
  public static let magnitudePercents = [50, 90, 99, 99.9, 99.99]

  /// The percentiles of the values, one for each of ``valuePercents``.
  public let values: [Double]
  /// The percentiles of the magnitudes, one for each of ``magnitudePercents``.
  public let magnitudes: [Double]
  /// The relative error of percentiles: 0 if they are exact.
  public let relativeError: Double
  /// The start of the first of the ``counts``: the smallest value.
  public let minimum: Double
  /// The end of the last of the ``counts``: the largest value.
  public let maximum: Double
  /// The number of values in bins of equal width from ``minimum`` to ``maximum``.
  public let counts: [Int]

  /// - Returns: `nil` if there is no finite value, or nothing was counted.
  init?(_ figures: PieceFigures, bins: Int?) {
    guard let bins, let histogram = figures.histogram, let lowest = figures.statistics.minimum?.number,
      let highest = figures.statistics.maximum?.number,
      let values = histogram.percentiles(Self.valuePercents),
      let magnitudes = histogram.percentiles(Self.magnitudePercents, of: .magnitudes)
    else { return nil }
    // The extremes are more precise than the middle of a bin.
    let furthest = max(abs(lowest), abs(highest))
    self.values = values.map { min(highest, max(lowest, $0)) }
    self.magnitudes = magnitudes.map { min(furthest, $0) }
    relativeError = histogram.relativeError
    minimum = lowest
    maximum = highest
    let all = histogram.counts(from: lowest, to: highest, bins: max(1, bins))
    var counts = all.counts
    // A value may have left the range by rounding to F32.
    counts[0] += all.below
    counts[counts.count - 1] += all.above
    self.counts = counts
  }
}

extension ValueDistribution: Encodable {
  private enum CodingKeys: String, CodingKey {
    case percentiles, magnitudePercentiles, relativeError, histogram
  }

  private enum HistogramKeys: String, CodingKey { case minimum, maximum, counts }

  /// Encodes percentiles by their names (`p99.9`).
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    func encode(_ numbers: [Double], _ percents: [Double], _ key: CodingKeys) throws {
      var percentiles = container.nestedContainer(keyedBy: JSONKey.self, forKey: key)
      for (number, percent) in zip(numbers, percents) {
        try percentiles.encode(number, forKey: JSONKey(Self.name(ofPercent: percent)))
      }
    }
    try encode(values, Self.valuePercents, .percentiles)
    try encode(magnitudes, Self.magnitudePercents, .magnitudePercentiles)
    try container.encode(relativeError, forKey: .relativeError)
    var histogram = container.nestedContainer(keyedBy: HistogramKeys.self, forKey: .histogram)
    try histogram.encode(minimum, forKey: .minimum)
    try histogram.encode(maximum, forKey: .maximum)
    try histogram.encode(counts, forKey: .counts)
  }

  /// `p99.9`, `p50`
  public static func name(ofPercent percent: Double) -> String {
    percent == percent.rounded() ? "p\(Int(percent))" : "p\(percent)"
  }
}

extension Extreme {
  /// The nearest F64.
  fileprivate var number: Double {
    switch self {
    case .real(let value): value
    case .integer(let value): Double(value)
    }
  }
}
