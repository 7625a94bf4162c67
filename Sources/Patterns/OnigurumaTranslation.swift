internal import TensorFormats

/// Prepares an Oniguruma expression for ``OnigurumaPattern``.
///
/// Only known syntax is accepted: anything that depends on the Unicode version and is not written out here (`\w`,
/// scripts, POSIX brackets), back references, subexpression calls and Oniguruma's own callouts are errors that name
/// them. A misinterpreted pattern would silently split text in the wrong places.
struct OnigurumaTranslation {
  private static let longest = 1 << 14
  private static let longestTranslation = 1 << 22
  private static let deepest = 32
  /// Counted repetitions of one character get a callout after each from this count on.
  private static let manyTimes = 64
  /// The number of matches found per search.
  private static let mostMatches = 1000
  /// Patterns that can be tried in more ways than this without a callout get one at every position.
  private static let mostWays = 128
  /// The mark of the callout after a match.
  static let matchMark: Unicode.Scalar = "m"

  /// A part of the pattern.
  private struct Part {
    var text = ""
    /// The maximum number of ways to try it at one position without a callout.
    var ways = 1
    /// Whether the empty text may match.
    var canBeEmpty = true
  }

  /// The context of a position in the pattern.
  private struct Context {
    var depth = 0
    /// Whether letters match both cases.
    var ignoresCase = false
    var isLookBehind = false
  }

  private let scalars: [Unicode.Scalar]
  /// A callout that counts steps, or nothing.
  private let tick: String
  private var position = 0
  private var expanded = 0

  private init(_ text: String, tick: String) {
    scalars = Array(text.unicodeScalars)
    self.tick = tick
  }

  /// The pattern with categories written out, and, for counting, with callouts after everything that is repeated, so
  /// that the work between two callouts is bounded by the pattern and the text skipped.
  ///
  /// For counting, it also matches several consecutive times, with a callout after each, because starting a search
  /// takes longer than finding a word. The matches stay the same, because a complete match is never retried.
  ///
  /// - Returns: The pattern, and whether it repeats. It does not if a match may be empty.
  static func expression(
    _ text: String, isCounting: Bool
  ) throws(CheckpointError) -> (text: String, repeats: Bool) {
    var translation = OnigurumaTranslation(text, tick: isCounting ? "(?{t})" : "")
    guard text.utf8.count <= longest else {
      throw translation.unsupported("an expression of more than \(longest) bytes")
    }
    let body = try translation.sequence(Context())
    guard translation.position == translation.scalars.count else {
      throw translation.malformed("')' without '('")
    }
    guard isCounting else { return (body.text, false) }
    let tick = translation.tick
    var whole = "(?:\(body.text))\(tick)"
    if !body.canBeEmpty { whole = "(?>(?>(?:\(body.text))(?{\(matchMark)})){1,\(mostMatches)})" }
    if body.ways > mostWays { whole += "|\(tick)(?!)" }
    return (whole, !body.canBeEmpty)
  }

  // MARK: Structure

  /// Reads up to a `)` or the end.
  private mutating func sequence(_ outer: Context) throws(CheckpointError) -> Part {
    var context = outer
    context.depth += 1
    guard context.depth <= Self.deepest else {
      throw unsupported("groups nested more than \(Self.deepest) deep")
    }
    var whole = Part(ways: 0, canBeEmpty: false)
    // For the branch being read.
    var ways = 1
    var isEmpty = true
    while let next = peek, next != ")" {
      position += 1
      switch next {
      case "|":
        whole.text += "|"
        whole.ways += ways
        whole.canBeEmpty = whole.canBeEmpty || isEmpty
        (ways, isEmpty) = (1, true)
      case "^", "$":
        whole.text += String(Character(next))
      case "(":
        guard let (opening, inner) = try group(&context) else {
          whole.text += "(?\(context.ignoresCase ? "i" : "-i"))"
          continue
        }
        let quantifier = try quantifiers(context)
        let counts = quantifier.repeats && !tick.isEmpty
        whole.text += counts ? "\(opening)(?:\(inner.text))\(tick))" : "\(opening)\(inner.text))"
        whole.text += quantifier.text
        ways *= inner.ways + (quantifier.text.isEmpty ? 0 : 1)
        isEmpty = isEmpty && (inner.canBeEmpty || quantifier.mayBeNone)
      default:
        let atom =
          switch next {
          case "[": try characterClass(context)
          case "\\": try escape(context, isInClass: false)
          case ".": "."
          default: try literal(next, context)
          }
        let quantifier = try quantifiers(context)
        // If a match ends with a repetition, nothing is tried after it.
        let isLast = context.depth == 1 && (peek == nil || peek == "|")
        if quantifier.count >= Self.manyTimes, !tick.isEmpty {
          whole.text += "(?:\(atom)\(tick))\(quantifier.text)"
        } else {
          whole.text += atom + quantifier.text + (quantifier.repeats && !isLast ? tick : "")
        }
        ways *= quantifier.text.isEmpty || quantifier.repeats ? 1 : 2
        isEmpty = isEmpty && quantifier.mayBeNone
      }
      ways = min(ways, 1 << 20)
    }
    whole.ways = min(whole.ways + ways, 1 << 20)
    whole.canBeEmpty = whole.canBeEmpty || isEmpty
    return whole
  }

