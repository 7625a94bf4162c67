internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// Replaces an old output by a new one, in the same directory.
///
/// The new one is written to ``newName`` inside the old one, which stays complete meanwhile. The exchange consists
/// only of renames: a journal marks the directory as unfinished, the old manifests and files move to ``oldName``, the
/// new files take their places, the new manifest comes last. The files already moved show how far an interrupted
/// exchange got, so it can be resumed from any point. Then the old files are removed: those that the old manifest
/// lists and nothing else. The directory itself, with its permissions and anything else in it, stays as it was.
package struct OutputReplacement {
  /// Where the new output is written.
  package static let newName = ".step3-convert.new"
  /// Where the old one, or, if there was no space for both, its manifest, is kept until it has been removed.
  package static let oldName = ".step3-convert.old"

  /// OUTPUT.
  let output: HeldDirectory

  /// The new output, if one was begun.
  ///
  /// - Throws: `.cannotCreate` if something else has its name.
  func begun() throws(CheckpointError) -> HeldDirectory? { try output.directory(Self.newName) }

  /// The manifest of the new output, if it is complete.
  ///
  /// - Throws: As `Manifest.read`.
  func completed() throws(CheckpointError) -> Manifest? {
    guard let new = try begun(), try new.entry(OutputMarkers.manifest) != nil else { return nil }
    return try Manifest.read(in: new)
  }

  /// Creates the directory that a new output is written to.
  ///
  /// - Throws: `.cannotCreate`, `.inputOutput`.
  func begin() throws(CheckpointError) -> HeldDirectory {
    try output.createDirectory(Self.newName)
    try output.synchronize()
    guard let new = try begun() else { throw AppendFile.busy(output.path) }
    return new
  }
}

// MARK: - The exchange

extension OutputReplacement {
  /// Moves the complete new output into the place of the old one, or resumes doing so.
  ///
  /// - Throws: `.inputOutput`; the directory is then marked unfinished.
  func exchange(with manifest: Manifest) throws(CheckpointError) {
    guard let new = try begun() else { return }
    // An archive's manifest may already have been moved, once the old one has been set aside.
    var isArchive = try new.holdsFile(ArchiveManifest.fileName)
    if !isArchive, try !output.holdsFile(OutputMarkers.manifest) {
      isArchive = try output.holdsFile(ArchiveManifest.fileName)
    }
    let incoming = OutputListing(manifest.plan, isArchive: isArchive)
    try new.removeFiles(incoming.journals)
    let old = try setAside()
    let outgoing = try old.map { (directory) throws(CheckpointError) in
      try Self.listing(of: directory)
    }
    if let old, let outgoing {
      for name in outgoing.finished where !Self.marks.contains(name) {
        // If the new file has already been moved, so has the old one.
        guard try output.holdsFile(name) else { continue }
        let hasCome = try !new.holdsFile(name)
        if hasCome, incoming.finished.contains(name) { continue }
        try makeParent(of: name, in: old)
        try output.give(name, name, in: old)
      }
      try old.synchronize(with: outgoing.parts)
      for part in outgoing.parts.reversed() where !incoming.parts.contains(part) { try dissolve(part) }
    }
    for part in incoming.parts {
      try output.createDirectory(part)
      try output.directory(part)?.mark()
    }
    for name in incoming.contents where try new.holdsFile(name) {
      try new.give(name, name, in: output)
    }
    try output.synchronize(with: incoming.parts)
    // A part's manifest and then its journal, the root's last.
    for (name, journal) in zip(incoming.manifests, incoming.journals) {
      if try new.holdsFile(name) { try new.give(name, name, in: output) }
      try output.synchronize(with: incoming.parts)
      try output.removeFiles([journal])
    }
    try output.synchronize(with: incoming.parts)
    try tidy(incoming)
  }

  /// Marks the directory and its parts as unfinished, then moves the old manifests away.
  ///
  /// - Returns: Where to move the old output; `nil` if there is none to be moved.
  private func setAside() throws(CheckpointError) -> HeldDirectory? {
    // Until the old manifest is gone, a journal beside it may belong to another conversion.
    let isFinished = try output.holdsFile(OutputMarkers.manifest)
    if isFinished {
      try output.mark()
    } else if try output.entry(OutputMarkers.journal) == nil {
      try output.mark()
    }
    try output.createDirectory(Self.oldName)
    try output.synchronize()
    guard let old = try output.directory(Self.oldName) else { throw AppendFile.busy(output.path) }
    guard try output.holdsFile(OutputMarkers.manifest) else {
      return try old.holdsFile(OutputMarkers.manifest) ? old : nil
    }
    for part in try Self.listing(of: output).parts {
      if try output.standing(at: part)?.kind == .directory { try output.directory(part)?.mark() }
    }
    // Together they list everything else.
    for name in Self.marks where try output.holdsFile(name) { try output.give(name, name, in: old) }
    try old.synchronize()
    try output.synchronize()
    return old
  }

