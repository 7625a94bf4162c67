/// A part of the model that has its own scheme in engines.
public enum EngineModuleKind: String, Hashable, Sendable, CaseIterable, Codable, Comparable {
  case experts, shared, dense, attention, vision
  case lmHead = "lm_head"

  public static func < (left: EngineModuleKind, right: EngineModuleKind) -> Bool { left.rank < right.rank }

  private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// How one engine would load a checkpoint.
public struct EngineReport: Hashable, Sendable, Encodable {
  /// The scheme that the engine uses for a kind of module.
  public struct Scheme: Hashable, Sendable, Encodable {
    /// The kind of module.
    public let kind: EngineModuleKind
    /// The scheme's name.
    public let scheme: String
    /// How many modules have it.
    public let modules: Int
    /// The largest power of two, up to 64, of tensor-parallel ranks; `nil` if not even one works.
    public let largestTP: Int?
  }

  /// The engine.
  public let engine: Engine
  /// The release that the rules were taken from.
  public let version: String
  /// Whether it would load and serve the checkpoint correctly.
  public let ok: Bool
  /// The scheme of each kind of module.
  public let schemes: [Scheme]
  /// The largest power of two, up to 64, of tensor-parallel ranks for the whole model; `nil` if none works.
  public let largestTP: Int?
  /// What keeps twice as many from working; `nil` at 64.
  public let limit: String?
  /// The requested number of ranks.
  public let requestedTP: Int?
  /// The findings, worst first.
  public let findings: [EngineFinding]
  /// Distinct findings beyond those listed.
  public let findingsDropped: Int
  /// Checks that were skipped, and why.
  public let checksSkipped: [String]
}
