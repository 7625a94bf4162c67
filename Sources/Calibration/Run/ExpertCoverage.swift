/// How many tokens chose an expert of a layer, where that is fewer than a calibration asks for.
public struct ExpertCoverage: Codable, Hashable, Sendable {
  /// The layer.
  public let layer: Int
  /// The expert's number.
  public let expert: Int
  /// The tokens that chose it.
  public let tokens: Int
}
