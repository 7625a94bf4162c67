internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// Decides what to do with OUTPUT, by what it holds and what is allowed. Everything that can be refused is
/// refused before anything is touched.
struct OutputOpening {
  let checkpoint: Checkpoint
  let planned: PlannedConversion
  let identity: JournalIdentity
  let options: ConversionOptions
  let meter: Meter
  /// Tells the user what is about to happen.
  let warn: @Sendable (String) -> Void

  var plan: ShardPlan { planned.plan }
  private var listing: OutputListing { OutputListing(planned.plan, isArchive: options.archive) }

  /// The least space that a new output needs.
  var neededBytes: Int {
    options.archive ? OutputDirectory.archiveBytes(of: plan.files.map(\.bytes)) : plan.outputBytes
  }

  func directory(_ root: HeldDirectory) -> OutputDirectory {
    OutputDirectory(root, plan, isArchive: options.archive)
  }

  /// Whether a complete output in a directory is the requested one.
  ///
  /// - Throws: `.inputOutput`.
  func isAnswered(by manifest: Manifest, in directory: HeldDirectory) throws(CheckpointError) -> Bool {
    let isArchive = try directory.holdsFile(ArchiveManifest.fileName)
    return manifest.plan.answers(plan) && isArchive == options.archive
  }

  enum Result {
    /// To be written.
    case writing(Target)
    /// The output already exists.
    case complete(Manifest)
  }

  /// An output that can be written.
  struct Target {
    /// OUTPUT.
    let output: HeldDirectory
    /// Where it is written: OUTPUT, or the replacement in it.
    let directory: OutputDirectory
    let opened: OutputDirectory.Opened
    /// Whether it replaces an output that still exists.
    let isReplacement: Bool

    /// The error to report if resuming would always fail the same way; `nil` otherwise.
    ///
    /// A replacement begun from another source is useless to --overwrite, which would otherwise resume it.
    func abandoned(_ error: CheckpointError, _ options: ConversionOptions) -> CheckpointError? {
      guard error.code == .sourceChanged, isReplacement, options.overwrite,
        (try? OutputReplacement(output: output).discard(holding: opened.journal)) != nil
      else { return nil }
      var error = error
      error.remedy = "the unfinished output has been discarded: the same command starts afresh"
      return error
    }
  }

  /// Whether a conversion has been begun in a directory, so that it can be resumed.
  static func isBegun(_ path: String) -> Bool {
    [OutputMarkers.journal, joinPath(OutputReplacement.newName, OutputMarkers.journal)]
      .contains { (try? DirectoryStore(path).isTaken($0)) ?? false }
  }

  /// - Throws: `.cannotCreate` if something is in the way, the source included, or another process is writing here;
  ///   `.inputOutput` if there is not enough space; `.malformed` for a damaged journal; `.sourceChanged`,
  ///   `.invalidRequest` or `.unsupported` if it belongs to another conversion.
  func open(_ path: String) throws(CheckpointError) -> Result {
    let (place, overlap) = try checkedPlace(path)
    if let there = place.directory, !options.resume, !options.overwrite { throw Self.exists(there) }
    let output = try place.acquire(bytes: neededBytes)
    switch try OutputState(output) {
    case .foreign(let error): throw error
    case .empty: return try writing(output, try begin(in: output, replacing: nil))
    case .finished(let manifest):
      try overlap.check(contentsOf: output)
      try Self.checkFiles(of: manifest, in: output)
      return try finished(output, manifest)
    case .unfinished:
      try overlap.check(contentsOf: output)
      return try unfinished(output)
    }
  }

  /// Inspects OUTPUT and returns whether it is already complete.
  ///
  /// - Throws: As ``open(_:)``, as far as that can be determined without touching anything.
  func checkPlace(_ path: String) throws(CheckpointError) -> Bool {
    let (place, _) = try checkedPlace(path)
    guard let there = place.directory else { return false }
    guard options.resume || options.overwrite else { throw Self.exists(there) }
    let isComplete = try DirectoryStore(path).isTaken(OutputMarkers.manifest)
    return options.resume && isComplete
  }

