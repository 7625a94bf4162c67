internal import ByteStreams
internal import Checkpoint
internal import Conversion
internal import JSON
internal import Synchronization
internal import TensorFormats

/// The directory in which an archive or a restored original is written.
///
/// While it is being written, it contains a journal, and incomplete files have the suffix `.unfinished`: no tool takes
/// it for a checkpoint. The journal records source, output and finished files: a file is synced, then recorded, then
/// renamed.
struct WorkDirectory {
  let root: HeldDirectory
  private let journal: AppendFile
  /// The journal's records of finished files, by their names here.
  let finished: [String: JSONValue]
  private let lock = Lock()

  /// Serializes appending.
  private final class Lock: Sendable { let mutex = Mutex(()) }

  /// A journal's lines: a digest of the rest of the line, and JSON.
  private static func line(_ text: String) -> [UInt8] {
    Array("\(digest(Array(text.utf8))) \(text)\n".utf8)
  }

  private static func digest(_ bytes: [UInt8]) -> Digest {
    var digester = XXH3Digester()
    digester.update(bytes)
    return digester.finalize()
  }
}

// MARK: - Opening

extension WorkDirectory {
  enum State {
    case working(WorkDirectory)
    /// The output is complete, according to its marker.
    case complete(HeldDirectory)
  }

  /// Opens or creates an output.
  ///
  /// - Parameters:
  ///   - identity: Source and output on one line. Only an identical one is resumed.
  ///   - completedBy: The file that is written last, if there is one.
  ///   - bytes: The minimum space needed.
  /// - Throws: `.cannotCreate` if the output path is taken or another process is writing here, `.inputOutput` if
  ///   there is not enough space, `.invalidRequest` if a different job was started there.
  static func open(
    _ path: String, source: String, identity: String, completedBy marker: String?, bytes: Int, resume: Bool
  ) throws(CheckpointError) -> State {
    let place = try OutputPlace(path)
    try checkOverlap(place, source)
    let names = try place.directory?.names() ?? []
    let temporary = OutputMarkers.journal + temporarySuffix
    if names.contains(OutputMarkers.journal) {
      guard resume else {
        throw CheckpointError(
          .cannotCreate, "holds an unfinished output", path: path,
          remedy: "give --resume to continue it, or remove it")
      }
      let root = try place.acquire(bytes: 0)
      return try reopen(root, identity, completedBy: marker)
    }
    if let marker, resume, names.contains(marker) { return .complete(try place.acquire(bytes: 0)) }
    guard names.allSatisfy({ $0 == temporary }) else {
      throw CheckpointError(.cannotCreate, "already exists", path: path, remedy: "choose another output")
    }
    let root = try place.acquire(bytes: bytes)
    try checkRoom(for: bytes, in: root.freeSpace, path: path)
    let journal = try AppendFile(creating: OutputMarkers.journal, in: root, bytes: line(identity))
    try root.synchronize()
    return .working(WorkDirectory(root: root, journal: journal, finished: [:]))
  }

  private static func reopen(
    _ root: HeldDirectory, _ identity: String, completedBy marker: String?
  ) throws(CheckpointError) -> State {
    let journal = try AppendFile(OutputMarkers.journal, in: root)
    let file = try InputFile(OutputMarkers.journal, in: root)
    guard file.byteCount <= 1 << 30 else {
      throw CheckpointError(.malformed, "is too long for a journal", path: file.path)
    }
    let text = try file.readBytes(0..<file.byteCount)
    var intact = 0
    var lines: [String] = []
    while let end = text[intact...].firstIndex(of: UInt8(ascii: "\n")) {
      let whole = text[intact..<end]
      guard whole.count > 33,
        let stated = Digest(hexadecimal: String(decoding: whole.prefix(32), as: UTF8.self)),
        stated == digest(Array(whole.dropFirst(33)))
      else { break }
      lines.append(String(decoding: whole.dropFirst(33), as: UTF8.self))
      intact = end + 1
    }
    guard lines.first == identity else {
      throw CheckpointError(
        .invalidRequest,
        lines.isEmpty
          ? "the journal does not say what was started here"
          : "a different job was started here: another command, another source, a source "
            + "that has changed since, or another version of the tool",
        path: root.path, remedy: "remove the directory yourself and start over")
    }
    try journal.truncate(to: intact)
    try journal.synchronize()
    var finished: [String: JSONValue] = [:]
    for line in lines.dropFirst() {
      let value = try JSONValue(parsing: Array(line.utf8))
      if let name = value["stored"]?.text { finished[name] = value }
    }
    let directory = WorkDirectory(root: root, journal: journal, finished: finished)
    if let marker, try root.entry(marker)?.kind == .file {
      try directory.removeJournal()
      return .complete(root)
    }
    return .working(directory)
  }

  /// The output must be neither inside the source nor contain it.
  private static func checkOverlap(_ place: OutputPlace, _ source: String) throws(CheckpointError) {
    let (own, around) = (try FileSystem.identity(of: source), try place.ancestry())
    let ancestry = try FileSystem.ancestry(of: source)
    let isInside = own.map(around.contains) ?? false
    let isAround = place.directory.map { ancestry.contains($0.identity) } ?? false
    guard isInside || isAround else { return }
    throw CheckpointError(
      .cannotCreate, isInside ? "is the source, or is inside it" : "contains the source", path: place.path,
      remedy: "choose another output")
  }
}

// MARK: - Writing

extension WorkDirectory {
  /// The name of a file until it is complete.
  static func unfinished(_ name: String) -> String { name + OutputMarkers.unfinishedSuffix }

  /// Creates the parent directories of files.
  func createDirectories(above names: [String], and directories: [String]) throws(CheckpointError) {
    var wanted: Set<String> = []
    for path in names.map({ $0.split(separator: "/").dropLast() })
      + directories.map({ $0.split(separator: "/")[...] })
    {
      for depth in path.indices { wanted.insert(path[...depth].joined(separator: "/")) }
    }
    for directory in wanted.sorted() { try root.createDirectory(directory) }
  }

  /// Records that a synced file is complete, and gives it its final name.
  func finish(_ name: String, _ record: some Encodable) throws(CheckpointError) {
    let line = Self.line(JSONText.compact(record))
    let failure: CheckpointError? = lock.mutex.withLock { _ in
      do throws(CheckpointError) {
        try journal.append(line)
        try journal.synchronize()
        return nil
      } catch { return error }
    }
    if let failure { throw failure }
    try root.give(Self.unfinished(name), name)
  }

  /// The record of a file that is complete and has the right size; gives it its final name if a crash prevented that.
  func record(of name: String) throws(CheckpointError) -> JSONValue? {
    guard let record = finished[name] else { return nil }
    let unfinished = Self.unfinished(name)
    if try root.entry(name) == nil, try root.entry(unfinished) != nil { try root.give(unfinished, name) }
    guard let entry = try root.entry(name), entry.kind == .file, entry.bytes == record["storedBytes"]?.whole
    else {
      throw CheckpointError(
        .cannotCreate, "is not the file that was finished here", path: root.path(of: name),
        remedy: "remove the directory yourself and start over")
    }
    return record
  }

  /// Writes the marker and removes the journal: the output is complete.
  func complete(_ marker: (name: String, bytes: [UInt8])?) throws(CheckpointError) {
    try root.synchronize()
    if let marker { try root.writeAtomically(marker.bytes, to: marker.name, replacing: false) }
    try root.synchronize()
    try removeJournal()
  }

  private func removeJournal() throws(CheckpointError) {
    try root.removeFile(OutputMarkers.journal)
    try root.synchronize()
  }
}
