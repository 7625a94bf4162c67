/// The result of decoding weights independently, from the configuration and the definitions of the formats.
///
/// The comparison of values reads both sides through the same reader, so its misunderstandings would go unnoticed
/// there. This one shares nothing with that reader.
public struct CrossCheckReport: Encodable, Sendable {
  /// Weights with codes that were decoded independently, on both sides.
  public internal(set) var checked = 0
  /// Elements decoded independently.
  public internal(set) var elements = 0
  /// Weights of plain values, which need no decoding.
  public internal(set) var plain = 0
  /// Weights with codes that could not be decoded independently.
  public internal(set) var notChecked = 0
  /// Every module with codes, and every unrecognised module.
  public internal(set) var modules: [Module] = []

  /// One module.
  public struct Module: Encodable, Hashable, Sendable {
    /// Which of the two checkpoints.
    public enum Side: String, Encodable, Hashable, Sendable { case source, output }

    public enum Outcome: String, Encodable, Hashable, Sendable {
      /// Decoded twice, with the same result.
      case checked
      /// Something is wrong; a finding says what.
      case failed
      /// There is no independent way to decode it.
      case notChecked
    }

    public let side: Side
    /// The module's name in the files.
    public let name: String
    /// The part of a partition set.
    public let part: String?
    /// What the configuration says about it, as text.
    public let declared: String
    /// The names of the companions of its codes.
    public let companions: [String]
    /// How the comparison of values read it.
    public let readAs: String
    public let outcome: Outcome
    /// Why it was not checked, or what is wrong.
    public let reason: String?
    /// Elements decoded twice.
    public let elements: Int
  }
}
