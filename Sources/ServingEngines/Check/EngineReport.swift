/// A part of the model that has a scheme of its own in engines.
public enum EngineModuleKind: String, Hashable, Sendable, CaseIterable, Codable, Comparable {
  case experts, shared, dense, attention, vision
  case lmHead = "lm_head"

  public static func < (left: EngineModuleKind, right: EngineModuleKind) -> Bool { left.rank < right.rank }

  private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// What one engine would make of a checkpoint.
public struct EngineReport: Hashable, Sendable, Encodable {
  /// A scheme the engine takes a kind of module for.
  public struct Scheme: Hashable, Sendable, Encodable {
    /// The kind of module.
    public let kind: EngineModuleKind
    /// The scheme's name.
    public let scheme: String
    /// How many modules have it.
    public let modules: Int
    /// The largest power of two, up to 64, of tensor-parallel ranks; `nil` where even one does not fit.
    public let largestTP: Int?
  }

  /// The engine.
  public let engine: Engine
  /// The release the rules are those of.
  public let version: String
  /// Whether it would load, and serve what the checkpoint holds.
  public let ok: Bool
  /// What each kind of module is taken for.
  public let schemes: [Scheme]
  /// The largest power of two, up to 64, of tensor-parallel ranks for the whole model; `nil` where none fits.
  public let largestTP: Int?
  /// What keeps twice as many from working; `nil` at 64.
  public let limit: String?
  /// How many ranks were asked for.
  public let requestedTP: Int?
  /// What was found, the worst first.
  public let findings: [EngineFinding]
  /// Different findings beyond those that are listed.
  public let findingsDropped: Int
  /// Checks that could not be made, and why.
  public let checksSkipped: [String]
}
