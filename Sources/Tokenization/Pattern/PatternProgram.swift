internal import TensorFormats

/// A regular expression as instructions for ``PatternMatcher``.
struct PatternProgram: Hashable, Sendable {
  /// One step of the matcher. Targets are instruction numbers.
  enum Instruction: Hashable, Sendable {
    /// One scalar of a set.
    case set(Int)
    /// As many scalars of a set as there are, at least the first number and at most the second.
    case run(Int, minimum: Int, maximum: Int, givesBack: Bool)
    /// Go on at the first; if that fails, at the second.
    case fork(Int, Int)
    /// Go on elsewhere.
    case jump(Int)
    /// Try what follows up to its `accept`, consuming nothing; then go on at `end`.
    case lookahead(isNegative: Bool, end: Int)
    /// A place in the text.
    case anchor(PatternNode.Anchor)
    /// The match is complete.
    case accept
  }

  /// The longest program.
  private static let maximumLength = 1 << 13

  private(set) var instructions: [Instruction] = []
  private(set) var sets: [ScalarSet] = []

  /// Compiles a pattern.
  ///
  /// - Throws: As ``PatternParser/parse(_:)``; also `.unsupported` for a pattern that matches the empty text, because
  ///   engines differ in where they go on then, and for one that is too long.
  init(_ pattern: String) throws(CheckpointError) {
    try self.init(PatternParser.parse(pattern))
  }

  init(_ node: PatternNode) throws(CheckpointError) {
    guard !node.canBeEmpty else {
      throw CheckpointError(
        .unsupported, "a regular expression that matches the empty text is not known here")
    }
    try append(node)
    instructions.append(.accept)
  }

  private mutating func append(_ node: PatternNode) throws(CheckpointError) {
    guard instructions.count < Self.maximumLength else {
      throw CheckpointError(
        .unsupported, "a regular expression of more than \(Self.maximumLength) steps is not known here")
    }
    switch node {
    case .set(let set): instructions.append(.set(index(of: set)))
    case .sequence(let nodes): for node in nodes { try append(node) }
    case .anchor(let anchor): instructions.append(.anchor(anchor))
    case .lookahead(let inner, let isNegative):
      let start = instructions.count
      instructions.append(.lookahead(isNegative: isNegative, end: 0))
      try append(inner)
      instructions.append(.accept)
      instructions[start] = .lookahead(isNegative: isNegative, end: instructions.count)
    case .alternatives(let branches):
      var exits: [Int] = []
      for branch in branches.dropLast() {
        let fork = instructions.count
        instructions.append(.fork(fork + 1, 0))
        try append(branch)
        exits.append(instructions.count)
        instructions.append(.jump(0))
        instructions[fork] = .fork(fork + 1, instructions.count)
      }
      if let last = branches.last { try append(last) }
      for exit in exits { instructions[exit] = .jump(instructions.count) }
    case .repetition(let inner, let minimum, let maximum, let greed):
      if case .set(let set) = inner, greed != .lazy {
        let givesBack = greed == .greedy
        instructions.append(
          .run(index(of: set), minimum: minimum, maximum: maximum ?? .max, givesBack: givesBack))
        return
      }
      guard greed != .possessive else {
        throw CheckpointError(.unsupported, "a possessive quantifier of a group is not known here")
      }
      for _ in 0..<minimum { try append(inner) }
      if let maximum {
        var forks: [Int] = []
        for _ in minimum..<maximum {
          forks.append(instructions.count)
          instructions.append(.jump(0))
          try append(inner)
        }
        for fork in forks { instructions[fork] = Self.fork(greed, into: fork + 1, past: instructions.count) }
      } else {
        let fork = instructions.count
        instructions.append(.jump(0))
        try append(inner)
        instructions.append(.jump(fork))
        instructions[fork] = Self.fork(greed, into: fork + 1, past: instructions.count)
      }
    }
  }

  private static func fork(_ greed: PatternNode.Greed, into: Int, past: Int) -> Instruction {
    greed == .lazy ? .fork(past, into) : .fork(into, past)
  }

  private mutating func index(of set: ScalarSet) -> Int {
    if let known = sets.firstIndex(of: set) { return known }
    sets.append(set)
    return sets.count - 1
  }
}
