/// Which part of a partition set a directory is.
public struct PartIdentity: Codable, Hashable, Sendable {
  /// A rank among others.
  public struct Position: Codable, Hashable, Sendable {
    /// Counted from 0.
    public var rank: Int
    /// The size of the group; 1 where nothing is divided.
    public var ranks: Int

    /// Describes a position.
    public init(rank: Int, ranks: Int) {
      self.rank = rank
      self.ranks = ranks
    }

    /// The only one of its kind.
    public static let only = Position(rank: 0, ranks: 1)
  }

  /// The most ranks that one side has: what is planned, written and served. No deployment has more, and lists of ranks
  /// in untrusted files need a bound.
  public static let mostRanks = 1024

  /// The part's role.
  public let role: PartRole
  /// Among the parts of its role, tensor-parallel ranks counted first.
  public let position: Position
  /// Which share of the experts it holds.
  public let expertParallel: Position
  /// Which slice of the tensors cut by tensor parallelism it holds.
  public let tensorParallel: Position
  /// Whether the FFN side chooses the experts.
  public let routesInFFN: Bool

  /// The part of a role at these expert-parallel and tensor-parallel ranks.
  public init(_ role: PartRole, expertParallel: Position, tensorParallel: Position, routesInFFN: Bool) {
    self.role = role
    self.expertParallel = expertParallel
    self.tensorParallel = tensorParallel
    self.routesInFFN = routesInFFN
    position = Position(
      rank: expertParallel.rank * tensorParallel.ranks + tensorParallel.rank,
      ranks: expertParallel.ranks * tensorParallel.ranks)
  }

  /// The name that `step3-convert` gives the part's directory. It says what was divided: `ffn-ep0-tp1`, `ffn-tp1`, `ffn`.
  public var standardName: String { name(of: position.rank) }

  /// The name of another rank of the same side.
  public func name(of rank: Int) -> String {
    var name = role.rawValue
    let (instance, inside) = rank.quotientAndRemainder(dividingBy: tensorParallel.ranks)
    if expertParallel.ranks > 1 { name += "-ep\(instance)" }
    if tensorParallel.ranks > 1 { name += "-tp\(inside)" }
    return name
  }
}
