/// A JSON number as it is spelled in its document: `1e-05` stays `1e-05`, and no digit is lost.
///
/// Two are equal if they have the same spelling, or the same value to readers: whole numbers by their value, all others
/// as a `Double`. `1` and `1.0` differ, as an integer and a float do in Python.
public struct JSONNumber: Sendable {
  /// The spelling: by JSON's grammar, or `NaN`, `Infinity` or `-Infinity`, which Python writes and JSON does not have.
  public let text: String

  /// - Precondition: `text` is such a spelling.
  public init(_ text: String) { self.text = text }

  /// A floating-point number in the fewest digits that distinguish it from its neighbours.
  public init(_ value: some BinaryFloatingPoint & LosslessStringConvertible) {
    text = value.isFinite ? value.description : value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity"
  }

  /// Its value as a whole number; `nil` for one with a fraction or an exponent, and for one beyond 64 bits.
  public var integer: Int? { Int(text) }

  /// Its value, rounded to the nearest `Double`.
  public var double: Double { Double(text) ?? .nan }

  /// Whether JSON has a spelling for it.
  public var isFinite: Bool { double.isFinite }
}

extension JSONNumber: Hashable {
  private enum Key: Hashable {
    case whole(Int)
    case float(Double)
    case constant(String)
  }

  private var key: Key {
    if let integer { return .whole(integer) }
    return isFinite ? .float(double) : .constant(text)
  }

  public static func == (left: JSONNumber, right: JSONNumber) -> Bool { left.key == right.key }

  public func hash(into hasher: inout Hasher) { hasher.combine(key) }
}

extension JSONNumber: Encodable {
  /// Encodes the value for encoders that know nothing of spellings; those that do take ``text``.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let integer {
      try container.encode(integer)
    } else {
      try container.encode(double)
    }
  }
}
