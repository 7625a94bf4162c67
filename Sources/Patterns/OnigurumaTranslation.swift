internal import TensorFormats

/// Prepares an expression of Oniguruma's for ``OnigurumaPattern``.
///
/// Only what it knows passes: what depends on the version of Unicode and is not written out here (`\w`, scripts, POSIX
/// brackets), back references, calls and Oniguruma's own callouts are errors that name them. A pattern that is taken for
/// another one would divide text in other places, without a sign of it.
struct OnigurumaTranslation {
  private static let longest = 1 << 14
  private static let longestTranslation = 1 << 22
  private static let deepest = 32
  /// What surrounds a place in the pattern.
  private struct Context {
    var depth = 0
    /// Whether letters stand for both cases.
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

  /// The pattern with categories written out, and, for counting, with calls back: after everything that is repeated, and
  /// when a match was found, or was not, at each place where one may begin.
  static func expression(_ text: String, isCounting: Bool) throws(CheckpointError) -> String {
    var translation = OnigurumaTranslation(text, tick: isCounting ? "(?{t})" : "")
    guard text.utf8.count <= longest else {
      throw translation.unsupported("an expression of more than \(longest) bytes")
    }
    let body = try translation.sequence(Context())
    guard translation.position == translation.scalars.count else {
      throw translation.malformed("')' without '('")
    }
    let tick = translation.tick
    return isCounting ? "(?:\(body))\(tick)|\(tick)(?!)" : body
  }

  // MARK: Structure

  /// Reads up to a `)` or the end.
  private mutating func sequence(_ outer: Context) throws(CheckpointError) -> String {
    var context = outer
    context.depth += 1
    guard context.depth <= Self.deepest else {
      throw unsupported("groups nested more than \(Self.deepest) deep")
    }
    var text = ""
    while let next = peek, next != ")" {
      position += 1
      let atom: String
      switch next {
      case "(":
        guard let (opening, inner) = try group(&context) else {
          text += "(?\(context.ignoresCase ? "i" : "-i"))"
          continue
        }
        let (quantifier, repeats) = try quantifiers(context)
        text += repeats && !tick.isEmpty ? "\(opening)(?:\(inner))\(tick))" : "\(opening)\(inner))"
        text += quantifier
        continue
      case "[": atom = try characterClass(context)
      case "\\": atom = try escape(context, isInClass: false)
      case "|", "^", "$", ".": atom = String(Character(next))
      default: atom = try literal(next, context)
      }
      let (quantifier, repeats) = try quantifiers(context)
      text += atom + quantifier + (repeats ? tick : "")
    }
    return text
  }

  /// Reads a group after its `(`: how it begins and what is in it; `nil` for an option up to the end of the group around
  /// it, which is then in `context`.
  private mutating func group(
    _ context: inout Context
  ) throws(CheckpointError) -> (opening: String, inner: String)? {
    var inner = context
    var opening = "("
    if take("?") {
      if take("<") {
        if take("=") || take("!") {
          opening = "(?<\(scalars[position - 1])"
          inner.isLookBehind = true
        } else {
          opening = "(?<\(try name())>"
        }
      } else if take("=") || take("!") || take(">") || take(":") {
        opening = "(?\(scalars[position - 1])"
      } else {
        let start = position
        let isOff = take("-")
        guard take("i"), peek == ":" || peek == ")" else {
          throw unsupported(
            "a group that begins with '(?\(String(String.UnicodeScalarView(scalars[start...].prefix(2))).printable)'")
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
    let text = try sequence(inner)
    guard take(")") else { throw malformed("'(' without ')'") }
    return (opening, text)
  }

  private mutating func name() throws(CheckpointError) -> String {
    guard let end = scalars[position...].firstIndex(of: ">"), end > position,
      scalars[position..<end].allSatisfy({ ("a"..."z").contains($0) || ("A"..."Z").contains($0) || $0 == "_" })
    else { throw unsupported("the name of this group") }
    defer { position = end + 1 }
    return String(String.UnicodeScalarView(scalars[position..<end]))
  }

  /// Reads all quantifiers that follow, and tells whether they repeat anything.
  private mutating func quantifiers(
    _ context: Context
  ) throws(CheckpointError) -> (text: String, repeats: Bool) {
    var text = ""
    var repeats = false
    while let next = peek {
      switch next {
      case "*", "+":
        // After another quantifier, a plus may only make that one possessive.
        repeats = true
      case "?": break
      case "{":
        guard let end = scalars[position...].firstIndex(of: "}"),
          scalars[(position + 1)..<end].contains(where: { ("0"..."9").contains($0) }),
          scalars[(position + 1)..<end].allSatisfy({ ("0"..."9").contains($0) || $0 == "," })
        else { throw unsupported("'{' that is no quantifier") }
        text.unicodeScalars.append(contentsOf: scalars[position..<end])
        position = end
        repeats = true
      default: return try checked(text, repeats, context)
      }
      text.unicodeScalars.append(scalars[position])
      position += 1
    }
    return try checked(text, repeats, context)
  }

  private func checked(
    _ text: String, _ repeats: Bool, _ context: Context
  ) throws(CheckpointError) -> (text: String, repeats: Bool) {
    guard !repeats || !context.isLookBehind else { throw unsupported("a repetition inside a look-behind") }
    return (text, repeats)
  }

  // MARK: Characters and classes

  private func literal(
    _ scalar: Unicode.Scalar, _ context: Context
  ) throws(CheckpointError) -> String {
    guard scalar.isASCII || !context.ignoresCase else {
      throw unsupported("more than ASCII without regard to case")
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

  /// After a set no range can begin.
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
      guard !context.ignoresCase else { throw unsupported("more than ASCII without regard to case") }
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
    guard expanded <= Self.longestTranslation else { throw unsupported("an expression of so many categories") }
    return "[\(isInverted ? "^" : "")\(members)]"
  }

  /// Reads the value of a scalar, of so many hexadecimal digits, or up to a brace.
  private mutating func value(_ digits: Int?, _ context: Context) throws(CheckpointError) -> String {
    let end = digits == nil ? scalars[position...].prefix(9).firstIndex(of: "}") : position + (digits ?? 0)
    guard let end else { throw malformed("'\\x{' without '}'") }
    let shown = String(String.UnicodeScalarView(scalars[position..<min(end, scalars.count)]))
    guard end <= scalars.count, scalars[position..<end].allSatisfy(\.properties.isASCIIHexDigit),
      let value = UInt32(shown, radix: 16), let scalar = Unicode.Scalar(value)
    else { throw malformed("'\(shown.printable)' is no scalar") }
    guard digits != 2 || scalar.isASCII else { throw unsupported("a single byte of UTF-8") }
    _ = try literal(scalar, context)
    position = digits == nil ? end + 1 : end
    return "\\x{\(String(value, radix: 16))}"
  }

  // MARK: Single scalars and errors

  private var peek: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  /// Steps over `scalar` if it is next.
  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard peek == scalar else { return false }
    position += 1
    return true
  }

  private func unsupported(_ what: String) -> CheckpointError {
    CheckpointError(.unsupported, "regular expression, character \(position): \(what) is not known here")
  }

  private func malformed(_ what: String) -> CheckpointError {
    CheckpointError(.malformed, "regular expression, character \(position): \(what)")
  }
}
