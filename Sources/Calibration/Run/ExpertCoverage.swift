/// The number of tokens routed to an expert, if fewer than a calibration requires.
public struct ExpertCoverage: Codable, Hashable, Sendable {
  /// The layer.
  public let layer: Int
  /// The expert's index.
  public let expert: Int
  /// The tokens routed to it.
  public let tokens: Int
}
