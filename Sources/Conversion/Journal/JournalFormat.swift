internal import Archives
internal import ByteStreams
internal import JSON
internal import Quantization
internal import TensorFormats

/// The bytes of a journal: a line of readable text, then frames.
///
///     frame    u32 length of the payload, u64 checksum of the payload (the first half of its XXH3-128), payload
///     payload  u8 kind, then: 1 identity (JSON), first and once; 2 records of finished units; 3 from here on weights
///              that are not numbers are let through (nothing follows); 4 from here on files may have their final names;
///              5 u32 number of a source file, 16 bytes XXH3-128 and 32 bytes SHA-256 of all of it; 6 the share is done;
///              7 the journals of all shares are in this one; 8 u32 number of an output file that has been archived, and
///              what the archive's manifest says of it (JSON)
///     record   u64 unit, 16 bytes XXH3-128 of its source bytes, u32 deliveries, then for each delivery:
///              16 bytes XXH3-128 of its output bytes, u64 and four f64 and f32: the sums of its errors; two f64: the
///              errors before and after a search for scales
///
/// Sums that no comparison of finite values gives make a record unreadable: NaN, infinity (but for the error before a
/// search: a scale may overflow that is not kept), negative sums of squares, sums that contradict each other. A unit
/// whose sums cover a different number of elements is converted again.
///
/// Numbers are little-endian. Frames are appended, so a crash can only tear the last one: reading ends before the
/// first frame that is cut short or does not match its checksum.
package enum JournalFormat {
  package static let title = Array(
    "step3-convert journal 4: this directory is unfinished; the same command with --resume goes on.\n".utf8)
  static let frameHeaderBytes = 12
  /// The largest frame that is written or read.
  static let largestPayload = 1 << 27

  package enum Kind: UInt8, CaseIterable {
    case identity = 1
    case units = 2
    case nonFinite = 3
    case finishing = 4
    case source = 5
    case shareDone = 6
    case merged = 7
    case archived = 8
  }

  package static func frame(_ kind: Kind, _ body: [UInt8] = []) -> [UInt8] {
    let payload = [kind.rawValue] + body
    var frame: [UInt8] = []
    frame.reserveCapacity(frameHeaderBytes + payload.count)
    frame.append(littleEndian: UInt32(payload.count))
    frame.append(littleEndian: checksum(payload[...]))
    frame.append(contentsOf: payload)
    return frame
  }

  static func checksum(_ payload: ArraySlice<UInt8>) -> UInt64 {
    Digest.xxh3(of: Array(payload)).bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// The frame with the digests of a source file that has been read completely.
  static func frame(ofSource file: Int, _ digests: FileDigests) -> [UInt8] {
    var body: [UInt8] = []
    body.append(littleEndian: UInt32(file))
    return frame(.source, body + digests.xxh3.bytes + digests.sha256.bytes)
  }

  /// The frame that records that an output file has been archived and synced.
  static func frame(ofArchived file: Int, _ description: ArchiveManifest.File) -> [UInt8] {
    var body: [UInt8] = []
    body.append(littleEndian: UInt32(file))
    return frame(.archived, body + Array(JSONText.compact(description).utf8))
  }

  static func append(_ record: UnitRecord, of unit: Int, to bytes: inout [UInt8]) {
    bytes.append(littleEndian: UInt64(unit))
    bytes.append(contentsOf: record.source.bytes)
    bytes.append(littleEndian: UInt32(record.deliveries.count))
    for delivery in record.deliveries {
      bytes.append(contentsOf: delivery.xxh3.bytes)
      let (sums, search) = (delivery.errors.sums, delivery.errors.search)
      bytes.append(littleEndian: UInt64(sums.count))
      for value in [sums.squaredErrors, sums.originalSquares, sums.restoredSquares, sums.products] {
        bytes.append(littleEndian: value.bitPattern)
      }
      bytes.append(littleEndian: sums.maximumAbsoluteError.bitPattern)
      for value in [search.before, search.after] { bytes.append(littleEndian: value.bitPattern) }
    }
  }
}

/// The outcome of a finished unit.
struct UnitRecord: Equatable, Sendable {
  /// XXH3-128 of the bytes that were read.
  let source: Digest
  /// In the order of the unit's deliveries.
  let deliveries: [Delivery]

  struct Delivery: Equatable, Sendable {
    /// XXH3-128 of the bytes that were written.
    let xxh3: Digest
    let errors: RecodingErrors
  }
}

extension [UInt8] {
  fileprivate mutating func append(littleEndian value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}

// MARK: - Reading

/// Reads numbers and digests from untrusted bytes; `nil` at the end.
struct JournalCursor {
  let bytes: [UInt8]
  private(set) var position: Int
  let end: Int

  /// - Precondition: `range` lies within `bytes`.
  init(_ bytes: [UInt8], _ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
    self.bytes = bytes
    position = range.lowerBound
    end = range.upperBound
  }

  var isAtEnd: Bool { position == end }

  mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
    guard count <= end - position else { return nil }
    defer { position += count }
    return bytes[position..<position + count]
  }

  mutating func integer<Value: FixedWidthInteger>(_ type: Value.Type) -> Value? {
    take(Value.bitWidth / 8)?.reversed().reduce(0) { $0 << 8 | Value($1) }
  }

  mutating func digest(bytes: Int = 16) -> Digest? { take(bytes).map { Digest(bytes: Array($0)) } }

  /// The next record, and its unit.
  mutating func record() -> (unit: Int, record: UnitRecord)? {
    guard let number = integer(UInt64.self), let unit = Int(exactly: number), let source = digest(),
      let count = integer(UInt32.self)
    else { return nil }
    var deliveries: [UnitRecord.Delivery] = []
    for _ in 0..<count {
      guard let xxh3 = digest(), let errors = errors() else { return nil }
      deliveries.append(UnitRecord.Delivery(xxh3: xxh3, errors: errors))
    }
    return (unit, UnitRecord(source: source, deliveries: deliveries))
  }

  private mutating func errors() -> RecodingErrors? {
    guard let sums = errorSums(), let before = double(), let after = double(), before >= after,
      after >= 0, after.isFinite
    else { return nil }
    var search = SearchErrors()
    search.before = before
    search.after = after
    return RecodingErrors(sums, search: search)
  }

  private mutating func errorSums() -> ErrorSums? {
    guard let count = integer(UInt64.self).flatMap(Int.init(exactly:)), let first = double(),
      let second = double(),
      let third = double(), let fourth = double(), let largest = integer(UInt32.self)
    else { return nil }
    var sums = ErrorSums()
    sums.count = count
    sums.squaredErrors = first
    sums.originalSquares = second
    sums.restoredSquares = third
    sums.products = fourth
    sums.maximumAbsoluteError = Float(bitPattern: largest)
    return sums.isPlausible ? sums : nil
  }

  private mutating func double() -> Double? { integer(UInt64.self).map(Double.init(bitPattern:)) }
}

extension ErrorSums {
  /// Whether a comparison of finite values could have produced them.
  fileprivate var isPlausible: Bool {
    let squares = [squaredErrors, originalSquares, restoredSquares]
    guard squares.allSatisfy({ $0 >= 0 && $0.isFinite }), products.isFinite, maximumAbsoluteError >= 0,
      maximumAbsoluteError.isFinite
    else { return false }
    // Allow a millionth for the rounding of the sums.
    let slack = 1.000_001
    let largest = Double(maximumAbsoluteError) * Double(maximumAbsoluteError)
    // And (x - y)² is x² - 2xy + y², which leaves no freedom for an invented sum; if values nearly agree, the
    // remaining difference is the sums' own rounding.
    let expanded = originalSquares - 2 * products + restoredSquares
    return squaredErrors <= Double(count) * largest * slack && largest <= squaredErrors * slack
      && (expanded - squaredErrors).magnitude <= 1e-8 * (originalSquares + restoredSquares) + 1e-4
        * squaredErrors
      && products.magnitude <= originalSquares.squareRoot() * restoredSquares.squareRoot() * slack
  }
}
