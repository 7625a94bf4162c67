internal import TensorFormats

/// Reads the regular expressions that `tokenizer.json` files have, in the syntax of Oniguruma's Ruby dialect.
///
/// Known: literals, escapes, `.`, classes with ranges, `\p{…}` with general categories, `\s` and `\d` with their
/// opposites, groups, alternatives, greedy, lazy and possessive quantifiers, lookahead, `(?i:…)` around ASCII, anchors.
/// Everything else is an error that names it: a pattern that is taken for another one would divide text in other
/// places, without a sign of it.
struct PatternParser {
  /// How deep groups may be nested.
  private static let maximumDepth = 32
  /// The highest count in `{n,m}`.
  private static let maximumCount = 1000

  /// The pattern.
  let scalars: [Unicode.Scalar]
  /// The next scalar to look at.
  var position = 0
  private var depth = 0
  /// Whether letters stand for both cases.
  private(set) var ignoresCase = false

  private init(_ pattern: String) { scalars = Array(pattern.unicodeScalars) }

  /// Parses a whole pattern.
  ///
  /// - Throws: `.unsupported` for what this matcher does not know, `.malformed` for what no reader would accept.
  static func parse(_ pattern: String) throws(CheckpointError) -> PatternNode {
    var parser = PatternParser(pattern)
    let node = try parser.alternatives()
    guard parser.position == parser.scalars.count else { throw parser.malformed("')' without '('") }
    return node
  }

  /// A pattern that matches exactly `text`.
  static func literal(_ text: String) -> PatternNode {
    .sequence(text.unicodeScalars.map { .set(ScalarSet(ranges: [$0.value...$0.value])) })
  }

  // MARK: Structure

  private mutating func alternatives() throws(CheckpointError) -> PatternNode {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.maximumDepth else {
      throw unsupported("groups nested more than \(Self.maximumDepth) deep")
    }
    var branches = [try sequence()]
    while take("|") { branches.append(try sequence()) }
    return branches.count == 1 ? branches[0] : .alternatives(branches)
  }

  private mutating func sequence() throws(CheckpointError) -> PatternNode {
    var nodes: [PatternNode] = []
    var previous: Unicode.Scalar?
    while let next = peek, next != "|", next != ")" {
      let start = position
      var node = try atom(next)
      // Oniguruma takes ß for "ss" here, and the ligatures for "ff", "fi", "fl" and "st".
      if ignoresCase, let left = previous, position == start + 1,
        ["ss", "st", "ff", "fi", "fl"].contains("\(left)\(next)".lowercased())
      {
        throw unsupported("'\(left)\(next)' without regard to case")
      }
      previous = position == start + 1 ? next : nil
      if let quantified = try quantifier(of: node) {
        node = quantified
        previous = nil
      }
      nodes.append(node)
    }
    return nodes.count == 1 ? nodes[0] : .sequence(nodes)
  }

  private mutating func atom(_ next: Unicode.Scalar) throws(CheckpointError) -> PatternNode {
    position += 1
    switch next {
    case "(": return try group()
    case "[": return .set(try characterClass())
    case ".": return .set(.notLineFeed)
    case "^": return .anchor(.lineStart)
    case "$": return .anchor(.lineEnd)
    case "*", "+", "?": throw malformed("'\(next)' has nothing to repeat")
    case "{": throw unsupported("'{' that is no quantifier")
    case "\\":
      if take("A") { return .anchor(.textStart) }
      if take("z") { return .anchor(.textEnd) }
      return .set(try folded(escape()))
    default: return .set(try folded(ScalarSet(ranges: [next.value...next.value])))
    }
  }

