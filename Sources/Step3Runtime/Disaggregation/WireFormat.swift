internal import Quantization
internal import TensorFormats

/// How tokens are sent from attention to the feed-forward networks.
public enum TokenWireFormat: String, Hashable, Sendable, CaseIterable {
  /// Unchanged: the results are those of one process, except for the order of additions.
  case f32
  /// Rounded to nearest, ties to even.
  case bf16
  /// F8_E4M3 codes with one F32 scale for each 128 elements of a token (the last group may be shorter), as the Step-3
  /// report sends them (FP8 on the way out) in the grouping of DeepSeek-V3 (arXiv 2412.19437, section 3.3.2):
  /// scale = largest magnitude / 448, code = the quotient to nearest, ties to even; a group of zeros has the scale 1.
  case fp8
}

/// How partial sums are sent back.
public enum ResultWireFormat: String, Hashable, Sendable, CaseIterable {
  /// Unchanged.
  case f32
  /// Rounded to nearest, ties to even, as the Step-3 report sends them.
  case bf16
}

/// Rows of F32 as the bytes of a message.
package enum WireValues: UInt8, Sendable, CaseIterable {
  case f32 = 0
  case bf16 = 1
  case fp8 = 2

  init(_ format: TokenWireFormat) {
    switch format {
    case .f32: self = .f32
    case .bf16: self = .bf16
    case .fp8: self = .fp8
    }
  }

  init(_ format: ResultWireFormat) {
    switch format {
    case .f32: self = .f32
    case .bf16: self = .bf16
    }
  }

  /// Elements that share a scale.
  static let group = 128
  /// The largest magnitude of F8_E4M3.
  private static let largestCode: Float = 448

  private var elementType: ElementType {
    switch self {
    case .f32: .f32
    case .bf16: .bf16
    case .fp8: .f8E4M3
    }
  }

  /// The bytes of `rows` × `columns` values; `nil` on overflow.
  ///
  /// F32 scales come first, `[rows, ⌈columns / 128⌉]`, then the values or codes, `[rows, columns]`; all little-endian.
  func byteCount(rows: Int, columns: Int) -> Int? {
    let width = elementType.block.bytes
    let (values, overflow) = rows.multipliedReportingOverflow(by: columns * width)
    let scales = self == .fp8 ? 4 * Self.groups(columns) : 0
    let (scaleBytes, scaleOverflow) = rows.multipliedReportingOverflow(by: scales)
    let (sum, sumOverflow) = values.addingReportingOverflow(scaleBytes)
    return overflow || scaleOverflow || sumOverflow ? nil : sum
  }

  static func groups(_ columns: Int) -> Int { (columns + group - 1) / group }
}

// MARK: - Both ways

extension WireValues {
  /// Appends the bytes of all rows.
  ///
  /// - Throws: `.nonFinite` for a NaN that the format cannot represent.
  func append(_ values: Activations, to message: inout [UInt8]) throws(CheckpointError) {
    guard self == .fp8 else { return try append(values.values, values.columns, elementType, to: &message) }
    let scales = try Self.scales(of: values)
    try append(scales.values, scales.columns, .f32, to: &message)
    let quotients = Activations(rows: values.rows, columns: values.columns)
    for row in 0..<values.rows {
      let (source, factors) = (values[row], scales[row])
      quotients.update(row) { target in
        for index in source.indices { target[index] = source[index] / factors[index / Self.group] }
      }
    }
    try append(quotients.values, quotients.columns, .f8E4M3, to: &message)
  }

  /// Makes rows of bytes.
  ///
  /// - Precondition: There are ``byteCount(rows:columns:)`` bytes.
  func values(_ bytes: RawSpan, rows: Int, columns: Int) throws(CheckpointError) -> Activations {
    let result = Activations(rows: rows, columns: columns)
    guard result.count > 0 else { return result }
    guard self == .fp8 else {
      try Self.decode(bytes, elementType, into: result)
      return result
    }
    let scales = Activations(rows: rows, columns: Self.groups(columns))
    try Self.decode(bytes.extracting(first: scales.count * 4), .f32, into: scales)
    try Self.decode(bytes.extracting(droppingFirst: scales.count * 4), .f8E4M3, into: result)
    for row in 0..<rows {
      let factors = scales[row]
      result.update(row) { target in
        for index in target.indices { target[index] *= factors[index / Self.group] }
      }
    }
    return result
  }

  private static func scales(of values: Activations) throws(CheckpointError) -> Activations {
    let scales = Activations(rows: values.rows, columns: groups(values.columns))
    for row in 0..<values.rows {
      let source = values[row]
      try scales.update(row) { target throws(CheckpointError) in
        for index in source.indices {
          guard source[index].isFinite else {
            throw CheckpointError(
              .nonFinite,
              "element \(index) of token \(row) is \(source[index]), which FP8 tokens cannot represent")
          }
          target[index / group] = max(target[index / group], abs(source[index]))
        }
        for index in target.indices {
          let scale = target[index] / largestCode
          // Below the smallest normal number, quotients would lose precision or be infinite.
          target[index] = scale >= Float.leastNormalMagnitude ? scale : 1
        }
      }
    }
    return scales
  }

  private func append(
    _ values: Span<Float>, _ columns: Int, _ type: ElementType, to message: inout [UInt8]
  ) throws(CheckpointError) {
    guard !values.isEmpty else { return }
    let start = message.count
    message.append(contentsOf: repeatElement(0, count: values.count * type.block.bytes))
    var span = message.mutableSpan
    var all = unsafe span.mutableBytes
    var target = all._mutatingExtracting(start...)
    try Self.codec(type).encode(values, columns: columns, into: &target)
  }

  private static func decode(
    _ bytes: RawSpan, _ type: ElementType, into result: Activations
  ) throws(CheckpointError) {
    try result.updateAll { span throws(CheckpointError) in try codec(type).decode(bytes, into: &span) }
  }

  private static func codec(_ type: ElementType) throws(CheckpointError) -> BlockCodec {
    guard let codec = BlockCodec.codec(for: type) else {
      throw CheckpointError(.unsupported, "\(type) cannot be sent")
    }
    return codec
  }
}
