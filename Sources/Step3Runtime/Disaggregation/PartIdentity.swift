internal import JSON
internal import Step3Model
internal import TensorFormats

/// What a part of a partition set says it is: `step3_partition` of its `config.json`, slices left out.
struct PartIdentity: Codable, Hashable, Sendable {
  /// What a part serves.
  enum Role: String, Codable, Sendable {
    case attention, ffn, vision
  }

  /// A rank among others.
  struct Position: Codable, Hashable, Sendable {
    let rank: Int
    let ranks: Int
  }

  let role: Role
  /// Among the parts of its role, tensor-parallel ranks counted first.
  let position: Position
  let expertParallel: Position
  let tensorParallel: Position
  /// Whether the FFN side chooses the experts.
  let routesInFFN: Bool

  /// The name that `step3-convert` gives the part's directory.
  var standardName: String { name(of: position.rank) }

  /// The name of another rank of the same side.
  func name(of rank: Int) -> String {
    var name = role.rawValue
    let (instance, inside) = rank.quotientAndRemainder(dividingBy: tensorParallel.ranks)
    if expertParallel.ranks > 1 { name += "-ep\(instance)" }
    if tensorParallel.ranks > 1 { name += "-tp\(inside)" }
    return name
  }

  /// Reads what a `config.json` says.
  ///
  /// - Returns: `nil` for what is no part.
  /// - Throws: `.malformed` if it says something that cannot be.
  init?(configuration members: JSONMembers, path: String) throws(CheckpointError) {
    guard let partition = members["step3_partition"]?.members else { return nil }
    func malformed(_ what: String) -> CheckpointError {
      CheckpointError(.malformed, "step3_partition: \(what)", path: path)
    }
    guard case .string(let name)? = partition["role"], let role = Role(rawValue: name) else {
      throw malformed("the role is none of attention, ffn and vision")
    }
    guard let position = Self.position(partition) else { throw malformed("rank and ranks do not fit") }
    guard let expert = Self.position(partition["expert_parallel"]),
      let tensor = Self.position(partition["tensor_parallel"]),
      expert.ranks.multipliedReportingOverflow(by: tensor.ranks) == (position.ranks, false),
      expert.rank * tensor.ranks + tensor.rank == position.rank
    else {
      throw malformed(
        "expert_parallel and tensor_parallel do not give rank \(position.rank) of \(position.ranks)")
    }
    switch partition["router"] {
    case .string("attention")?: routesInFFN = false
    case .string("ffn")?: routesInFFN = true
    default: throw malformed("the router is on neither side")
    }
    self.role = role
    self.position = position
    expertParallel = expert
    tensorParallel = tensor
  }

  private static func position(_ value: JSONValue?) -> Position? {
    guard case .object(let members)? = value else { return nil }
    return position(members)
  }

  private static func position(_ members: JSONMembers) -> Position? {
    guard let rank = members["rank"]?.whole, let ranks = members["ranks"]?.whole,
      (1...PartitionSet.mostRanks).contains(ranks), (0..<ranks).contains(rank)
    else { return nil }
    return Position(rank: rank, ranks: ranks)
  }
}
