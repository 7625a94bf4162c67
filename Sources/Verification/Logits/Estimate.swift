/// A figure, and its sampling error.
///
/// Positions of one sequence are not independent, so sequences are the sampling unit: the error follows from how their
/// sums deviate from the mean. If there is only one, runs of ``Estimate/stretch`` positions take their place.
public struct Estimate: Encodable, Hashable, Sendable {
  /// The figure.
  public var value: Double
  /// One standard error; `nil` if there are fewer than two sequences or runs.
  public var standardError: Double?

  /// Positions per cluster in a single sequence.
  static let stretch = 64

  /// The clusters.
  package static func clusters(_ sequences: [Range<Int>], positions: Int) -> [Range<Int>] {
    let sequences = sequences.filter { !$0.isEmpty }
    if sequences.count > 1 { return sequences }
    return stride(from: 0, to: positions, by: stretch).map { $0..<min($0 + stretch, positions) }
  }

  /// The mean of a number for each position.
  ///
  /// Over clusters of n(s) positions with the sum S(s), and N positions in m clusters, the variance of the mean is
  /// m / (m - 1) · Σ (S(s) - n(s) · mean)² / N².
  ///
  /// - Parameters:
  ///   - values: `nil` for positions without a value.
  ///   - clusters: The clusters.
  /// - Returns: `nil` without any value.
  package static func mean(_ values: [Double?], _ clusters: [Range<Int>]) -> Estimate? {
    let present = values.compactMap(\.self)
    guard !present.isEmpty else { return nil }
    let mean = present.reduce(0, +) / Double(present.count)
    var squares = 0.0
    var used = 0
    for cluster in clusters {
      let own = values[cluster].compactMap(\.self)
      guard !own.isEmpty else { continue }
      used += 1
      let excess = own.reduce(0) { $0 + ($1 - mean) }
      squares += excess * excess
    }
    // The error of infinite values is undefined.
    guard used > 1, squares.isFinite else { return Estimate(value: mean) }
    let variance = Double(used) / Double(used - 1) * squares
    return Estimate(value: mean, standardError: variance.squareRoot() / Double(present.count))
  }
}
