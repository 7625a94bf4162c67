package import TensorFormats

// MARK: - Values of a kind that is not known beforehand

extension JSONScanner {
  /// The kinds of JSON values.
  package enum Kind {
    case object, array, string, number, bool, null
  }

  /// The kind of the next value, by its first byte, without reading it.
  package mutating func nextKind() throws(CheckpointError) -> Kind {
    skipWhitespace()
    guard position < bytes.count else { throw unexpected("a value") }
    switch bytes[position] {
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
    default: throw unexpected("a value")
    }
  }

  /// Reads `true` or `false`.
  ///
  /// - Precondition: ``nextKind()`` was `.bool`.
  package mutating func scanBool() throws(CheckpointError) -> Bool {
    let value = bytes[position] == UInt8(ascii: "t")
    try skipValue()
    return value
  }

  /// Reads a number and returns it as it is spelled.
  package mutating func scanNumberText(_ what: String) throws(CheckpointError) -> String {
    let range = try scanNumber(what)
    return unsafe bytes.extracting(range).withUnsafeBufferPointer {
      unsafe String(decoding: $0, as: UTF8.self)
    }
  }
}
