/// How scales are chosen.
public enum ScaleSearch: String, Hashable, Sendable, CaseIterable {
  /// From the largest magnitude, as the scheme's own library does.
  case absmax
  /// The scale with the least (weighted) squared error among `absmax` and its neighbours.
  case mse
}

/// What a search has gained: Σ w (x - y)², with the scales and codes of `absmax` and with the chosen ones.
///
/// w is the importance of the column, or 1. Differences are taken in F32; a group is summed up in F32, groups in F64,
/// so that every kernel tier gives the same bits.
public struct SearchErrors: Hashable, Sendable {
  /// With the scales of `absmax`.
  public var before: Double
  /// With the chosen scales.
  public var after: Double

  /// The sums over nothing.
  public init() {
    before = 0
    after = 0
  }

  init(before: Double, after: Double) {
    self.before = before
    self.after = after
  }

  /// Adds the sums of another part.
  public mutating func merge(_ other: SearchErrors) {
    before += other.before
    after += other.after
  }
}
