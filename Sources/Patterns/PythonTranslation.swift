internal import TensorFormats

/// Translates the patterns of Python's `re` into PCRE2's dialect.
///
/// Nothing depends on PCRE2 options: `.`, `^`, `$`, classes, word boundaries and case are written out with their
/// meaning in Python.
///
/// Source of the rules: the parser of CPython 3.11 to 3.14 (`re/_parser.py`), in the same order of checks.
struct PythonTranslation {
  /// A piece of the translation.
  struct Part {
    /// What kind of part it is, for quantifiers.
    enum Kind { case item, anchor, repetition }

    var text: String
    /// The minimum and maximum number of characters that it can match; ``endless`` means any number.
    var width: ClosedRange<Int>
    var kind = Kind.item
  }

  /// Widths from here on count as unbounded.
  static let endless = 1 << 32
  /// The longest text. Real patterns have a few dozen characters.
  private static let longest = 1 << 12
  private static let deepest = 100
  private static let largestCount = 65_535

  let scalars: [Unicode.Scalar]
  var position = 0
  private var depth = 0
  /// How many groups have been opened, and which are complete.
  private var groupCount = 0
  private var complete: Set<Int> = []
  private var groupNames: [String: Int] = [:]
  private var lookBehinds = 0
  /// Flags that are on, of `i`, `m`, `s` and `u`.
  private var flags: Set<Unicode.Scalar> = []

  var ignoresCase: Bool { flags.contains("i") }

  private init(_ text: String) { scalars = Array(text.unicodeScalars) }

  /// The translation of a regular expression.
  static func expression(_ text: String) throws(CheckpointError) -> String {
    guard text.utf8.count <= longest else {
      throw CheckpointError(
        .unsupported, "a pattern of \(text.utf8.count) bytes is too long; the limit is \(longest)")
    }
    var translation = PythonTranslation(text)
    let part = try translation.alternatives()
    guard translation.position == translation.scalars.count else {
      throw translation.malformed("unbalanced parenthesis")
    }
    return part.text
  }

  // MARK: Structure

  private mutating func alternatives() throws(CheckpointError) -> Part {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.deepest else { throw unsupported("groups nested more than \(Self.deepest) deep") }
    var branches: [Part] = []
    repeat { branches.append(try sequence(isFirst: depth == 1 && branches.isEmpty)) } while take("|")
    let least = branches.map(\.width.lowerBound).min() ?? 0
    let most = branches.map(\.width.upperBound).max() ?? 0
    return Part(text: branches.map(\.text).joined(separator: "|"), width: least...most)
  }

