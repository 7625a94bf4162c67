internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import ParallelWork
internal import ShardPlanning
internal import Synchronization
internal import TensorFormats

extension OutputDirectory {
  /// An output that can be written.
  struct Opened {
    /// The journal, locked.
    let journal: AppendFile
    /// The units that an earlier run finished.
    let finished: FinishedUnits
    /// The digests of the source files that it read completely, by their indices.
    var sources: [Int: FileDigests] = [:]
    /// The files that it archived, by their indices.
    var archived: [Int: ArchiveManifest.File] = [:]
    /// The files of the plan, with their headers.
    let outputs: [OutputFile]
  }

  /// The space still needed, besides what exists.
  ///
  /// - Throws: `.inputOutput`.
  func missingBytes() throws(CheckpointError) -> Int {
    guard !listing.isArchive else {
      var left: [Int] = []
      for file in plan.files where try !root.holdsFile(listing.stored(file.path)) { left.append(file.bytes) }
      return Self.archiveBytes(of: left)
    }
    var sum = 0
    for file in plan.files {
      sum += max(0, file.bytes - (try root.standing(at: unfinished(file))?.bytes ?? 0))
    }
    return sum
  }

  /// The least space for archiving files one after the other: each exists in full until it is archived, and its
  /// compressed size is not known beforehand.
  static func archiveBytes(of files: [Int]) -> Int { max(files.max() ?? 0, files.reduce(0, +) / 2) }
}

// MARK: - Beginning

extension OutputDirectory {
  /// Creates the directories and the weight files, at full size and with their headers. Nothing with these names
  /// may exist.
  ///
  /// - Parameter replacing: The journal that already marks the directory, held; `nil` if there must be none.
  /// - Throws: `.cannotCreate` if something is in the way, `.inputOutput` if there is not enough room.
  func begin(
    _ identity: JournalIdentity, headers: [String: [UInt8]], replacing: AppendFile? = nil, meter: Meter
  ) throws(CheckpointError) -> Opened {
    try checkRoom(for: missingBytes(), in: root.freeSpace, path: root.path)
    let journal = try AppendFile(
      creating: OutputMarkers.journal, in: root,
      bytes: JournalFormat.title + JournalFormat.frame(.identity, identity.text), replacing: replacing)
    try root.synchronize()
    try markParts()
    return Opened(
      journal: journal, finished: FinishedUnits(), outputs: try openFiles(headers: headers, meter: meter))
  }

  /// Marks every part as unfinished, whatever it holds.
  func markParts() throws(CheckpointError) {
    for name in listing.parts {
      try root.createDirectory(name)
      guard let part = try root.directory(name) else { throw AppendFile.busy(root.path(of: name)) }
      try part.mark()
      try part.removeFile(OutputMarkers.manifest)
      try part.synchronize()
    }
    if !listing.parts.isEmpty { try root.synchronize() }
  }

  /// - Parameter archived: The files that have been archived.
  func openFiles(
    headers: [String: [UInt8]], archived: [Int: ArchiveManifest.File] = [:], meter: Meter
  ) throws(CheckpointError) -> [OutputFile] {
    let opened = Mutex([OutputFile?](repeating: nil, count: plan.files.count))
    // A file system in memory makes each page of what is reserved for it, which takes as long as writing it.
    let isLarge = plan.files.reduce(0) { $0 + $1.bytes } >= Self.largeOutput
    do {
      try ParallelWork.forEach(below: plan.files.count, threads: isLarge ? Self.threads : 1) { index in
        let isArchived = archived[index] != nil
        let output = try openFile(plan.files[index], headers: headers, isArchived: isArchived, meter: meter)
        opened.withLock { $0[index] = output }
      }
    } catch let error as CheckpointError {
      throw error
    } catch {
      preconditionFailure("files are opened without anything else that throws: \(error)")
    }
    return opened.withLock { $0.compactMap { $0 } }
  }

  /// From how many bytes on the files of an output are opened side by side.
  private static var largeOutput: Int { 256 << 20 }
  /// How many files are opened at a time.
  private static var threads: Int { 4 }

  private func openFile(
    _ file: ShardPlan.File, headers: [String: [UInt8]], isArchived: Bool, meter: Meter
  ) throws(CheckpointError) -> OutputFile {
    guard let header = headers[file.path] else { preconditionFailure("no header for \(file.path)") }
    if isArchived, let there = try archivedFile(file) {
      try root.removeFiles([unfinished(file)])
      return OutputFile(finished: there)
    }
    let reopening = try root.entry(unfinished(file)) != nil
    let output = try OutputFile(
      unfinished(file), in: root, byteCount: file.bytes, reopening: reopening,
      reserving: !listing.isArchive, meter: meter)
    try output.write(header, at: 0)
    if reopening { try clearPadding(of: file, output) }
    return output
  }

  /// A file in its archived form; `nil` if it does not exist.
  private func archivedFile(_ file: ShardPlan.File) throws(CheckpointError) -> (any ByteSource)? {
    let name = listing.stored(file.path)
    guard try root.holdsFile(name) else { return nil }
    let source = try ArchiveSource(InputFile(name, in: root))
    guard source.byteCount == file.bytes else {
      throw CheckpointError(
        .malformed, "holds \(source.byteCount) bytes, but \(file.bytes) were archived",
        path: source.path,
        remedy: "remove this file, and run the same command with --resume")
    }
    return source
  }