  /// The files that describe an output; its manifest moves last.
  private static let marks = [ArchiveManifest.fileName, OutputMarkers.manifest]

  private static func listing(of directory: HeldDirectory) throws(CheckpointError) -> OutputListing {
    try OutputListing(Manifest.read(in: directory).plan, in: directory)
  }

  private func makeParent(of name: String, in directory: HeldDirectory) throws(CheckpointError) {
    guard let parent = OutputListing.directory(of: name) else { return }
    try makeParent(of: parent, in: directory)
    try directory.createDirectory(parent)
  }

  /// Removes a part's marker, and the part if nothing else is in it.
  private func dissolve(_ part: String) throws(CheckpointError) {
    try output.removeFiles([joinPath(part, OutputMarkers.journal)])
    if try output.standing(at: part)?.kind == .directory { try output.removeDirectoryIfEmpty(part) }
  }

  /// Removes what an exchange leaves behind: the old output's files, and empty directories.
  ///
  /// - Parameter current: The output that is there now.
  /// - Throws: `.inputOutput`.
  func tidy(_ current: OutputListing) throws(CheckpointError) {
    if let old = try output.directory(Self.oldName) {
      if try old.holdsFile(OutputMarkers.manifest) {
        let listing = try Self.listing(of: old)
        try old.removeFiles(listing.finished.filter { !Self.marks.contains($0) })
        for part in listing.parts.reversed() { try old.removeDirectoryIfEmpty(part) }
        try old.removeFiles(Self.marks)
      }
      try output.removeDirectoryIfEmpty(Self.oldName)
    }
    if let new = try begun(), try new.entry(OutputMarkers.manifest) == nil,
      try new.entry(OutputMarkers.journal) == nil
    {
      for part in current.parts.reversed() { try new.removeDirectoryIfEmpty(part) }
      try output.removeDirectoryIfEmpty(Self.newName)
    }
    try output.synchronize()
  }
}

// MARK: - Without space for both

extension OutputReplacement {
  /// Removes the old output first, or resumes doing so. The directory is marked unfinished afterwards.
  ///
  /// - Throws: `.inputOutput`, `.cannotCreate`.
  func clear() throws(CheckpointError) {
    if let old = try setAside() {
      let listing = try Self.listing(of: old)
      try output.removeFiles(listing.finished)
      for part in listing.parts.reversed() { try dissolve(part) }
      try output.synchronize()
      // Until here they list what remains to be removed.
      try old.removeFiles(Self.marks)
    }
    try output.removeDirectoryIfEmpty(Self.oldName)
    try output.synchronize()
  }

  /// Whether ``clear()`` was begun but not finished.
  ///
  /// - Throws: `.inputOutput`.
  func isClearing() throws(CheckpointError) -> Bool {
    try output.holdsFile(joinPath(Self.oldName, OutputMarkers.manifest))
  }

  /// Removes a new output that is no longer needed.
  ///
  /// - Parameter held: Its journal, if this process holds it.
  /// - Throws: `.cannotCreate` if something is in it that was not written by a conversion.
  func discard(holding held: AppendFile? = nil) throws(CheckpointError) {
    guard let new = try begun() else { return }
    var journal = held
    if journal == nil, try new.entry(OutputMarkers.journal) != nil {
      journal = try AppendFile(OutputMarkers.journal, in: new)
    }
    let listing: OutputListing?
    if try new.holdsFile(OutputMarkers.manifest) {
      listing = try Self.listing(of: new)
    } else {
      listing = journal == nil ? nil : try JournalContents.ours(in: new)?.0
    }
    if let listing {
      // Only this toolkit writes there, so finished names are ours too.
      try new.removeFiles(listing.finished + listing.temporary.filter { $0 != OutputMarkers.journal })
      for part in listing.parts.reversed() { try new.removeDirectoryIfEmpty(part) }
    }
    try new.removeFiles([OutputMarkers.journal, OutputMarkers.journal + temporarySuffix])
    withExtendedLifetime(journal) {}
    guard try output.removeDirectoryIfEmpty(Self.newName) else {
      throw CheckpointError(
        .cannotCreate, "holds something that was not written by step3-convert", path: new.path,
        remedy: "remove it yourself, or choose another output")
    }
  }
}

extension HeldDirectory {
  /// Moves a file to another directory, where nothing may have that name.
  ///
  /// - Throws: `.inputOutput`.
  fileprivate func give(
    _ from: String, _ name: String, in target: HeldDirectory
  ) throws(CheckpointError) {
    guard try !rename(from, to: name, in: target, replacing: false) else { return }
    throw CheckpointError(
      .inputOutput, "something with that name already exists", path: target.path(of: name),
      remedy: "move it away yourself")
  }
}