  /// Reads a group after its `(`: its opening and contents; `nil` for an option that applies up to the end of the
  /// enclosing group, which is then in `context`.
  private mutating func group(
    _ context: inout Context
  ) throws(CheckpointError) -> (opening: String, inner: Part)? {
    var inner = context
    var opening = "("
    var isLook = false
    // Oniguruma would treat the name as a callout.
    if peek == "*" { throw unsupported("a group that begins with '(*'") }
    if take("?") {
      if take("<") {
        if take("=") || take("!") {
          opening = "(?<\(scalars[position - 1])"
          (inner.isLookBehind, isLook) = (true, true)
        } else {
          opening = "(?<\(try name())>"
        }
      } else if take("=") || take("!") || take(">") || take(":") {
        opening = "(?\(scalars[position - 1])"
        isLook = opening == "(?=" || opening == "(?!"
      } else {
        let start = position
        let isOff = take("-")
        guard take("i"), peek == ":" || peek == ")" else {
          throw unsupported(
            "a group that begins with '(?\(String(String.UnicodeScalarView(scalars[start...].prefix(2))).printable)'"
          )
        }
        inner.ignoresCase = !isOff
        if take(")") {
          context.ignoresCase = !isOff
          return nil
        }
        position += 1
        opening = isOff ? "(?-i:" : "(?i:"
      }
    }
    var part = try sequence(inner)
    guard take(")") else { throw malformed("'(' without ')'") }
    part.canBeEmpty = part.canBeEmpty || isLook
    return (opening, part)
  }

  private mutating func name() throws(CheckpointError) -> String {
    guard let end = scalars[position...].firstIndex(of: ">"), end > position,
      scalars[position..<end].allSatisfy({ ("a"..."z").contains($0) || ("A"..."Z").contains($0) || $0 == "_" }
      )
    else { throw unsupported("the name of this group") }
    defer { position = end + 1 }
    return String(String.UnicodeScalarView(scalars[position..<end]))
  }

  /// What follows a part.
  private struct Quantifier {
    var text = ""
    /// Whether it repeats anything.
    var repeats = false
    /// Whether the part may be absent.
    var mayBeNone = false
    /// The larger of the stated bounds.
    var count = 0
  }

  /// Reads all quantifiers that follow: Oniguruma accepts several.
  private mutating func quantifiers(_ context: Context) throws(CheckpointError) -> Quantifier {
    var result = Quantifier()
    loop: while let next = peek {
      switch next {
      case "+": result.repeats = true
      case "*": (result.repeats, result.mayBeNone) = (true, true)
      case "?": result.mayBeNone = true
      case "{":
        guard let end = scalars[position...].firstIndex(of: "}"),
          scalars[(position + 1)..<end].contains(where: { ("0"..."9").contains($0) }),
          scalars[(position + 1)..<end].allSatisfy({ ("0"..."9").contains($0) || $0 == "," })
        else { throw unsupported("'{' that is not a quantifier") }
        let bounds = String(String.UnicodeScalarView(scalars[position..<end]))
        for number in bounds.dropFirst().split(separator: ",") {
          result.count = max(result.count, Int(number) ?? .max)
        }
        result.text += bounds
        position = end
        (result.repeats, result.mayBeNone) = (true, true)
      default: break loop
      }
      result.text.unicodeScalars.append(scalars[position])
      position += 1
    }
    guard !result.repeats || !context.isLookBehind else {
      throw unsupported("a repetition inside a look-behind")
    }
    return result
  }

  // MARK: Characters and classes

  private func literal(
    _ scalar: Unicode.Scalar, _ context: Context
  ) throws(CheckpointError) -> String {
    guard scalar.isASCII || !context.ignoresCase else {
      throw unsupported("case-insensitive matching beyond ASCII")
    }
    return String(Character(scalar))
  }