  /// - Parameter isFirst: Whether flags for the whole pattern may appear at the beginning.
  private mutating func sequence(isFirst: Bool) throws(CheckpointError) -> Part {
    var parts: [Part] = []
    while let next = peek, next != "|", next != ")" {
      position += 1
      switch next {
      case "*": try repeatLast(of: &parts, 0, nil)
      case "+": try repeatLast(of: &parts, 1, nil)
      case "?": try repeatLast(of: &parts, 0, 1)
      case "{":
        if let (least, most) = try bounds() {
          try repeatLast(of: &parts, least, most)
        } else {
          parts.append(try literal(next))
        }
      case "(":
        if let group = try group(allowsFlags: isFirst && parts.isEmpty) { parts.append(group) }
      case "[": parts.append(try characterClass())
      case "\\": parts.append(try escape())
      case ".":
        parts.append(Part(text: flags.contains("s") ? "(?s:.)" : #"[^\x0a]"#, width: 1...1))
      case "^":
        let text = flags.contains("m") ? #"(?<![^\x0a])"# : #"\A"#
        parts.append(Part(text: text, width: 0...0, kind: .anchor))
      case "$":
        let text = flags.contains("m") ? #"(?![^\x0a])"# : #"(?=\x0a?\z)"#
        parts.append(Part(text: text, width: 0...0, kind: .anchor))
      default: parts.append(try literal(next))
      }
    }
    let least = parts.reduce(0) { min(Self.endless, $0 + $1.width.lowerBound) }
    let most = parts.reduce(0) { min(Self.endless, $0 + $1.width.upperBound) }
    return Part(text: parts.map(\.text).joined(), width: least...most)
  }

  // MARK: Repetitions

  private mutating func repeatLast(
    of parts: inout [Part], _ least: Int, _ most: Int?
  ) throws(CheckpointError) {
    guard let last = parts.popLast(), last.kind != .anchor else { throw malformed("nothing to repeat") }
    guard last.kind != .repetition else { throw malformed("multiple repeat") }
    let mark = take("?") ? "?" : take("+") ? "+" : ""
    let times = most.map { "{\(least),\($0)}" } ?? "{\(least),}"
    let low = min(Self.endless, last.width.lowerBound * least)
    let high = most.map { min(Self.endless, last.width.upperBound * $0) }
    parts.append(
      Part(
        text: last.text + times + mark,
        width: low...(high ?? (last.width.upperBound == 0 ? 0 : Self.endless)), kind: .repetition))
  }

  /// Reads what follows a `{`; `nil` if that is not a quantifier but a character.
  private mutating func bounds() throws(CheckpointError) -> (least: Int, most: Int?)? {
    let start = position
    if peek == "}" { return nil }
    let low = digits()
    let high = take(",") ? digits() : low
    guard take("}") else {
      position = start
      return nil
    }
    let least = low.isEmpty ? 0 : Int(low) ?? .max
    let most = high.isEmpty ? nil : Int(high) ?? .max
    guard max(least, most ?? 0) <= Self.largestCount else {
      throw unsupported("a repetition of more than \(Self.largestCount) times")
    }
    guard least <= most ?? least else { throw malformed("min repeat greater than max repeat") }
    return (least, most)
  }

  private mutating func digits() -> String {
    var text = ""
    while let next = peek, ("0"..."9").contains(next) {
      text.unicodeScalars.append(next)
      position += 1
    }
    return text
  }

  // MARK: Groups

  /// Reads what follows a `(`; `nil` for a comment and for flags, which are not parts.
  private mutating func group(allowsFlags: Bool) throws(CheckpointError) -> Part? {
    guard take("?") else { return try capture(name: nil) }
    guard let kind = peek else { throw malformed("unexpected end of pattern") }
    position += 1
    switch kind {
    case ":": return try enclosed("(?:")
    case ">": return try enclosed("(?>")
    case "=", "!": return try assertion("(?\(kind)")
    case "<":
      guard let side = peek, side == "=" || side == "!" else { break }
      position += 1
      lookBehinds += 1
      defer { lookBehinds -= 1 }
      return try assertion("(?<\(side)")
    case "P":
      if take("<") { return try capture(name: identifier(before: ">")) }
      guard take("=") else { break }
      let name = try identifier(before: ")")
      guard let number = groupNames[name] else { throw malformed("unknown group name '\(name)'") }
      return try reference(to: number)
    case "#":
      while let next = peek {
        position += next == "\\" ? 2 : 1
        if next == ")" { return nil }
      }
      throw malformed("missing ), unterminated comment")
    case "(": throw unsupported("a conditional group")
    case "a"..."z", "A"..."Z", "-":
      position -= 1
      return try flagged(allowsFlags: allowsFlags)
    default: break
    }
    throw malformed("unknown extension")
  }

  private mutating func enclosed(_ opening: String) throws(CheckpointError) -> Part {
    let inner = try alternatives()
    guard take(")") else { throw malformed("missing ), unterminated subpattern") }
    return Part(text: "\(opening)\(inner.text))", width: inner.width)
  }

  private mutating func capture(name: String?) throws(CheckpointError) -> Part {
    groupCount += 1
    let number = groupCount
    if let name, groupNames.updateValue(number, forKey: name) != nil {
      throw malformed("redefinition of group name '\(name)'")
    }
    let part = try enclosed("(")
    complete.insert(number)
    return part
  }

  private mutating func assertion(_ opening: String) throws(CheckpointError) -> Part {
    let inner = try enclosed(opening)
    guard !opening.contains("<") || inner.width.lowerBound == inner.width.upperBound else {
      throw malformed("look-behind requires fixed-width pattern")
    }
    // In a group, so that a quantifier applies to it as to any other part.
    return Part(text: "(?:\(inner.text))", width: 0...0)
  }

  /// Reads flags: `i)` for the whole pattern, `i-s:...)` for a group.
  private mutating func flagged(allowsFlags: Bool) throws(CheckpointError) -> Part? {
    let on = try flagNames()
    if !on.isEmpty, take(")") {
      guard allowsFlags else { throw malformed("global flags not at the start of the expression") }
      flags.formUnion(on)
      return nil
    }
    var off: Set<Unicode.Scalar> = []
    if take("-") {
      off = try flagNames()
      guard !off.isEmpty else { throw malformed("missing flag") }
      guard !off.contains("u") else { throw malformed("bad inline flags: cannot turn off flag 'u'") }
    }
    guard take(":") else { throw malformed("missing : or unknown flag") }
    guard on.isDisjoint(with: off) else { throw malformed("bad inline flags: flag turned on and off") }
    let outer = flags
    flags = flags.union(on).subtracting(off)
    defer { flags = outer }
    return try enclosed("(?:")
  }

  private mutating func flagNames() throws(CheckpointError) -> Set<Unicode.Scalar> {
    var names: Set<Unicode.Scalar> = []
    while let next = peek, ("a"..."z").contains(next) || ("A"..."Z").contains(next) {
      guard next != "a", next != "x" else { throw unsupported("the flag '\(next)'") }
      guard ["i", "m", "s", "u"].contains(next) else { throw malformed("unknown flag '\(next)'") }
      names.insert(next)
      position += 1
    }
    return names
  }

  private mutating func identifier(before end: Unicode.Scalar) throws(CheckpointError) -> String {
    var name = ""
    while let next = peek, next != end {
      guard next.isASCII else { throw unsupported("a group name beyond ASCII") }
      let isLetter = Self.isAlphanumeric(next) || next == "_"
      guard isLetter, !(name.isEmpty && ("0"..."9").contains(next)) else {
        throw malformed("bad character in group name")
      }
      name.unicodeScalars.append(next)
      position += 1
    }
    guard position < scalars.count, !name.isEmpty else { throw malformed("missing group name") }
    position += 1
    return name
  }

  /// A back reference.
  func reference(to number: Int) throws(CheckpointError) -> Part {
    guard number <= groupCount else { throw malformed("invalid group reference \(number)") }
    guard complete.contains(number) else { throw malformed("cannot refer to an open group") }
    guard lookBehinds == 0 else { throw unsupported("a back reference inside a look-behind") }
    guard !ignoresCase else { throw unsupported("a case-insensitive back reference") }
    return Part(text: "\\g{\(number)}", width: 0...Self.endless)
  }

  // MARK: Single scalars and errors

  static func isAlphanumeric(_ scalar: Unicode.Scalar) -> Bool {
    ("0"..."9").contains(scalar) || ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar)
  }

  var peek: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  /// Consumes `scalar` if it is next.
  mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard peek == scalar else { return false }
    position += 1
    return true
  }

  func malformed(_ what: String) -> CheckpointError { error(.malformed, what) }

  func unsupported(_ what: String) -> CheckpointError { error(.unsupported, "\(what) is not supported") }

  private func error(_ code: CheckpointError.Code, _ what: String) -> CheckpointError {
    let text = Expression.shown(String(String.UnicodeScalarView(scalars)))
    return CheckpointError(
      code,
      "'\(text)' is not a supported Python pattern: \(what), before character \(position + 1)"
    )
  }
}
