package import GGUF
package import TensorFormats

/// Typed look-ups in GGUF metadata; writers disagree about integer widths, so any is accepted.
package struct GGUFKeys {
  let metadata: GGUFMetadata

  package init(_ metadata: GGUFMetadata) { self.metadata = metadata }

  func optionalInteger(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> Int? {
    let number: Int?
    switch metadata[key] {
    case nil: return nil
    case .uint8(let value)?: number = Int(value)
    case .int8(let value)?: number = Int(value)
    case .uint16(let value)?: number = Int(value)
    case .int16(let value)?: number = Int(value)
    case .uint32(let value)?: number = Int(value)
    case .int32(let value)?: number = Int(value)
    case .uint64(let value)?: number = Int(exactly: value)
    case .int64(let value)?: number = Int(value)
    default: number = nil
    }
    guard let number, range.contains(number) else {
      throw CheckpointError(
        .malformed,
        "\(key): expected a whole number from \(range.lowerBound) to \(range.upperBound), found \(number.map(String.init) ?? "another type")"
      )
    }
    return number
  }

  func integer(_ key: String, in range: ClosedRange<Int> = 1...1_073_741_824) throws(CheckpointError) -> Int {
    guard let number = try optionalInteger(key, in: range) else {
      throw CheckpointError(.malformed, "\(key): expected a whole number, found nothing")
    }
    return number
  }

  /// A number above zero; the shortest decimal of a `Float`, so that 1e-5 reads back as 1e-5.
  func optionalPositive(_ key: String) throws(CheckpointError) -> Double? {
    let number: Double?
    switch metadata[key] {
    case nil: return nil
    case .float32(let value)?: number = Double("\(value)")
    case .float64(let value)?: number = value
    default: number = nil
    }
    guard let number, Float(number) > 0, Float(number).isFinite else {
      throw CheckpointError(
        .malformed,
        "\(key): expected a number above 0 that fits 32 bits, found \(number.map { "\($0)" } ?? "another type")"
      )
    }
    return number
  }

  /// A truth value; false where the key is missing.
  package func flag(_ key: String) throws(CheckpointError) -> Bool {
    switch metadata[key] {
    case nil: return false
    case .bool(let value)?: return value
    default: throw CheckpointError(.malformed, "\(key): expected true or false, found another type")
    }
  }

  /// Checks a key that restates what the model fixes: it may be missing, but must not differ.
  func expect(_ key: String, _ expected: Int) throws(CheckpointError) {
    guard metadata[key] != nil else { return }
    let found = try integer(key, in: 0...Int(UInt32.max))
    guard found == expected else {
      throw CheckpointError(.unsupported, "\(key): expected \(expected), found \(found)")
    }
  }

  func positive(_ key: String) throws(CheckpointError) -> Double {
    guard let number = try optionalPositive(key) else {
      throw CheckpointError(.malformed, "\(key): expected a number above 0, found nothing")
    }
    return number
  }

  /// The keys of end tokens, in the order in which they are filled: of a text, a turn, a message.
  package static let endTokens = [
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
  ]

  /// The tokens that end a text, each once.
  package func endTokenIDs(in range: ClosedRange<Int>) throws(CheckpointError) -> [Int] {
    var ids: [Int] = []
    for key in Self.endTokens {
      if let id = try tokenID(key, in: range), !ids.contains(id) { ids.append(id) }
    }
    return ids
  }

  /// The id of a token; `nil` if the key is missing or holds -1, which means none, in any integer type.
  package func tokenID(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> Int? {
    if let number = metadata.integer(key), number < 0 || number == Int(UInt32.max) { return nil }
    return try optionalInteger(key, in: range)
  }

  /// A truth value; `nil` if the key is missing.
  package func optionalFlag(_ key: String) throws(CheckpointError) -> Bool? {
    metadata[key] == nil ? nil : try flag(key)
  }
}
