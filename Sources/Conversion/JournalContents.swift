internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// What an earlier run left in its journal.
struct JournalContents: Sendable {
  /// The identity as JSON; `nil` if the journal was only put there to mark the directory.
  private(set) var identity: [UInt8]?
  /// Whether weights that are no numbers were let through at some point.
  private(set) var letsNonFiniteThrough = false
  /// The finished units.
  private(set) var units = FinishedUnits()
  /// Everything from here on is torn.
  private(set) var intactByteCount: Int

  /// Reads a journal.
  ///
  /// - Throws: `.malformed` if this is no journal, or one whose intact frames make no sense; `.notFound`,
  ///   `.inputOutput` if it cannot be read.
  init(path: String) throws(CheckpointError) {
    let file = try InputFile(path)
    guard file.byteCount <= OutputMarkers.largestTextFile else {
      throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for a journal", path: path)
    }
    try self.init(file.readBytes(0..<file.byteCount), path: path)
  }

  init(_ bytes: [UInt8], path: String) throws(CheckpointError) {
    func malformed(_ message: String, at offset: Int) -> CheckpointError {
      CheckpointError(
        .malformed, message, path: path, offset: offset, remedy: "start afresh with --overwrite")
    }
    let title = JournalFormat.title
    guard bytes.starts(with: title) else { throw malformed("is no journal of step3-convert", at: 0) }
    intactByteCount = title.count
    while let payload = Self.payload(at: intactByteCount, of: bytes) {
      let body = payload.lowerBound + 1..<payload.upperBound
      let kind = JournalFormat.Kind(rawValue: bytes[payload.lowerBound])
      switch (kind, identity) {
      case (.identity, nil): identity = Array(bytes[body])
      case (.units, .some):
        guard units.add(bytes, body) else {
          throw malformed("the records are not what the format says", at: payload.lowerBound)
        }
      case (.nonFinite, .some) where body.isEmpty: letsNonFiniteThrough = true
      default:
        throw malformed(
          "a frame of kind \(bytes[payload.lowerBound]) does not belong here", at: payload.lowerBound)
      }
      intactByteCount = payload.upperBound
    }
    guard identity != nil || bytes.count == title.count else {
      throw malformed("the journal is damaged where it says what is converted", at: title.count)
    }
  }

  /// Where the payload of the frame at `start` is; `nil` if there is no intact one.
  private static func payload(at start: Int, of bytes: [UInt8]) -> Range<Int>? {
    var cursor = JournalCursor(bytes, start..<bytes.count)
    guard let length = cursor.integer(UInt32.self), let checksum = cursor.integer(UInt64.self), length > 0,
      length <= JournalFormat.largestPayload
    else { return nil }
    let payload = cursor.position
    guard let content = cursor.take(Int(length)), JournalFormat.checksum(content) == checksum else {
      return nil
    }
    return payload..<cursor.position
  }
}

/// The records of finished units, kept as the bytes they were read from: a large model has hundreds of thousands.
struct FinishedUnits: Sendable {
  private var bytes: [UInt8] = []
  private var offsets: [Int: Int] = [:]

  /// How many there are.
  var count: Int { offsets.count }

  /// Takes in the records in a range of `source`; a later record of a unit replaces an earlier one.
  ///
  /// - Returns: Whether they were well-formed.
  fileprivate mutating func add(_ source: [UInt8], _ range: Range<Int>) -> Bool {
    let shift = bytes.count - range.lowerBound
    var cursor = JournalCursor(source, range)
    while !cursor.isAtEnd {
      let start = cursor.position
      guard let (unit, _) = cursor.record() else { return false }
      offsets[unit] = start + shift
    }
    bytes.append(contentsOf: source[range])
    return true
  }

  /// What unit `unit` came to; `nil` if it is not finished.
  subscript(unit: Int) -> UnitRecord? {
    guard let offset = offsets[unit] else { return nil }
    var cursor = JournalCursor(bytes, offset..<bytes.count)
    return cursor.record()?.record
  }
}
