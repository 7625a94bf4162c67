/// How a whole model is distributed over cards, as serving engines do.
///
/// Within a group of `tensorParallel` ranks attention is divided by heads and every dense matrix by rows or columns;
/// each of `dataParallel` such groups has its own copy of these, and its own sequences. Routed experts are divided
/// between all ranks of all groups: whole ones, or a slice of each.
public struct ServingLayout: Hashable, Sendable, Encodable {
  /// Ranks of a group.
  public var tensorParallel: Int
  /// Groups.
  public var dataParallel: Int
  /// Whether ranks have whole experts rather than slices of all.
  public var expertParallel: Bool

  /// Describes one.
  public init(tensorParallel: Int, dataParallel: Int = 1, expertParallel: Bool = false) {
    self.tensorParallel = tensorParallel
    self.dataParallel = dataParallel
    self.expertParallel = expertParallel
  }

  /// Its cards.
  public var cards: Int { tensorParallel * dataParallel }
}

/// Why a layout is not possible for a model.
struct LayoutObstacle: Error, Hashable, Sendable {
  let reason: String
}