  /// Inspects OUTPUT without touching anything.
  ///
  /// - Throws: `.cannotCreate` if it cannot be written, or the source is read there.
  func checkedPlace(_ path: String) throws(CheckpointError) -> (OutputPlace, SourceOverlap) {
    let place = try OutputPlace(path)
    guard listing.isSound else {
      throw CheckpointError(
        .invalidRequest, "two files of this output would have one name, or a name that marks directories",
        path: path, remedy: "rename the file in the source")
    }
    let overlap = try SourceOverlap(checkpoint, plan)
    try overlap.check(place)
    return (place, overlap)
  }

  /// Checks that the files listed in a manifest match its description, by sizes, headers and documents: a manifest
  /// that was copied elsewhere must not justify removing the files there.
  ///
  /// - Throws: `.cannotCreate` naming the first that is not.
  private static func checkFiles(of manifest: Manifest, in output: HeldDirectory) throws(CheckpointError) {
    let weights = Dictionary(
      manifest.plan.files.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
    let archived = try archivedFiles(in: output)
    for record in manifest.files {
      if let file = archived[record.path], file.isCompressed {
        guard let entry = try output.entry(file.stored), entry.kind == .file else { continue }
        guard entry.bytes == file.storedBytes, file.sha256 == record.sha256 else {
          throw isNotDescribed(output.path(of: file.stored))
        }
        continue
      }
      guard let entry = try output.entry(record.path), entry.kind == .file else { continue }
      var isOurs = entry.bytes == record.bytes
      if isOurs, let file = weights[record.path] {
        let header = try InputFile(record.path, in: output).readBytes(0..<file.dataOffset)
        isOurs = "\(Digest.xxh3(of: header))" == file.headerXXH3
      } else if isOurs, record.bytes <= 16 << 20 {
        let text = try InputFile(record.path, in: output).readBytes(0..<record.bytes)
        isOurs = "\(Digest.xxh3(of: text))" == record.xxh3
      }
      guard isOurs else { throw isNotDescribed(output.path(of: record.path)) }
    }
  }

  private static func isNotDescribed(_ path: String) -> CheckpointError {
    CheckpointError(
      .cannotCreate,
      "is not the file that manifest.json describes, so it was not written by step3-convert", path: path,
      remedy: "move it away yourself, or choose another output")
  }

  /// The archived files of an output, by path; empty if it is not an archive.
  private static func archivedFiles(
    in output: HeldDirectory
  ) throws(CheckpointError) -> [String: ArchiveManifest.File] {
    guard try output.holdsFile(ArchiveManifest.fileName) else { return [:] }
    let manifest: ArchiveManifest
    do throws(CheckpointError) {
      manifest = try ArchiveDirectory.read(InputFile(ArchiveManifest.fileName, in: output))
    } catch {
      guard error.code != .inputOutput else { throw error }
      throw isNotDescribed(output.path(of: ArchiveManifest.fileName))
    }
    return Dictionary(manifest.files.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
  }

  private static func exists(_ output: HeldDirectory) -> CheckpointError {
    let names = (try? output.names()) ?? []
    let isUnfinished = names.contains(OutputMarkers.journal) && !names.contains(OutputMarkers.manifest)
    return CheckpointError(
      .cannotCreate, isUnfinished ? "holds an unfinished conversion" : "already exists", path: output.path,
      remedy: isUnfinished
        ? "give --resume to continue it, or --overwrite to replace it"
        : "choose another output, or give --overwrite to replace what step3-convert wrote there")
  }

  private func begin(
    in root: HeldDirectory, replacing journal: AppendFile?
  ) throws(CheckpointError) -> OutputDirectory.Opened {
    try directory(root).begin(
      identity, headers: planned.headers, replacing: journal, meter: meter)
  }

  private func reopen(
    in root: HeldDirectory, _ journal: AppendFile, _ contents: JournalContents
  ) throws(CheckpointError) -> OutputDirectory.Opened {
    var identity = identity
    // Work of shares that --seal has merged can be resumed by a single run.
    if contents.isMerged, let count = contents.shares {
      identity = identity.divided(into: count)
      try root.removeFiles(identity.listing.shareJournals)
    }
    return try directory(root).reopen(
      journal, contents, identity, headers: planned.headers, source: checkpoint.store, meter: meter)
  }

  private func writing(
    _ output: HeldDirectory, _ opened: OutputDirectory.Opened
  ) throws(CheckpointError) -> Result {
    .writing(
      Target(
        output: output, directory: directory(output), opened: opened, isReplacement: false))
  }
}

// MARK: - Unfinished outputs

extension OutputOpening {
  private func unfinished(_ output: HeldDirectory) throws(CheckpointError) -> Result {
    let journal = try AppendFile(OutputMarkers.journal, in: output)
    let replacement = OutputReplacement(output: output)
    let contents = try journalContents(in: output)
    if contents.map({ $0.identity == nil }) ?? false {
      // Marked only: two outputs were being exchanged, or an old one was being removed to make room.
      if let new = try replacement.completed() {
        try replacement.exchange(with: new)
        return try finished(output, new, isReplaced: true)
      }
      if try replacement.isClearing() { try replacement.clear() }
      try listing.checkWay(
        in: output, over: [OutputMarkers.journal, OutputMarkers.journal + temporarySuffix],
        Set(listing.parts))
      return try writing(output, try begin(in: output, replacing: journal))
    }
    guard options.overwrite else {
      return try writing(output, try reopen(in: output, journal, try JournalContents(in: output)))
    }
    try checkPolicy(of: contents, path: output.path)
    guard let (old, ours) = try JournalContents.ours(in: output) else {
      throw CheckpointError(
        .cannotCreate, "the journal is damaged where it lists what was written here", path: journal.path,
        remedy: "remove the directory yourself, or choose another output")
    }
    // Each share holds its own.
    for name in old.shareJournals where try output.holdsFile(name) { _ = try AppendFile(name, in: output) }
    try listing.checkWay(in: output, over: Set(ours), Set(old.parts))
    let freed = output.bytes(of: ours)
    try checkRoom(for: neededBytes, in: output.freeSpace.map { $0 + freed }, path: output.path)
    tell(try old.strangers(in: output, ours: ours), output)
    // The journal is replaced last: until then it lists what remains to be removed.
    try output.removeFiles(ours.filter { $0 != OutputMarkers.journal })
    for part in old.parts.reversed() where try output.standing(at: part)?.kind == .directory {
      try output.removeDirectoryIfEmpty(part)
    }
    return try writing(output, try begin(in: output, replacing: journal))
  }

  /// The contents of a journal; `nil` if it is invalid.
  ///
  /// - Throws: `.inputOutput`.
  private func journalContents(in directory: HeldDirectory) throws(CheckpointError) -> JournalContents? {
    do throws(CheckpointError) {
      return try JournalContents(in: directory)
    } catch {
      guard error.code != .inputOutput else { throw error }
      return nil
    }
  }

  /// Checks, before anything is removed, that the same conversion did not previously need a permission that is now
  /// missing: without it, this run would fail too.
  ///
  /// - Throws: `.invalidRequest`.
  private func checkPolicy(of contents: JournalContents?, path: String) throws(CheckpointError) {
    guard let contents, !identity.allowsNonFinite,
      let begun = try? JournalIdentity(reading: contents.identity ?? [], expecting: plan.tool, path: path),
      begun.allowsNonFinite || contents.letsNonFiniteThrough,
      (try? begun.check(against: identity.allowingNonFinite, path: path)) != nil
    else { return }
    throw JournalIdentity.lostPermission(path)
  }

  private func tell(_ strangers: [String], _ output: HeldDirectory) {
    guard !strangers.isEmpty else { return }
    let shown = strangers.prefix(5).map(\.printable).joined(separator: ", ")
    let more = strangers.count > 5 ? " and \(strangers.count - 5) more" : ""
    warn(
      "\(output.path): left in place, because step3-convert did not write it (\(strangers.count) in all): "
        + "\(shown)\(more)")
  }
}

// MARK: - Finished outputs

extension OutputOpening {
  private func finished(
    _ output: HeldDirectory, _ manifest: Manifest, isReplaced: Bool = false
  ) throws(CheckpointError) -> Result {
    let replacement = OutputReplacement(output: output)
    // Leftovers of a crash right before the end of an earlier exchange.
    try replacement.tidy(OutputListing(manifest.plan, in: output))
    let isWanted = try isAnswered(by: manifest, in: output)
    if isReplaced, isWanted { return .complete(manifest) }
    if options.overwrite { return try replace(manifest, replacement) }
    if let new = try replacement.begun() {
      if let completed = try replacement.completed() {
        if try isAnswered(by: completed, in: new) {
          return try exchange(manifest, with: completed, replacement)
        }
      } else if try new.entry(OutputMarkers.journal) != nil {
        do throws(CheckpointError) {
          return try goOn(in: new, manifest, replacement)
        } catch  where isWanted && [.invalidRequest, .unsupported].contains(error.code) {
          // Another conversion was going to replace this one, which is the requested one.
        }
      }
    }
    guard isWanted else {
      throw CheckpointError(
        .cannotCreate, "holds a finished conversion of another source or with other options",
        path: output.path, remedy: "choose another output, or give --overwrite to replace it")
    }
    try directory(output).tidyFinished()
    return .complete(manifest)
  }

  /// Replaces a finished output.
  private func replace(
    _ old: Manifest, _ replacement: OutputReplacement
  ) throws(CheckpointError) -> Result {
    let output = replacement.output
    let outgoing = try OutputListing(old.plan, in: output)
    try checkWay(over: outgoing, in: output)
    if let new = try replacement.begun() {
      if let completed = try replacement.completed(), try isAnswered(by: completed, in: new) {
        return try exchange(old, with: completed, replacement)
      }
      let contents = try journalContents(in: new)
      if let contents, (try? directory(new).check(contents, against: identity)) != nil {
        return try goOn(in: new, old, replacement)
      }
      try replacement.discard()
    }
    let needed = neededBytes
    let free = output.freeSpace
    if let free, free < needed {
      try checkRoom(for: needed, in: free + output.bytes(of: outgoing.finished), path: output.path)
      warn(
        "\(output.path): \(needed) bytes are needed but only \(free) are free: there is no space for the new output "
          + "beside the old one, which is removed first")
      if old.plan.request.allowNonFinite, !plan.request.allowNonFinite, old.plan.source == plan.source {
        throw JournalIdentity.lostPermission(output.path)
      }
      tell(try outgoing.strangers(in: output), output)
      try replacement.clear()
      let journal = try AppendFile(OutputMarkers.journal, in: output)
      return try writing(output, try begin(in: output, replacing: journal))
    }
    let new = try replacement.begin()
    return .writing(
      Target(
        output: output, directory: directory(new), opened: try begin(in: new, replacing: nil),
        isReplacement: true))
  }

  /// Resumes an interrupted replacement.
  private func goOn(
    in new: HeldDirectory, _ old: Manifest, _ replacement: OutputReplacement
  ) throws(CheckpointError) -> Result {
    let journal = try AppendFile(OutputMarkers.journal, in: new)
    let contents = try JournalContents(in: new)
    try directory(new).check(contents, against: identity)
    try checkWay(over: OutputListing(old.plan, in: replacement.output), in: replacement.output)
    return .writing(
      Target(
        output: replacement.output, directory: directory(new),
        opened: try reopen(in: new, journal, contents), isReplacement: true))
  }

  private func exchange(
    _ old: Manifest, with new: Manifest, _ replacement: OutputReplacement
  ) throws(CheckpointError) -> Result {
    try checkWay(over: OutputListing(old.plan, in: replacement.output), in: replacement.output)
    try finish(replacement.output, with: new)
    return .complete(new)
  }

  private func checkWay(over old: OutputListing, in output: HeldDirectory) throws(CheckpointError) {
    try listing.checkWay(in: output, over: Set(old.finished + old.journals + old.temporary), Set(old.parts))
    if let entry = try output.entry(OutputReplacement.oldName) {
      throw OutputListing.inTheWay(OutputReplacement.oldName, entry, in: output)
    }
  }

  /// Exchanges the old output for its complete replacement.
  ///
  /// - Throws: `.inputOutput`; OUTPUT is then marked unfinished.
  func finish(_ output: HeldDirectory, with manifest: Manifest) throws(CheckpointError) {
    // When an exchange is resumed, it has already been moved.
    if try output.holdsFile(OutputMarkers.manifest) {
      let old = try Manifest.read(in: output)
      tell(try OutputListing(old.plan, in: output).strangers(in: output), output)
    }
    try OutputReplacement(output: output).exchange(with: manifest)
  }
}

extension HeldDirectory {
  /// The space that removing these files frees.
  fileprivate func bytes(of names: [String]) -> Int {
    names.reduce(0) { sum, name in
      guard let entry = (try? entry(name)) ?? nil, entry.kind == .file, entry.names == 1 else { return sum }
      return sum + entry.allocatedBytes
    }
  }
}
