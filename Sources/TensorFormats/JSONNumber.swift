/// A JSON number as it is spelled in its document: `1e-05` stays `1e-05`, and no digit is lost.
public struct JSONNumber: Hashable, Sendable {
  /// The spelling, which follows JSON's grammar.
  public let text: String

  /// - Precondition: `text` is a JSON number.
  public init(_ text: String) { self.text = text }
}

extension JSONNumber: Encodable {
  /// Encodes the value for encoders that know nothing of spellings; those that do take ``text``.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let value = Int(text) {
      try container.encode(value)
    } else {
      try container.encode(Double(text) ?? .nan)
    }
  }
}
