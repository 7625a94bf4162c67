/// A matrix whose codes were rounded to nearest, as they are without a calibration, where one was asked for.
public struct CalibrationFallback: Codable, Hashable, Sendable {
  /// Why.
  public enum Reason: String, Codable, Hashable, Sendable {
    /// Too few tokens chose the expert.
    case fewTokens
    /// The damped second moments are not positive definite, or no finite numbers.
    case notPositiveDefinite
    /// The format has no code for each element, or none that is made so.
    case format
  }

  /// The weight, as the plan names it in the source.
  public let tensor: String
  /// The expert's number; `nil` for a weight that is no stack, and for all of one.
  public let expert: Int?
  /// The tokens that entered it; `nil` where they were not counted.
  public let tokens: Int?
  /// Why.
  public let reason: Reason

  /// Describes one.
  public init(tensor: String, expert: Int? = nil, tokens: Int? = nil, reason: Reason) {
    self.tensor = tensor
    self.expert = expert
    self.tokens = tokens
    self.reason = reason
  }
}
