package import TensorFormats

/// Limits on a document, for readers that go on to decode it whole.
package struct JSONDocumentLimits: Sendable {
  /// The most keys of one object.
  package var keys: Int
  /// The most values and keys of the whole document: decoders keep a record of each, so this bounds their memory.
  package var values: Int

  /// Sets limits.
  package init(keys: Int, values: Int) {
    self.keys = keys
    self.values = values
  }
}

extension JSONScanner {
  /// Checks that the rest of the text is one JSON value in which no object has a key twice: readers differ in which
  /// of the two they use.
  ///
  /// - Throws: `.malformed` with the byte of the second key, or of what breaks the syntax or a limit.
  /// - Complexity: O(*n*) for objects of a few dozen keys; memory for the keys of the objects that are open.
  package mutating func checkDocument(_ limits: JSONDocumentLimits) throws(CheckpointError) {
    var check = DuplicateKeys(limits: limits)
    try checkValue(&check)
    try finish()
  }

  private mutating func checkValue(_ check: inout DuplicateKeys) throws(CheckpointError) {
    try count(&check)
    switch try nextKind() {
    case .object:
      var members = try openObject("a value")
      let first = check.keys.count
      while try advance(&members, closing: UInt8(ascii: "}"), "an object") {
        try count(&check)
        let (content, hasEscapes) = try scanStringContent("a key")
        try note(DuplicateKeys.Key(content: content, hasEscapes: hasEscapes), since: first, &check)
        try expect(UInt8(ascii: ":"), "':' after a key")
        try checkValue(&check)
      }
      check.keys.removeLast(check.keys.count - first)
    case .array:
      var members = try openArray("a value")
      while try nextElement(&members) { try checkValue(&check) }
    case .string, .number, .bool, .null: try skipValue()
    }
  }

  private func count(_ check: inout DuplicateKeys) throws(CheckpointError) {
    check.values += 1
    guard check.values <= check.limits.values else {
      throw error("there are more than \(check.limits.values) values", at: position)
    }
  }

  /// Compares a key with those of the same object before it.
  private func note(
    _ key: DuplicateKeys.Key, since first: Int, _ check: inout DuplicateKeys
  ) throws(CheckpointError) {
    guard check.keys.count - first < check.limits.keys else {
      throw error("an object has more than \(check.limits.keys) keys", at: key.content.lowerBound)
    }
    for other in check.keys[first...] where isSame(key, other) {
      let text = Self.unescape(bytes.extracting(key.content))
      throw error("the key '\(text.printable)' appears twice", at: key.content.lowerBound)
    }
    check.keys.append(key)
  }

  private func isSame(_ a: DuplicateKeys.Key, _ b: DuplicateKeys.Key) -> Bool {
    if a.hasEscapes || b.hasEscapes {
      // Byte by byte: Swift's own comparison takes different spellings of an accent for one.
      return Self.unescape(bytes.extracting(a.content)).utf8
        .elementsEqual(Self.unescape(bytes.extracting(b.content)).utf8)
    }
    guard a.content.count == b.content.count else { return false }
    for index in 0..<a.content.count
    where bytes[a.content.lowerBound + index] != bytes[b.content.lowerBound + index] {
      return false
    }
    return true
  }
}

/// The keys of the objects that are open, outermost first.
private struct DuplicateKeys {
  struct Key {
    let content: Range<Int>
    let hasEscapes: Bool
  }

  let limits: JSONDocumentLimits
  var keys: [Key] = []
  var values = 0
}
