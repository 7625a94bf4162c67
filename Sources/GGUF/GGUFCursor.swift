internal import ByteStreams
internal import TensorFormats

/// Reads a header front to back through a window that moves along the source.
///
/// The window holds what the next values need and some read-ahead, which grows with the header, so that a small
/// header costs one small read, and a header with a large vocabulary few reads. A length is compared with the bytes
/// that the source really has before anything is allocated for it.
struct GGUFCursor: ~Copyable {
  /// The order of the bytes in the numbers to come.
  var byteOrder: GGUFByteOrder = .little
  /// Bytes from the start of the source.
  private(set) var position = 0

  private let source: any ByteSource
  private let byteCount: Int
  private var window: [UInt8] = []
  private var windowStart = 0
  private var readAhead = 64 << 10
  private static let largestReadAhead = 4 << 20

  init(_ source: any ByteSource) {
    self.source = source
    byteCount = source.byteCount
  }

  /// The bytes from here to the end of the source.
  var remaining: Int { byteCount - position }

  /// Makes sure that the next `count` bytes are in the window.
  ///
  /// - Parameter what: What they are, for the message.
  /// - Throws: `.truncated` if the source ends first, `.unsupported` if the header outgrows our limit.
  mutating func require(_ count: Int, _ what: @autoclosure () -> String) throws(CheckpointError) {
    if count <= windowStart + window.count - position { return }
    try announce(count, each: 1, what())
    guard count <= GGUFRules.maximumHeaderByteCount - position else {
      throw CheckpointError(
        .unsupported,
        "\(what()) ends beyond byte \(GGUFRules.maximumHeaderByteCount), the largest header this toolkit reads",
        offset: position)
    }
    window = try source.readBytes(position..<(position + min(remaining, max(count, readAhead))))
    windowStart = position
    readAhead = min(readAhead * 2, GGUFCursor.largestReadAhead)
  }

  /// Checks a count from the file against the bytes that are left, before anything is allocated for it.
  ///
  /// - Parameters:
  ///   - count: How many items the file claims; not negative.
  ///   - size: The fewest bytes that one item takes.
  ///   - what: What is claimed, for the message.
  func announce(_ count: Int, each size: Int, _ what: @autoclosure () -> String) throws(CheckpointError) {
    guard count > remaining / size else { return }
    let (product, overflow) = count.multipliedReportingOverflow(by: size)
    let needed = overflow ? "more than \(Int.max)" : "\(size == 1 ? "" : "at least ")\(product)"
    throw CheckpointError(
      .truncated, "\(what()) needs \(needed) bytes, but only \(remaining) are left", offset: position,
      remedy: "the file is damaged or its download is incomplete")
  }

  /// The next integer.
  mutating func read<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, _ what: @autoclosure () -> String
  ) throws(CheckpointError) -> T {
    try require(MemoryLayout<T>.size, what())
    defer { position += MemoryLayout<T>.size }
    return load(T.self, at: position)
  }

  /// The next `count` integers. The result grows with what has really been read.
  mutating func readArray<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, count: Int, _ what: @autoclosure () -> String
  ) throws(CheckpointError) -> [T] {
    try announce(count, each: MemoryLayout<T>.size, what())
    var values: [T] = []
    while values.count < count {
      let part = min(count - values.count, GGUFCursor.largestReadAhead / MemoryLayout<T>.size)
      try require(part * MemoryLayout<T>.size, what())
      for index in 0..<part { values.append(load(T.self, at: position + index * MemoryLayout<T>.size)) }
      position += part * MemoryLayout<T>.size
    }
    return values
  }

  /// The next string: its length as u64, then that many bytes of UTF-8.
  mutating func readString(_ what: @autoclosure () -> String) throws(CheckpointError) -> String {
    let start = position
    let length = try read(UInt64.self, "the length of \(what())")
    guard length <= GGUFRules.maximumStringByteCount else {
      throw CheckpointError(
        .malformed,
        "\(what()) claims \(length) bytes, at most \(GGUFRules.maximumStringByteCount) are allowed",
        offset: start)
    }
    try require(Int(length), what())
    let first = position - windowStart
    guard let text = String(validating: window[first..<(first + Int(length))], as: UTF8.self) else {
      throw CheckpointError(.malformed, "\(what()) is not valid UTF-8", offset: position)
    }
    position += Int(length)
    return text
  }

  /// The integer at a position that is known to be in the window.
  private func load<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type, at offset: Int) -> T {
    // Unsafe only by name: an offset outside the window traps, and every bit pattern is an integer.
    let raw = unsafe window.span.bytes.unsafeLoadUnaligned(fromByteOffset: offset - windowStart, as: T.self)
    return switch byteOrder {
    case .little: T(littleEndian: raw)
    case .big: T(bigEndian: raw)
    }
  }
}
