/// A matrix whose codes were rounded to nearest, as without calibration, although one was requested.
public struct CalibrationFallback: Codable, Hashable, Sendable {
  /// Why.
  public enum Reason: String, Codable, Hashable, Sendable {
    /// Too few tokens were routed to the expert.
    case fewTokens
    /// The damped second moments are not positive definite, or not finite.
    case notPositiveDefinite
    /// The format has no code for each element, or is not supported by the method.
    case format
  }

  /// The weight, as the plan names it in the source.
  public let tensor: String
  /// The expert's number; `nil` for a weight that is not a stack, and for all of one.
  public let expert: Int?
  /// The number of tokens that entered it; `nil` if not counted.
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