  /// Reads a class after its `[`.
  private mutating func characterClass(_ outer: Context) throws(CheckpointError) -> String {
    var context = outer
    context.depth += 1
    guard context.depth <= Self.deepest else {
      throw unsupported("classes nested more than \(Self.deepest) deep")
    }
    var text = take("^") ? "[^" : "["
    guard peek != "]" else { throw unsupported("']' at the start of a class") }
    while true {
      guard let next = peek else { throw malformed("'[' without ']'") }
      position += 1
      switch next {
      case "]": return text + "]"
      case "[":
        guard peek != ":" else { throw unsupported("a POSIX bracket") }
        text += try characterClass(context)
        try refuseRange()
      case "\\":
        let isSet = peek.map { ["p", "P", "d", "D", "s", "S", "h", "H"].contains($0) } ?? false
        text += try escape(context, isInClass: true)
        if isSet { try refuseRange() }
      case "-":
        if peek == "\\", position + 1 < scalars.count, ["p", "P", "d", "D"].contains(scalars[position + 1]) {
          throw malformed("a range that ends with a set")
        }
        if peek == "[" { throw unsupported("'-' before a set inside a class") }
        text += "-"
      default: text += try literal(next, context)
      }
    }
  }

  /// A range cannot start after a set.
  private func refuseRange() throws(CheckpointError) {
    guard peek == "-", position + 1 < scalars.count, scalars[position + 1] != "]" else { return }
    throw unsupported("'-' after a set inside a class")
  }

  /// Reads what follows a backslash.
  private mutating func escape(_ context: Context, isInClass: Bool) throws(CheckpointError) -> String {
    guard let next = peek else { throw malformed("a backslash at the end") }
    position += 1
    switch next {
    case "s", "S", "h", "H", "n", "r", "t", "v", "f", "a", "e": return "\\\(next)"
    case "A", "z", "Z":
      if !isInClass { return "\\\(next)" }
    case "d", "D": return try category("Nd", isInverted: next == "D")
    case "p", "P":
      guard take("{"), let end = scalars[position...].firstIndex(of: "}") else {
        throw unsupported("'\\p' without braces")
      }
      let isInverted = take("^") != (next == "P")
      let name = String(String.UnicodeScalarView(scalars[position..<end]))
      position = end + 1
      guard !context.ignoresCase else { throw unsupported("case-insensitive matching beyond ASCII") }
      return try category(name, isInverted: isInverted)
    case "x": return try value(take("{") ? nil : 2, context)
    case "u": return try value(4, context)
    case "a"..."z", "A"..."Z", "0"..."9": break
    default: return next.isASCII ? "\\\(next)" : try literal(next, context)
    }
    throw unsupported("'\\\(next)'")
  }

  /// A general category or a group of them, as a class.
  private mutating func category(_ name: String, isInverted: Bool) throws(CheckpointError) -> String {
    guard let members = ScalarCategory.members(of: name) else {
      throw unsupported("the property '\(name.printable)'")
    }
    expanded += members.utf8.count
    guard expanded <= Self.longestTranslation else {
      throw unsupported("an expression with this many categories")
    }
    return "[\(isInverted ? "^" : "")\(members)]"
  }

  /// Reads the value of a scalar with the given number of hexadecimal digits, or up to a brace.
  private mutating func value(_ digits: Int?, _ context: Context) throws(CheckpointError) -> String {
    let end = digits == nil ? scalars[position...].prefix(9).firstIndex(of: "}") : position + (digits ?? 0)
    guard let end else { throw malformed("'\\x{' without '}'") }
    let shown = String(String.UnicodeScalarView(scalars[position..<min(end, scalars.count)]))
    guard end <= scalars.count, scalars[position..<end].allSatisfy(\.properties.isASCIIHexDigit),
      let value = UInt32(shown, radix: 16), let scalar = Unicode.Scalar(value)
    else { throw malformed("'\(shown.printable)' is not a scalar") }
    guard digits != 2 || scalar.isASCII else { throw unsupported("a single byte of UTF-8") }
    _ = try literal(scalar, context)
    position = digits == nil ? end + 1 : end
    return "\\x{\(String(value, radix: 16))}"
  }

  // MARK: Single scalars and errors

  private var peek: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  /// Consumes `scalar` if it is next.
  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard peek == scalar else { return false }
    position += 1
    return true
  }

  private func unsupported(_ what: String) -> CheckpointError {
    CheckpointError(.unsupported, "regular expression, character \(position): \(what) is not supported")
  }

  private func malformed(_ what: String) -> CheckpointError {
    CheckpointError(.malformed, "regular expression, character \(position): \(what)")
  }
}
