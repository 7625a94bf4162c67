/// What reading weights a second way, by what the configuration says and by the definitions of the formats, found.
///
/// The comparison of values reads both sides through one reader, so that what this misunderstands looks right in it. Here
/// nothing of that reader is used.
public struct CrossCheckReport: Encodable, Sendable {
  /// Weights with codes that were decoded a second time, on both sides.
  public internal(set) var checked = 0
  /// Elements that were.
  public internal(set) var elements = 0
  /// Weights of plain values, of which nothing has to be decoded.
  public internal(set) var plain = 0
  /// Weights with codes that could not be decoded a second time.
  public internal(set) var notChecked = 0
  /// Every module with codes, and every module that cannot be told.
  public internal(set) var modules: [Module] = []

  /// One module.
  public struct Module: Encodable, Hashable, Sendable {
    /// Which of the two checkpoints.
    public enum Side: String, Encodable, Hashable, Sendable { case source, output }

    public enum Outcome: String, Encodable, Hashable, Sendable {
      /// Decoded twice, with one result.
      case checked
      /// Something is wrong; a finding says what.
      case failed
      /// There is no second way to decode it.
      case notChecked
    }

    public let side: Side
    /// The module's name in the files.
    public let name: String
    /// The part of a partition set.
    public let part: String?
    /// What the configuration says of it, in words.
    public let declared: String
    /// The names of what lies beside its codes.
    public let companions: [String]
    /// What the comparison of values took it for.
    public let readAs: String
    public let outcome: Outcome
    /// Why it was not checked, or what is wrong.
    public let reason: String?
    /// Elements decoded twice.
    public let elements: Int
  }
}
