/// A regular expression as a program for ``NamePattern``.
///
/// Configurations are untrusted, and a backtracking matcher can be kept busy for years by a pattern of ten characters.
/// So every state is visited at most once per position, which bounds the work by their product.
struct PatternProgram {
  indirect enum Node {
    case empty
    case bytes(Set<UInt8>)
    case start, end, wordBoundary(Bool)
    case sequence([Node])
    case choice([Node])
    case loop(Node, minimum: Int, maximum: Int?)
    case look(Node, isNegative: Bool)
  }

  enum Instruction {
    case bytes(Set<UInt8>)
    case start, end, wordBoundary(Bool)
    case split(Int, Int)
    case jump(Int)
    case look(PatternProgram, isNegative: Bool)
    case match
  }

  private(set) var instructions: [Instruction] = []

  /// Programs longer than this are refused: repeated repetitions multiply.
  private static let largest = 5_000

  /// How much work a name of usual length can be, in visits per character: looking ahead begins anew everywhere.
  var cost: Int {
    instructions.reduce(0) { sum, instruction in
      if case .look(let program, _) = instruction { sum + 64 * program.cost } else { sum + 1 }
    }
  }

  /// `nil` for a program that would be too long.
  init?(_ node: Node) {
    guard emit(node) else { return nil }
    instructions.append(.match)
  }

  private mutating func emit(_ node: Node) -> Bool {
    guard instructions.count < Self.largest else { return false }
    switch node {
    case .empty: break
    case .bytes(let set): instructions.append(.bytes(set))
    case .start: instructions.append(.start)
    case .end: instructions.append(.end)
    case .wordBoundary(let expected): instructions.append(.wordBoundary(expected))
    case .sequence(let nodes): return nodes.allSatisfy { emit($0) }
    case .choice(let nodes): return emitChoice(nodes[...])
    case .loop(let node, let minimum, let maximum): return emitLoop(node, minimum, maximum)
    case .look(let node, let isNegative):
      guard let program = PatternProgram(node) else { return false }
      instructions.append(.look(program, isNegative: isNegative))
    }
    return true
  }

  private mutating func emitChoice(_ nodes: ArraySlice<Node>) -> Bool {
    guard let first = nodes.first else { return true }
    guard nodes.count > 1 else { return emit(first) }
    let split = instructions.count
    instructions.append(.match)
    guard emit(first) else { return false }
    let jump = instructions.count
    instructions.append(.match)
    instructions[split] = .split(split + 1, instructions.count)
    guard emitChoice(nodes.dropFirst()) else { return false }
    instructions[jump] = .jump(instructions.count)
    return true
  }

  private mutating func emitLoop(_ node: Node, _ minimum: Int, _ maximum: Int?) -> Bool {
    for _ in 0..<minimum where !emit(node) { return false }
    guard let maximum else {
      let split = instructions.count
      instructions.append(.match)
      guard emit(node) else { return false }
      instructions.append(.jump(split))
      instructions[split] = .split(split + 1, instructions.count)
      return true
    }
    for _ in minimum..<max(minimum, maximum) {
      let split = instructions.count
      instructions.append(.match)
      guard emit(node) else { return false }
      instructions[split] = .split(split + 1, instructions.count)
    }
    return true
  }

  /// Whether some way through the program matches `text` from `start` on; what follows the match does not count.
  func matches(_ text: [UInt8], from start: Int = 0) -> Bool {
    var visited = [Bool](repeating: false, count: instructions.count * (text.count + 1))
    var pending = [(0, start)]
    while let (counter, position) = pending.popLast() {
      let state = counter * (text.count + 1) + position
      if visited[state] { continue }
      visited[state] = true
      switch instructions[counter] {
      case .match: return true
      case .bytes(let set):
        if position < text.count, set.contains(text[position]) { pending.append((counter + 1, position + 1)) }
      case .start: if position == 0 { pending.append((counter + 1, position)) }
      case .end: if position == text.count { pending.append((counter + 1, position)) }
      case .wordBoundary(let expected):
        let before = position > 0 && NamePattern.word.contains(text[position - 1])
        let after = position < text.count && NamePattern.word.contains(text[position])
        if (before != after) == expected { pending.append((counter + 1, position)) }
      case .split(let first, let second):
        pending.append((second, position))
        pending.append((first, position))
      case .jump(let target): pending.append((target, position))
      case .look(let program, let isNegative):
        if program.matches(text, from: position) != isNegative { pending.append((counter + 1, position)) }
      }
    }
    return false
  }
}
