/// Lets a value describe itself into a ``JSONOutput``.
struct JSONValueEncoder: Encoder {
  let output: JSONOutput
  /// How many containers were open when the value began.
  let depth: Int

  var codingPath: [any CodingKey] { [] }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
    begin(object: true)
    return KeyedEncodingContainer(JSONObjectContainer<Key>(output: output, depth: depth + 1))
  }

  func unkeyedContainer() -> any UnkeyedEncodingContainer {
    begin(object: false)
    return JSONArrayContainer(output: output, depth: depth + 1)
  }

  func singleValueContainer() -> any SingleValueEncodingContainer { JSONScalarContainer(output: output) }

  /// Opens the value's container, unless an earlier request did.
  private func begin(object: Bool) {
    if output.depth == depth { output.open(object: object) }
  }
}

private struct JSONObjectContainer<Key: CodingKey>: KeyedEncodingContainerProtocol {
  let output: JSONOutput
  let depth: Int
  var codingPath: [any CodingKey] { [] }

  private func key(_ key: Key) { output.key(key.stringValue, at: depth) }

  func encodeNil(forKey key: Key) {
    self.key(key)
    output.null()
  }
  func encode(_ value: Bool, forKey key: Key) {
    self.key(key)
    output.bool(value)
  }
  func encode(_ value: String, forKey key: Key) {
    self.key(key)
    output.string(value)
  }
  func encode(_ value: Double, forKey key: Key) {
    self.key(key)
    output.number(value)
  }
  func encode(_ value: Float, forKey key: Key) {
    self.key(key)
    output.number(value)
  }
  func encode<T: Encodable>(_ value: T, forKey key: Key) {
    self.key(key)
    output.append(value)
  }
  func encode(_ value: Int, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: Int8, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: Int16, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: Int32, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: Int64, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: UInt, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: UInt8, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: UInt16, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: UInt32, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }
  func encode(_ value: UInt64, forKey key: Key) {
    self.key(key)
    output.integer(value)
  }

  // An absent value is written too, so that the keys of an object do not depend on its values.
  private func encode(orNull value: (some Encodable)?, _ key: Key) {
    self.key(key)
    if let value { output.append(value) } else { output.null() }
  }
  func encodeIfPresent(_ value: Bool?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: String?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: Double?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: Float?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: Int?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: Int8?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: Int16?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: Int32?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: Int64?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: UInt?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: UInt8?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: UInt16?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: UInt32?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent(_ value: UInt64?, forKey key: Key) { encode(orNull: value, key) }
  func encodeIfPresent<T: Encodable>(_ value: T?, forKey key: Key) { encode(orNull: value, key) }

  func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key)
    -> KeyedEncodingContainer<Nested>
  {
    self.key(key)
    return JSONValueEncoder(output: output, depth: depth).container(keyedBy: type)
  }
  func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
    self.key(key)
    return JSONValueEncoder(output: output, depth: depth).unkeyedContainer()
  }
  func superEncoder() -> any Encoder {
    output.key("super", at: depth)
    return JSONValueEncoder(output: output, depth: depth)
  }
  func superEncoder(forKey key: Key) -> any Encoder {
    self.key(key)
    return JSONValueEncoder(output: output, depth: depth)
  }
}

private struct JSONArrayContainer: UnkeyedEncodingContainer {
  let output: JSONOutput
  let depth: Int
  var count = 0
  var codingPath: [any CodingKey] { [] }

  init(output: JSONOutput, depth: Int) {
    self.output = output
    self.depth = depth
  }

  private mutating func scalar(_ write: (JSONOutput) -> Void) {
    count += 1
    output.element(at: depth)
    write(output)
  }

  mutating func encodeNil() { scalar { $0.null() } }
  mutating func encode(_ value: Bool) { scalar { $0.bool(value) } }
  mutating func encode(_ value: String) { scalar { $0.string(value) } }
  mutating func encode(_ value: Double) { scalar { $0.number(value) } }
  mutating func encode(_ value: Float) { scalar { $0.number(value) } }
  mutating func encode(_ value: Int) { scalar { $0.integer(value) } }
  mutating func encode(_ value: Int8) { scalar { $0.integer(value) } }
  mutating func encode(_ value: Int16) { scalar { $0.integer(value) } }
  mutating func encode(_ value: Int32) { scalar { $0.integer(value) } }
  mutating func encode(_ value: Int64) { scalar { $0.integer(value) } }
  mutating func encode(_ value: UInt) { scalar { $0.integer(value) } }
  mutating func encode(_ value: UInt8) { scalar { $0.integer(value) } }
  mutating func encode(_ value: UInt16) { scalar { $0.integer(value) } }
  mutating func encode(_ value: UInt32) { scalar { $0.integer(value) } }
  mutating func encode(_ value: UInt64) { scalar { $0.integer(value) } }
  mutating func encode<T: Encodable>(_ value: T) {
    count += 1
    output.element(at: depth)
    output.append(value)
  }
  mutating func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<
    Nested
  > {
    superEncoder().container(keyedBy: type)
  }
  mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { superEncoder().unkeyedContainer() }
  mutating func superEncoder() -> any Encoder {
    count += 1
    output.element(at: depth)
    return JSONValueEncoder(output: output, depth: depth)
  }
}

private struct JSONScalarContainer: SingleValueEncodingContainer {
  let output: JSONOutput
  var codingPath: [any CodingKey] { [] }

  func encodeNil() { output.null() }
  func encode(_ value: Bool) { output.bool(value) }
  func encode(_ value: String) { output.string(value) }
  func encode(_ value: Double) { output.number(value) }
  func encode(_ value: Float) { output.number(value) }
  func encode(_ value: Int) { output.integer(value) }
  func encode(_ value: Int8) { output.integer(value) }
  func encode(_ value: Int16) { output.integer(value) }
  func encode(_ value: Int32) { output.integer(value) }
  func encode(_ value: Int64) { output.integer(value) }
  func encode(_ value: UInt) { output.integer(value) }
  func encode(_ value: UInt8) { output.integer(value) }
  func encode(_ value: UInt16) { output.integer(value) }
  func encode(_ value: UInt32) { output.integer(value) }
  func encode(_ value: UInt64) { output.integer(value) }
  func encode<T: Encodable>(_ value: T) { output.append(value) }
}
