/// A figure and how far it may be off because the text is but a sample.
///
/// Positions of one sequence are not independent of each other, so sequences are what is drawn: the error follows from how
/// their sums differ from the mean. Where there is only one, stretches of ``Estimate/stretch`` positions stand for them.
public struct Estimate: Encodable, Hashable, Sendable {
  /// The figure.
  public var value: Double
  /// One standard error; `nil` where there are fewer than two sequences or stretches.
  public var standardError: Double?

  /// Positions that count together in a single sequence.
  static let stretch = 64

  /// What counts together.
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
  ///   - values: `nil` where a position has none.
  ///   - clusters: What counts together.
  /// - Returns: `nil` without any number.
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
    // Infinite values have no error that could be told.
    guard used > 1, squares.isFinite else { return Estimate(value: mean) }
    let variance = Double(used) / Double(used - 1) * squares
    return Estimate(value: mean, standardError: variance.squareRoot() / Double(present.count))
  }
}
