/// A matrix whose codes were rounded to nearest, where a calibration was asked for.
public struct CalibrationFallback: Codable, Hashable, Sendable {
  /// Why.
  public enum Reason: String, Codable, Hashable, Sendable {
    /// Too few tokens chose the expert.
    case fewTokens
    /// The damped second moments are not positive definite.
    case notPositiveDefinite
  }

  /// The weight.
  public let tensor: String
  /// The expert's number; `nil` for a weight that is no stack.
  public let expert: Int?
  /// The tokens that entered it.
  public let tokens: Int
  public let reason: Reason
}
