/// A regular expression as a tree.
indirect enum PatternNode: Hashable, Sendable {
  /// One scalar of a set.
  case set(ScalarSet)
  /// One after the other.
  case sequence([PatternNode])
  /// The first that leads to a match.
  case alternatives([PatternNode])
  /// Again and again, from `minimum` to `maximum` times (`nil`: without end).
  case repetition(PatternNode, minimum: Int, maximum: Int?, Greed)
  /// What follows must, or must not, match.
  case lookahead(PatternNode, isNegative: Bool)
  /// A place in the text.
  case anchor(Anchor)

  /// How much a repetition takes at first, and whether it gives back.
  enum Greed: Hashable, Sendable {
    case greedy, lazy, possessive
  }

  /// A place in a text.
  enum Anchor: Hashable, Sendable {
    case textStart, textEnd, lineStart, lineEnd
  }

  /// Whether the empty text can match.
  var canBeEmpty: Bool {
    switch self {
    case .set: false
    case .sequence(let nodes): nodes.allSatisfy(\.canBeEmpty)
    case .alternatives(let nodes): nodes.contains(where: \.canBeEmpty)
    case .repetition(let node, let minimum, _, _): minimum == 0 || node.canBeEmpty
    case .lookahead, .anchor: true
    }
  }
}
