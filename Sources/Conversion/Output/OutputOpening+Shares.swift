internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// Outputs written by several processes, each its share. OUTPUT has the journal of an unfinished output, which only
/// records the conversion and the number of shares, and each share has its own journal, held by its process.
extension OutputOpening {
  enum Joined {
    /// The whole output already exists.
    case complete(Manifest)
    /// The share has been done before.
    case done
    /// To be written; the journal is that of the share.
    case writing(OutputDirectory.Opened)
  }

  /// The parts that are read back before sealing.
  struct Sealing {
    let directory: OutputDirectory
    let opened: OutputDirectory.Opened
    /// By the number of the source file.
    let sources: [Int: FileDigests]
  }

  /// How long a process waits for another one that is setting up the output.
  private static let patience = Duration.seconds(60)

  /// Opens the output for one share, setting it up if no other share has.
  ///
  /// - Throws: `.cannotCreate` if something is in the way, or the share is running, or was interrupted and resuming is
  ///   not allowed; `.inputOutput` if there is not enough room; `.malformed` for a damaged journal; `.sourceChanged`,
  ///   `.invalidRequest` or `.unsupported` if the output belongs to another conversion or has another number of
  ///   shares.
  func join(_ path: String, as share: ConversionShare) throws(CheckpointError) -> Joined {
    let (place, overlap) = try checkedPlace(path)
    let output = try place.acquire(bytes: neededBytes, waiting: Self.patience)
    defer { output.unlock() }
    let (directory, whole) = (directory(output), identity.divided(into: share.count))
    let outputs: [OutputFile]
    switch try OutputState(output) {
    case .foreign(let error): throw error
    case .finished(let manifest):
      guard try isAnswered(by: manifest, in: output) else { throw Self.isOfAnother(output) }
      return .complete(manifest)
    case .empty:
      try overlap.check(contentsOf: output)
      outputs = try directory.begin(whole, headers: planned.headers, meter: meter).outputs
    case .unfinished:
      try overlap.check(contentsOf: output)
      let contents = try JournalContents(in: output)
      try directory.check(contents, against: whole)
      guard !contents.isMerged else {
        throw CheckpointError(
          .cannotCreate, "all shares are done, and the output is being sealed", path: output.path,
          remedy: "continue with --seal")
      }
      // The first process may have been interrupted while creating the files.
      try directory.markParts()
      outputs = try directory.openFiles(headers: planned.headers, meter: meter)
    }
    return try join(directory, as: share, outputs)
  }

  private func join(
    _ directory: OutputDirectory, as share: ConversionShare, _ outputs: [OutputFile]
  ) throws(CheckpointError) -> Joined {
    let (output, name) = (directory.root, OutputMarkers.journal(of: share))
    let identity = identity.divided(into: share.count, share: share.number)
    guard try output.entry(name) != nil else {
      let journal = try AppendFile(
        creating: name, in: output, bytes: JournalFormat.title + JournalFormat.frame(.identity, identity.text)
      )
      try output.synchronize()
      return .writing(OutputDirectory.Opened(journal: journal, finished: FinishedUnits(), outputs: outputs))
    }
    let journal = try AppendFile(name, in: output)
    let contents = try JournalContents(in: output, name: name)
    let begun = try directory.check(contents, against: identity)
    if contents.isShareDone { return .done }
    guard options.resume else {
      throw CheckpointError(
        .cannotCreate, "share \(share) was begun and not finished", path: journal.path,
        remedy: "give --resume to continue it")
    }
    try directory.goOn(journal, contents, begun, identity)
    return .writing(OutputDirectory.Opened(journal: journal, finished: contents.units, outputs: outputs))
  }

  /// The numbers of the shares that are not done when `own` is.
  ///
  /// - Throws: `.inputOutput` where it is not clear whether they were sealed already.
  /// - Complexity: One small read for each share.
  static func sharesLeft(
    besides own: ConversionShare, in path: String
  ) throws(CheckpointError) -> [Int] {
    let (store, mark) = (DirectoryStore(path), JournalFormat.frame(.shareDone))
    // Its journal is removed when all are done.
    guard try store.isTaken(OutputMarkers.journal(of: own)) else { return [] }
    return ConversionShare.all(of: own.count).filter { share in
      guard let file = try? store.open(OutputMarkers.journal(of: share)), file.byteCount >= mark.count,
        let end = try? file.readBytes(file.byteCount - mark.count..<file.byteCount)
      else { return true }
      return end != mark
    }.map(\.number)
  }
}

