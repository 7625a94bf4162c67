internal import TensorFormats

extension GGUFCursor {
  /// Reads the type and the value of the metadata entry `key`.
  mutating func readValue(of key: String) throws(CheckpointError) -> GGUFValue {
    switch try readType(of: key) {
    case .uint8: return .uint8(try read(UInt8.self, valueName(key)))
    case .int8: return .int8(try read(Int8.self, valueName(key)))
    case .uint16: return .uint16(try read(UInt16.self, valueName(key)))
    case .int16: return .int16(try read(Int16.self, valueName(key)))
    case .uint32: return .uint32(try read(UInt32.self, valueName(key)))
    case .int32: return .int32(try read(Int32.self, valueName(key)))
    case .uint64: return .uint64(try read(UInt64.self, valueName(key)))
    case .int64: return .int64(try read(Int64.self, valueName(key)))
    case .float32: return .float32(Float(bitPattern: try read(UInt32.self, valueName(key))))
    case .float64: return .float64(Double(bitPattern: try read(UInt64.self, valueName(key))))
    case .bool:
      let offset = position
      return .bool(try truth(try read(UInt8.self, valueName(key)), at: offset, of: key))
    case .string: return .string(try readString(valueName(key)))
    case .array: return .array(try readArrayValue(of: key))
    }
  }

  private mutating func readArrayValue(of key: String) throws(CheckpointError) -> GGUFArray {
    let typeOffset = position
    let type = try readType(of: key)
    guard type != .array else {
      throw CheckpointError(
        .unsupported, "\(valueName(key)) is an array of arrays, which no reader of the format accepts",
        offset: typeOffset)
    }
    let countOffset = position
    let claimed = try read(UInt64.self, "the count of \(valueName(key))")
    guard claimed <= GGUFRules.maximumArrayCount else {
      throw CheckpointError(
        .malformed,
        "\(valueName(key)) claims \(claimed) elements, at most \(GGUFRules.maximumArrayCount) are allowed",
        offset: countOffset)
    }
    let count = Int(claimed)
    try announce(count, each: type.minimumByteCount, valueName(key))
    switch type {
    case .uint8: return .uint8(try readArray(UInt8.self, count: count, valueName(key)))
    case .int8: return .int8(try readArray(Int8.self, count: count, valueName(key)))
    case .uint16: return .uint16(try readArray(UInt16.self, count: count, valueName(key)))
    case .int16: return .int16(try readArray(Int16.self, count: count, valueName(key)))
    case .uint32: return .uint32(try readArray(UInt32.self, count: count, valueName(key)))
    case .int32: return .int32(try readArray(Int32.self, count: count, valueName(key)))
    case .uint64: return .uint64(try readArray(UInt64.self, count: count, valueName(key)))
    case .int64: return .int64(try readArray(Int64.self, count: count, valueName(key)))
    case .float32:
      return .float32(try readArray(UInt32.self, count: count, valueName(key)).map { Float(bitPattern: $0) })
    case .float64:
      return .float64(try readArray(UInt64.self, count: count, valueName(key)).map { Double(bitPattern: $0) })
    case .bool: return .bool(try readTruths(of: key, count: count))
    case .string, .array: return .string(try readStrings(of: key, count: count))
    }
  }

  private mutating func readTruths(of key: String, count: Int) throws(CheckpointError) -> [Bool] {
    let start = position
    var truths: [Bool] = []
    for byte in try readArray(UInt8.self, count: count, valueName(key)) {
      truths.append(try truth(byte, at: start + truths.count, of: key))
    }
    return truths
  }

  private mutating func readStrings(of key: String, count: Int) throws(CheckpointError) -> [String] {
    var strings: [String] = []
    // The count is only a claim, so the array grows with what is really there.
    strings.reserveCapacity(min(count, 262_144))
    for index in 0..<count { strings.append(try readString("element \(index) of \(valueName(key))")) }
    return strings
  }

  private mutating func readType(of key: String) throws(CheckpointError) -> GGUFValueType {
    let offset = position
    let id = try read(UInt32.self, "the type of \(valueName(key))")
    guard let type = GGUFValueType(rawValue: id) else {
      throw CheckpointError(.malformed, "\(valueName(key)) has the unknown value type \(id)", offset: offset)
    }
    return type
  }

  private func truth(_ byte: UInt8, at offset: Int, of key: String) throws(CheckpointError) -> Bool {
    guard byte <= 1 else {
      throw CheckpointError(
        .malformed, "\(valueName(key)) has a truth value of \(byte), it must be 0 or 1", offset: offset)
    }
    return byte == 1
  }
}

/// The value of a key, for messages.
private func valueName(_ key: String) -> String { "the value of '\(key.printable)'" }

/// Appends numbers and strings in the byte order of a file.
struct GGUFEncoder {
  let byteOrder: GGUFByteOrder
  private(set) var bytes: [UInt8] = []

  init(byteOrder: GGUFByteOrder) { self.byteOrder = byteOrder }

  mutating func append(raw more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

  mutating func append(_ value: some FixedWidthInteger & BitwiseCopyable) {
    let ordered =
      switch byteOrder {
      case .little: value.littleEndian
      case .big: value.bigEndian
      }
    unsafe withUnsafeBytes(of: ordered) { unsafe bytes.append(contentsOf: $0) }
  }

  mutating func append(_ text: String) {
    append(UInt64(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  /// Appends a value with its type.
  mutating func append(_ value: GGUFValue) {
    append(value.type.rawValue)
    switch value {
    case .uint8(let number): append(number)
    case .int8(let number): append(number)
    case .uint16(let number): append(number)
    case .int16(let number): append(number)
    case .uint32(let number): append(number)
    case .int32(let number): append(number)
    case .uint64(let number): append(number)
    case .int64(let number): append(number)
    case .float32(let number): append(number.bitPattern)
    case .float64(let number): append(number.bitPattern)
    case .bool(let truth): append(truth ? 1 : 0 as UInt8)
    case .string(let text): append(text)
    case .array(let array): append(array)
    }
  }

  private mutating func append(_ array: GGUFArray) {
    append(array.elementType.rawValue)
    append(UInt64(array.count))
    switch array {
    case .uint8(let numbers): for number in numbers { append(number) }
    case .int8(let numbers): for number in numbers { append(number) }
    case .uint16(let numbers): for number in numbers { append(number) }
    case .int16(let numbers): for number in numbers { append(number) }
    case .uint32(let numbers): for number in numbers { append(number) }
    case .int32(let numbers): for number in numbers { append(number) }
    case .uint64(let numbers): for number in numbers { append(number) }
    case .int64(let numbers): for number in numbers { append(number) }
    case .float32(let numbers): for number in numbers { append(number.bitPattern) }
    case .float64(let numbers): for number in numbers { append(number.bitPattern) }
    case .bool(let truths): for truth in truths { append(truth ? 1 : 0 as UInt8) }
    case .string(let texts): for text in texts { append(text) }
    }
  }

  /// Appends zeros up to the next multiple of `alignment`, a power of two.
  mutating func pad(to alignment: Int) {
    let rest = bytes.count & (alignment - 1)
    if rest > 0 { bytes.append(contentsOf: repeatElement(0, count: alignment - rest)) }
  }
}
