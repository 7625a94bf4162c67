/// A regular expression of Python's, as far as lists of module names use them, matched as `re.match` does: from the
/// start of the name, but not to its end.
///
/// Back references, look-behind and flags are not understood; nor is anything but ASCII.
package struct NamePattern {
  private let program: PatternProgram

  /// The characters of `\w`.
  static let word = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_".utf8)
  private static let digits = Set("0123456789".utf8)
  private static let space = Set(" \t\n\r\u{B}\u{C}".utf8)
  private static let all = Set(UInt8.min...UInt8.max)
  private static let longest = 2_000
  private static let mostRepetitions = 200

  /// How much work a name can be, in visits per character.
  var cost: Int { program.cost }

  /// `nil` for a pattern that is malformed, too long or not understood.
  package init?(_ pattern: String) {
    var parser = Parser(text: Array(pattern.utf8))
    guard parser.text.count <= Self.longest, let node = parser.choice(depth: 0),
      parser.position == parser.text.count, let program = PatternProgram(node)
    else { return nil }
    self.program = program
  }

  /// A shell pattern (`fnmatch`): `*`, `?` and `[...]`, matched against the whole name.
  package init?(wildcard: String) {
    var pattern = ""
    var inClass = false
    for character in wildcard {
      switch character {
      case "*" where !inClass: pattern += ".*"
      case "?" where !inClass: pattern += "."
      case "[" where !inClass:
        inClass = true
        pattern += "["
      case "!" where inClass && pattern.last == "[": pattern += "^"
      case "]" where inClass && pattern.last != "[":
        inClass = false
        pattern += "]"
      default:
        let isPlain = character.isASCII && (character.isLetter || character.isNumber || character == "_")
        pattern += isPlain || (inClass && character == "-") ? String(character) : "\\\(character)"
      }
    }
    self.init(pattern + "$")
  }

  /// Whether the name, from its start on, matches.
  ///
  /// - Complexity: O(*m* *n*) for a pattern of *m* and a name of *n* characters.
  package func matchesStart(of name: String) -> Bool { program.matches(Array(name.utf8)) }

  private struct Parser {
    let text: [UInt8]
    var position = 0
    /// Whether this is inside a look ahead, in which no other is taken: each would multiply the work.
    private var isLooking = false

    init(text: [UInt8]) { self.text = text }

    private var next: UInt8? { position < text.count ? text[position] : nil }

    private mutating func take(_ character: Character) -> Bool {
      guard next == character.asciiValue else { return false }
      position += 1
      return true
    }

    private mutating func take(_ word: String) -> Bool {
      guard text[position...].starts(with: word.utf8) else { return false }
      position += word.utf8.count
      return true
    }

    mutating func choice(depth: Int) -> PatternProgram.Node? {
      guard depth < 50 else { return nil }
      var options: [PatternProgram.Node] = []
      repeat {
        var items: [PatternProgram.Node] = []
        while let byte = next, byte != UInt8(ascii: "|"), byte != UInt8(ascii: ")") {
          guard let item = repeated(depth: depth) else { return nil }
          items.append(item)
        }
        options.append(.sequence(items))
      } while take("|" as Character)
      return .choice(options)
    }

    private mutating func repeated(depth: Int) -> PatternProgram.Node? {
      guard var node = atom(depth: depth) else { return nil }
      while let byte = next {
        switch byte {
        case UInt8(ascii: "*"): node = .loop(node, minimum: 0, maximum: nil)
        case UInt8(ascii: "+"): node = .loop(node, minimum: 1, maximum: nil)
        case UInt8(ascii: "?"): node = .loop(node, minimum: 0, maximum: 1)
        case UInt8(ascii: "{"):
          guard let (minimum, maximum) = bounds() else { return nil }
          node = .loop(node, minimum: minimum, maximum: maximum)
          position -= 1
        default: return node
        }
        position += 1
        // A lazy quantifier finds another match, but never decides whether there is one.
        _ = take("?" as Character)
      }
      return node
    }

    /// Reads `{m}`, `{m,}`, `{,n}` or `{m,n}`.
    private mutating func bounds() -> (Int, Int?)? {
      guard let close = text[position...].firstIndex(of: UInt8(ascii: "}")) else { return nil }
      let parts = String(decoding: text[(position + 1)..<close], as: UTF8.self)
        .split(separator: ",", omittingEmptySubsequences: false)
      position = close + 1
      guard let first = parts.first, let minimum = first.isEmpty ? 0 : Int(first) else { return nil }
      guard (0...NamePattern.mostRepetitions).contains(minimum) else { return nil }
      if parts.count == 1 { return first.isEmpty ? nil : (minimum, minimum) }
      guard parts.count == 2 else { return nil }
      if parts[1].isEmpty { return (minimum, nil) }
      guard let maximum = Int(parts[1]), (minimum...NamePattern.mostRepetitions).contains(maximum) else {
        return nil
      }
      return (minimum, maximum)
    }

    private mutating func atom(depth: Int) -> PatternProgram.Node? {
      guard let byte = next else { return nil }
      position += 1
      switch byte {
      case UInt8(ascii: "."): return .bytes(NamePattern.all.subtracting([UInt8(ascii: "\n")]))
      case UInt8(ascii: "^"): return .start
      case UInt8(ascii: "$"): return .end
      case UInt8(ascii: "\\"): return escape()
      case UInt8(ascii: "["): return characterClass()
      case UInt8(ascii: "("): return group(depth: depth)
      case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"), UInt8(ascii: "{"): return nil
      default: return byte < 0x80 ? .bytes([byte]) : nil
      }
    }

    private mutating func group(depth: Int) -> PatternProgram.Node? {
      var look: Bool?
      if take("?=") {
        look = false
      } else if take("?!") {
        look = true
      } else if !take("?:"), next == UInt8(ascii: "?") {
        return nil
      }
      if look != nil {
        guard !isLooking else { return nil }
        isLooking = true
      }
      defer { if look != nil { isLooking = false } }
      guard let inner = choice(depth: depth + 1), take(")" as Character) else { return nil }
      return look.map { .look(inner, isNegative: $0) } ?? inner
    }

    private mutating func escape() -> PatternProgram.Node? {
      guard let byte = next else { return nil }
      switch byte {
      case UInt8(ascii: "b"), UInt8(ascii: "B"):
        position += 1
        return .wordBoundary(byte == UInt8(ascii: "b"))
      case UInt8(ascii: "A"):
        position += 1
        return .start
      case UInt8(ascii: "Z"):
        position += 1
        return .end
      default: return escapedSet().map { .bytes($0) }
      }
    }

    private mutating func escapedSet() -> Set<UInt8>? {
      guard let byte = next else { return nil }
      position += 1
      switch byte {
      case UInt8(ascii: "d"): return NamePattern.digits
      case UInt8(ascii: "D"): return NamePattern.all.subtracting(NamePattern.digits)
      case UInt8(ascii: "w"): return NamePattern.word
      case UInt8(ascii: "W"): return NamePattern.all.subtracting(NamePattern.word)
      case UInt8(ascii: "s"): return NamePattern.space
      case UInt8(ascii: "S"): return NamePattern.all.subtracting(NamePattern.space)
      default:
        // Any other letter or digit means something that module names do not have.
        return byte < 0x80 && !NamePattern.word.subtracting([UInt8(ascii: "_")]).contains(byte) ? [byte] : nil
      }
    }

    private mutating func characterClass() -> PatternProgram.Node? {
      let isNegative = take("^" as Character)
      var set: Set<UInt8> = []
      var isFirst = true
      while let byte = next {
        if byte == UInt8(ascii: "]"), !isFirst {
          position += 1
          return .bytes(isNegative ? NamePattern.all.subtracting(set) : set)
        }
        isFirst = false
        position += 1
        var low = byte
        if byte == UInt8(ascii: "\\") {
          guard let escaped = escapedSet() else { return nil }
          guard escaped.count == 1, let only = escaped.first else {
            set.formUnion(escaped)
            continue
          }
          low = only
        }
        guard next == UInt8(ascii: "-"), position + 1 < text.count,
          text[position + 1] != UInt8(ascii: "]")
        else {
          set.insert(low)
          continue
        }
        let high = text[position + 1]
        guard high != UInt8(ascii: "\\"), low <= high else { return nil }
        position += 2
        set.formUnion(low...high)
      }
      return nil
    }
  }
}