// MARK: - Sealing

extension OutputOpening {
  /// Opens an output all of whose shares are done, and merges their journals.
  ///
  /// - Returns: The manifest of an already complete output, or what is left to do.
  /// - Throws: As ``join(_:as:)``; `.notFound` if there is nothing, `.unfinished` naming the shares that are not done.
  func seal(_ path: String) throws(CheckpointError) -> (complete: Manifest?, sealing: Sealing?) {
    let (place, overlap) = try checkedPlace(path)
    guard place.directory != nil else {
      throw CheckpointError(
        .notFound, "there is no output", path: path, remedy: "run the shares first, with --share")
    }
    let output = try place.acquire(bytes: 0)
    let directory = directory(output)
    switch try OutputState(output) {
    case .foreign(let error): throw error
    case .empty:
      throw CheckpointError(
        .notFound, "no share has been run", path: output.path, remedy: "run the shares first, with --share")
    case .finished(let manifest):
      guard try isAnswered(by: manifest, in: output) else { throw Self.isOfAnother(output) }
      try directory.tidyFinished()
      return (manifest, nil)
    case .unfinished: break
    }
    try overlap.check(contentsOf: output)
    let journal = try AppendFile(OutputMarkers.journal, in: output)
    var contents = try JournalContents(in: output)
    guard let count = contents.shares else {
      throw CheckpointError(
        .invalidRequest, "was begun as a whole, not in shares", path: output.path,
        remedy: "go on with --resume, without --seal")
    }
    let whole = identity.divided(into: count)
    try directory.check(contents, against: whole)
    if !contents.isMerged {
      try merge(count, into: journal, directory)
      contents = try JournalContents(in: output)
    }
    try output.removeFiles(whole.listing.shareJournals)
    for (file, description) in plan.source.files.enumerated()
    where !description.isDerived && contents.sources[file] == nil {
      throw CheckpointError(
        .malformed, "no share recorded the outcome of \(description.path.printable)", path: journal.path,
        remedy: UnitMaker.remaking)
    }
    let opened = try directory.reopen(
      journal, contents, whole, headers: planned.headers, source: checkpoint.store, meter: meter)
    return (nil, Sealing(directory: directory, opened: opened, sources: contents.sources))
  }

  /// Appends the shares' journals to the main one. Doing so twice only repeats the records.
  private func merge(
    _ count: Int, into journal: AppendFile, _ directory: OutputDirectory
  ) throws(CheckpointError) {
    let output = directory.root
    var (left, held): ([Int], [(file: AppendFile, share: ConversionShare, records: Range<Int>)]) = ([], [])
    for share in ConversionShare.all(of: count) {
      let name = OutputMarkers.journal(of: share)
      guard try output.entry(name) != nil else {
        left.append(share.number)
        continue
      }
      let file = try AppendFile(name, in: output)
      let contents = try JournalContents(in: output, name: name)
      try directory.check(contents, against: identity.divided(into: count, share: share.number))
      if !contents.isShareDone { left.append(share.number) }
      held.append((file, share, contents.recordsStart..<contents.intactByteCount))
    }
    guard left.isEmpty else {
      let some = left.prefix(20).map(String.init).joined(separator: ", ") + (left.count > 20 ? ", ..." : "")
      throw CheckpointError(
        .unfinished, "\(left.count) of \(count) shares \(left.count == 1 ? "is" : "are") not done: \(some)",
        path: output.path, remedy: "run each with --share K/\(count) --resume")
    }
    let mark = JournalFormat.frame(.shareDone)
    for (_, share, records) in held {
      let bytes = try JournalContents.read(in: output, name: OutputMarkers.journal(of: share))
      try journal.append(Array(bytes[records].dropLast(mark.count)))
    }
    try journal.append(JournalFormat.frame(.merged))
    try journal.synchronize()
    withExtendedLifetime(held) {}
  }

  private static func isOfAnother(_ output: HeldDirectory) -> CheckpointError {
    CheckpointError(
      .cannotCreate, "holds a finished conversion of another source or with other options", path: output.path,
      remedy: "choose another output")
  }
}