  /// Padding is the only part of a file that neither a header nor a unit writes: in new files it is zero.
  private func clearPadding(of file: ShardPlan.File, _ output: OutputFile) throws(CheckpointError) {
    var end = file.dataOffset
    for tensor in file.tensors {
      try output.write([UInt8](repeating: 0, count: max(0, tensor.offset - end)), at: end)
      end = tensor.offset + tensor.bytes
    }
    try output.write([UInt8](repeating: 0, count: max(0, file.bytes - end)), at: end)
  }
}

// MARK: - Resuming

extension OutputDirectory {
  /// Opens what an interrupted run left, wherever it was interrupted: while creating files, filling them, or
  /// renaming them and writing manifests.
  ///
  /// - Parameters:
  ///   - journal: The journal, held.
  ///   - contents: What it says.
  ///   - source: Where copies come from.
  /// - Throws: `.sourceChanged`, `.invalidRequest` or `.unsupported` if it belongs to another
  ///   conversion; `.cannotCreate` if something is in the way that this conversion did not write.
  func reopen(
    _ journal: AppendFile, _ contents: JournalContents, _ identity: JournalIdentity,
    headers: [String: [UInt8]], source: any ByteStore, meter: Meter
  ) throws(CheckpointError) -> Opened {
    let begun = try check(contents, against: identity)
    try checkWay(contents, source: source)
    try goOn(journal, contents, begun, identity)
    try markParts()
    // Files that already had their final names are unfinished again until everything has been checked.
    if !listing.isArchive {
      for file in plan.files where try root.holdsFile(file.path) {
        try root.give(file.path, unfinished(file))
      }
    }
    try root.removeFiles(listing.documents)
    try checkRoom(for: missingBytes(), in: root.freeSpace, path: root.path)
    return Opened(
      journal: journal, finished: contents.units, sources: contents.sources, archived: contents.archived,
      outputs: try openFiles(headers: headers, archived: contents.archived, meter: meter))
  }

  /// Continues a journal after its last intact frame.
  ///
  /// - Throws: `.inputOutput`.
  func goOn(
    _ journal: AppendFile, _ contents: JournalContents, _ begun: JournalIdentity, _ identity: JournalIdentity
  ) throws(CheckpointError) {
    try journal.truncate(to: contents.intactByteCount)
    if identity.allowsNonFinite, !begun.allowsNonFinite, !contents.letsNonFiniteThrough {
      try journal.append(JournalFormat.frame(.nonFinite))
    }
    try journal.synchronize()
  }

  /// Checks that a journal belongs to the same conversion.
  ///
  /// - Throws: As ``reopen(_:_:_:headers:source:meter:)``.
  @discardableResult
  func check(
    _ contents: JournalContents, against identity: JournalIdentity
  ) throws(CheckpointError) -> JournalIdentity {
    let begun = try JournalIdentity(
      reading: contents.identity ?? [], expecting: plan.tool, path: root.path)
    try begun.check(against: identity, path: root.path)
    if contents.letsNonFiniteThrough, !identity.allowsNonFinite {
      throw JournalIdentity.lostPermission(root.path)
    }
    return begun
  }

  /// Checks that everything with a planned name could have been left by this conversion.
  private func checkWay(_ contents: JournalContents, source: any ByteStore) throws(CheckpointError) {
    var ours = Set(listing.temporary)
    for (index, file) in plan.files.enumerated() {
      let entry = try root.entry(unfinished(file))
      if let archived = contents.archived[index] {
        let stored = listing.stored(file.path)
        if try root.entry(stored)?.bytes == archived.storedBytes { ours.insert(stored) }
      }
      if let entry, entry.kind == .file, entry.names > 1 || entry.bytes > file.bytes {
        throw CheckpointError(
          .cannotCreate,
          entry.names > 1
            ? "has a second hard link, which must not be overwritten"
            : "is longer than this conversion would make it, so something else wrote it",
          path: root.path(of: unfinished(file)), remedy: "remove it, or choose another output")
      }
      if entry == nil, contents.isFinishing, !listing.isArchive { ours.insert(file.path) }
    }
    if listing.isArchive, contents.isFinishing, try root.holdsFile(ArchiveManifest.fileName),
      (try? ArchiveDirectory.read(InputFile(ArchiveManifest.fileName, in: root))) != nil
    {
      ours.insert(ArchiveManifest.fileName)
    }
    // Documents are small: existing ones must be exactly what would be written.
    for part in plan.parts {
      for document in part.documents where try holds(Array(document.text.utf8), document.path) {
        ours.insert(document.path)
      }
      for copy in part.copies where try root.holdsFile(copy.path) {
        if try holds(Self.read(copy, from: source), copy.path) { ours.insert(copy.path) }
      }
      guard !part.directory.isEmpty, try root.standing(at: part.directory)?.kind == .directory,
        let directory = try root.directory(part.directory), (try? Manifest.read(in: directory)) != nil
      else { continue }
      ours.insert(joinPath(part.directory, OutputMarkers.manifest))
    }
    try listing.checkWay(in: root, over: ours, Set(listing.parts))
  }

  private func holds(_ bytes: [UInt8], _ name: String) throws(CheckpointError) -> Bool {
    guard try root.holdsFile(name) else { return false }
    let file = try InputFile(name, in: root)
    guard file.byteCount == bytes.count else { return false }
    return try file.readBytes(0..<bytes.count) == bytes
  }

  /// Removes journals left by a crash right after the last step.
  ///
  /// - Throws: `.inputOutput`.
  func tidyFinished() throws(CheckpointError) {
    try root.removeFiles(listing.journals)
    try root.synchronize(with: listing.parts)
  }
}
