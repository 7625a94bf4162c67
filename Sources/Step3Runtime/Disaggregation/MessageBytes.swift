internal import TensorFormats

/// Appends the fields of a message, little-endian.
struct MessageWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append(_ value: some FixedWidthInteger) {
    var rest = value
    for _ in 0..<(value.bitWidth / 8) {
      bytes.append(UInt8(truncatingIfNeeded: rest))
      rest >>= 8
    }
  }

  mutating func append(_ value: Float) { append(value.bitPattern) }

  mutating func append(_ values: Activations, as format: WireValues) throws(CheckpointError) {
    try format.append(values, to: &bytes)
  }
}

/// Reads the fields of a message in order. The sender is not trusted: every length is checked.
struct MessageReader {
  private let bytes: [UInt8]
  private var position = 0
  /// The message's name in errors.
  private let name: String

  init(_ bytes: [UInt8], name: String) {
    self.bytes = bytes
    self.name = name
  }

  var remaining: Int { bytes.count - position }

  mutating func integer<Value: FixedWidthInteger>(_ type: Value.Type) throws(CheckpointError) -> Value {
    let width = type.bitWidth / 8
    guard remaining >= width else { throw tooShort(width) }
    var value: Value = 0
    for index in 0..<width { value |= Value(truncatingIfNeeded: bytes[position + index]) << (8 * index) }
    position += width
    return value
  }

  mutating func integers(_ count: Int) throws(CheckpointError) -> [Int32] {
    guard count <= remaining / 4 else { throw tooShort(4 * count) }
    var values: [Int32] = []
    for _ in 0..<count { values.append(Int32(bitPattern: try integer(UInt32.self))) }
    return values
  }

  mutating func floats(_ count: Int) throws(CheckpointError) -> [Float] {
    guard count <= remaining / 4 else { throw tooShort(4 * count) }
    var values: [Float] = []
    for _ in 0..<count { values.append(Float(bitPattern: try integer(UInt32.self))) }
    return values
  }

  /// Everything that is left, as rows of values.
  mutating func rest(_ format: WireValues, rows: Int, columns: Int) throws(CheckpointError) -> Activations {
    guard let expected = format.byteCount(rows: rows, columns: columns), expected == remaining else {
      throw CheckpointError(
        .malformed,
        "\(name): \(remaining) bytes are left for \(rows) rows of \(columns) elements")
    }
    let start = position
    position = bytes.count
    let span = unsafe bytes.span.bytes.extracting(droppingFirst: start)
    return try format.values(span, rows: rows, columns: columns)
  }

  private func tooShort(_ wanted: Int) -> CheckpointError {
    CheckpointError(.malformed, "\(name): \(remaining) bytes are left, but \(wanted) are needed")
  }
}
