package import TensorFormats

// MARK: - Values whose kind is not known beforehand

extension JSONScanner {
  /// What a value is, by its first character.
  package enum Kind: Hashable, Sendable {
    case object, array, string, number, bool, null
  }

  /// The kind of the value that is next, which stays unread.
  ///
  /// - Throws: `.malformed` if no value can begin there.
  package mutating func nextKind() throws(CheckpointError) -> Kind {
    skipWhitespace()
    guard position < bytes.count else { throw unexpected("a value") }
    switch bytes[position] {
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "N") where dialect == .python: return .number
    case UInt8(ascii: "I") where dialect == .python: return .number
    default: throw unexpected("a value")
    }
  }

  /// Reads `true` or `false`.
  package mutating func scanBool(_ what: String) throws(CheckpointError) -> Bool {
    guard try nextKind() == .bool else { throw unexpected("\(what): true or false") }
    let isTrue = bytes[position] == UInt8(ascii: "t")
    if isTrue { try skipLiteral("true") } else { try skipLiteral("false") }
    return isTrue
  }

  /// Reads a number as it is written.
  package mutating func scanNumberText(_ what: String) throws(CheckpointError) -> String {
    let range = try scanNumber(what)
    return unsafe bytes.extracting(range).withUnsafeBufferPointer {
      unsafe String(decoding: $0, as: UTF8.self)
    }
  }
}
