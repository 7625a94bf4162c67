internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import JSON
package import TensorFormats

/// The contents of an earlier run's journal.
package struct JournalContents: Sendable {
  /// The identity as JSON; `nil` if the journal only marks the directory.
  package private(set) var identity: [UInt8]?
  /// Whether non-finite weights were allowed at some point.
  private(set) var letsNonFiniteThrough = false
  /// Whether everything was written, so that files may have their final names.
  private(set) var isFinishing = false
  /// Whether this share is done.
  private(set) var isShareDone = false
  /// Whether the journals of all shares have been merged into it.
  private(set) var isMerged = false
  /// The digests of source files, by their indices.
  private(set) var sources: [Int: FileDigests] = [:]
  /// The archived output files, by their indices.
  private(set) var archived: [Int: ArchiveManifest.File] = [:]
  /// The finished units.
  package private(set) var units = FinishedUnits()
  /// Where the records after the identity begin.
  package private(set) var recordsStart: Int
  /// Where the torn end begins.
  package private(set) var intactByteCount: Int

  /// Reads the journal in a directory.
  ///
  /// - Throws: `.malformed` if this is not a journal, or one whose intact frames make no sense; `.notFound`,
  ///   `.inputOutput` if it cannot be read.
  init(in directory: HeldDirectory, name: String = OutputMarkers.journal) throws(CheckpointError) {
    try self.init(Self.read(in: directory, name: name), path: directory.path(of: name))
  }

  static func read(in directory: HeldDirectory, name: String) throws(CheckpointError) -> [UInt8] {
    let file = try InputFile(name, in: directory)
    guard file.byteCount <= OutputMarkers.largestRecord else {
      throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for a journal", path: file.path)
    }
    return try file.readBytes(0..<file.byteCount)
  }

  /// What the journal's conversion writes, and which of these names are certainly its own; `nil` if that part of the
  /// journal is damaged. Later parts may be damaged.
  ///
  /// - Throws: `.inputOutput`.
  static func ours(in directory: HeldDirectory) throws(CheckpointError) -> (OutputListing, [String])? {
    let bytes: [UInt8]
    do throws(CheckpointError) {
      bytes = try read(in: directory, name: OutputMarkers.journal)
    } catch {
      guard error.code != .inputOutput else { throw error }
      return nil
    }
    guard bytes.starts(with: JournalFormat.title),
      let first = payload(at: JournalFormat.title.count, of: bytes),
      bytes[first.lowerBound] == JournalFormat.Kind.identity.rawValue,
      let listing = JournalIdentity.listing(reading: Array(bytes[(first.lowerBound + 1)..<first.upperBound]))
    else { return nil }
    let contents = try? JournalContents(bytes, path: "")
    // Before that, a finished name belongs to somebody else.
    let finished =
      contents?.isFinishing ?? false
      ? listing.finished : contents?.archived.values.map(\.stored).filter(listing.finished.contains) ?? []
    return (listing, listing.temporary + finished)
  }

  package init(_ bytes: [UInt8], path: String) throws(CheckpointError) {
    func malformed(
      _ message: String, at offset: Int, remedy: String = "start afresh with --overwrite"
    ) -> CheckpointError {
      CheckpointError(.malformed, message, path: path, offset: offset, remedy: remedy)
    }
    // The list of our files is damaged, so --overwrite would not know what to remove.
    let removal = "remove the directory yourself and start afresh"
    let title = JournalFormat.title
    guard bytes.starts(with: title) else {
      throw malformed("is not a journal of this version of step3-convert", at: 0, remedy: removal)
    }
    intactByteCount = title.count
    recordsStart = title.count
    while let payload = Self.payload(at: intactByteCount, of: bytes) {
      let body = payload.lowerBound + 1..<payload.upperBound
      let kind = JournalFormat.Kind(rawValue: bytes[payload.lowerBound])
      switch (kind, identity) {
      case (.identity, nil):
        identity = Array(bytes[body])
        recordsStart = payload.upperBound
      case (.units, .some):
        guard units.add(bytes, body) else {
          throw malformed("the records are not in the journal's format", at: payload.lowerBound)
        }
      case (.nonFinite, .some) where body.isEmpty: letsNonFiniteThrough = true
      case (.finishing, .some) where body.isEmpty: isFinishing = true
      case (.shareDone, .some) where body.isEmpty: isShareDone = true
      case (.merged, .some) where body.isEmpty: isMerged = true
      case (.source, .some):
        guard let (file, digests) = Self.source(bytes, body) else {
          throw malformed(
            "the digests of a source file are not in the journal's format", at: payload.lowerBound)
        }
        sources[file] = digests
      case (.archived, .some):
        guard let (file, description) = Self.archived(bytes, body) else {
          throw malformed("the description of an archived file is invalid", at: payload.lowerBound)
        }
        archived[file] = description
      default:
        throw malformed(
          "a frame of kind \(bytes[payload.lowerBound]) does not belong here", at: payload.lowerBound,
          remedy: identity == nil ? removal : "start afresh with --overwrite")
      }
      intactByteCount = payload.upperBound
    }
    guard identity != nil || bytes.count == title.count else {
      throw malformed(
        "the journal is damaged where it describes the conversion", at: title.count, remedy: removal)
    }
  }

  private static func source(_ bytes: [UInt8], _ body: Range<Int>) -> (Int, FileDigests)? {
    var cursor = JournalCursor(bytes, body)
    guard let file = cursor.integer(UInt32.self), let xxh3 = cursor.digest(),
      let sha256 = cursor.digest(bytes: 32),
      cursor.isAtEnd
    else { return nil }
    return (Int(file), FileDigests(xxh3: xxh3, sha256: sha256))
  }

  private static func archived(_ bytes: [UInt8], _ body: Range<Int>) -> (Int, ArchiveManifest.File)? {
    var cursor = JournalCursor(bytes, body)
    guard let file = cursor.integer(UInt32.self),
      let value = try? JSONValue(parsing: Array(bytes[cursor.position..<body.upperBound])),
      let description = try? ArchiveManifest.File(value)
    else { return nil }
    return (Int(file), description)
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
package struct FinishedUnits: Sendable {
  private var bytes: [UInt8] = []
  private var offsets: [Int: Int] = [:]

  /// How many there are.
  package var count: Int { offsets.count }

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

  /// The outcome of unit `unit`; `nil` if it is not finished.
  subscript(unit: Int) -> UnitRecord? {
    guard let offset = offsets[unit] else { return nil }
    var cursor = JournalCursor(bytes, offset..<bytes.count)
    return cursor.record()?.record
  }
}