  private mutating func group() throws(CheckpointError) -> PatternNode {
    var node: PatternNode
    if take("?:") {
      node = try alternatives()
    } else if take("?=") {
      node = .lookahead(try alternatives(), isNegative: false)
    } else if take("?!") {
      node = .lookahead(try alternatives(), isNegative: true)
    } else if take("?i:") {
      let outer = ignoresCase
      ignoresCase = true
      node = try alternatives()
      ignoresCase = outer
    } else if peek == "?" {
      let kind = String(String.UnicodeScalarView(scalars[position...].prefix(3)))
      throw unsupported("a group that begins with '(\(kind.printable)'")
    } else {
      node = try alternatives()
    }
    guard take(")") else { throw malformed("'(' without ')'") }
    return node
  }

  // MARK: Quantifiers

  private mutating func quantifier(of node: PatternNode) throws(CheckpointError) -> PatternNode? {
    let minimum: Int
    var maximum: Int?
    var isCounted = false
    switch peek {
    case "*": minimum = 0
    case "+": minimum = 1
    case "?": (minimum, maximum) = (0, 1)
    case "{":
      isCounted = true
      position += 1
      let low = try count()
      let hasComma = take(",")
      let high = hasComma ? try count() : low
      guard peek == "}", low != nil || high != nil else { throw unsupported("'{' that is no quantifier") }
      (minimum, maximum) = (low ?? 0, high)
      // Oniguruma reads {3,1} as a possessive {1,3}.
      guard minimum <= maximum ?? minimum else { throw unsupported("a quantifier whose bounds fall") }
    default: return nil
    }
    position += 1
    var greed = PatternNode.Greed.greedy
    if !isCounted, take("+") { greed = .possessive }
    if greed == .greedy, !isCounted || minimum != maximum, take("?") { greed = .lazy }
    if let next = peek, ["*", "+", "?", "{"].contains(next) {
      throw unsupported("a quantifier of a quantifier")
    }
    if case .anchor = node { throw unsupported("a quantifier after an anchor") }
    if case .lookahead = node { throw unsupported("a quantifier after a lookahead") }
    guard !node.canBeEmpty else { throw unsupported("the repetition of what can be empty") }
    return .repetition(node, minimum: minimum, maximum: maximum, greed)
  }

  private mutating func count() throws(CheckpointError) -> Int? {
    var value: Int?
    while let digit = peek.flatMap({ $0.isASCII ? Character($0).wholeNumberValue : nil }) {
      value = (value ?? 0) * 10 + digit
      guard value ?? 0 <= Self.maximumCount else {
        throw unsupported("a repetition of more than \(Self.maximumCount) times")
      }
      position += 1
    }
    return value
  }

  // MARK: Letters of both cases

  /// A set with the other case of its letters, inside `(?i:…)`.
  func folded(_ set: ScalarSet) throws(CheckpointError) -> ScalarSet {
    guard ignoresCase else { return set }
    guard set.categories == 0, !set.isInverted, set.ranges.allSatisfy({ $0.upperBound < 0x80 }) else {
      if set == .whiteSpace || set == ScalarSet.whiteSpace.inverted { return set }
      throw unsupported("more than ASCII without regard to case")
    }
    var ranges = set.ranges
    for value in set.ranges.joined() {
      switch value {
      case 0x41...0x5A, 0x61...0x7A: ranges.append((value ^ 0x20)...(value ^ 0x20))
      default: break
      }
      // The long s and the Kelvin sign fold to ASCII letters.
      if value | 0x20 == 0x73 { ranges.append(0x17F...0x17F) }
      if value | 0x20 == 0x6B { ranges.append(0x212A...0x212A) }
    }
    return ScalarSet(ranges: ranges)
  }

  // MARK: Single scalars and errors

  var peek: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  /// Steps over `text` if it is next.
  mutating func take(_ text: String) -> Bool {
    let wanted = Array(text.unicodeScalars)
    guard scalars[position...].starts(with: wanted) else { return false }
    position += wanted.count
    return true
  }

  func unsupported(_ what: String) -> CheckpointError {
    CheckpointError(.unsupported, "regular expression, character \(position): \(what) is not known here")
  }

  func malformed(_ what: String) -> CheckpointError {
    CheckpointError(.malformed, "regular expression, character \(position): \(what)")
  }
}
