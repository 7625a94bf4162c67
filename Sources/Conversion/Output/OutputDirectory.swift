internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// The directory that a conversion writes, from the first reservation of space to the manifest.
///
/// While it is being written, it holds a journal (and each part a marker), and weight files have the suffix
/// `.unfinished`: neither this toolkit nor an engine takes it for a checkpoint. Finishing syncs and renames the files,
/// then writes the manifests, the root's last. Nothing is overwritten that this conversion did not create.
struct OutputDirectory: Sendable {
  /// OUTPUT itself, or the directory in it where its replacement grows.
  let root: HeldDirectory
  let plan: ShardPlan
  let listing: OutputListing

  init(_ root: HeldDirectory, _ plan: ShardPlan, isArchive: Bool) {
    self.root = root
    self.plan = plan
    listing = OutputListing(plan, isArchive: isArchive)
  }

  /// The name of a file of the plan while it is being written.
  func unfinished(_ file: ShardPlan.File) -> String { file.path + OutputMarkers.unfinishedSuffix }
}

// MARK: - Finishing

extension OutputDirectory {
  /// Syncs weight files and gives them their final names, after recording that in the journal. Files of an archive
  /// already have theirs.
  ///
  /// - Throws: `.inputOutput`.
  func finish(_ outputs: [OutputFile], _ journal: AppendFile) throws(CheckpointError) {
    if !listing.isArchive { for output in outputs { try output.synchronize() } }
    try journal.append(JournalFormat.frame(.finishing))
    try journal.synchronize()
    guard !listing.isArchive else { return }
    for file in plan.files { try root.give(unfinished(file), file.path) }
  }

  /// Writes the documents and copies of the plan, and returns their records.
  ///
  /// - Throws: `.inputOutput`; of a copy's source also `.notFound`.
  func writeDocuments(from source: any ByteStore) throws(CheckpointError) -> [Manifest.FileRecord] {
    var records: [Manifest.FileRecord] = []
    for part in plan.parts {
      for document in part.documents {
        records.append(try write(Array(document.text.utf8), to: document.path))
      }
      for copy in part.copies { records.append(try write(Self.read(copy, from: source), to: copy.path)) }
    }
    return records
  }

  static func read(_ copy: ShardPlan.Copy, from source: any ByteStore) throws(CheckpointError) -> [UInt8] {
    let file = try source.open(copy.from)
    guard file.byteCount == copy.bytes else {
      throw CheckpointError(
        .sourceChanged, "has \(file.byteCount) bytes, but had \(copy.bytes) when the conversion was planned",
        path: file.path, remedy: "restore it and continue with --resume, or start afresh with --overwrite")
    }
    return try file.readBytes(0..<copy.bytes)
  }

  private func write(_ bytes: [UInt8], to name: String) throws(CheckpointError) -> Manifest.FileRecord {
    try root.writeAtomically(bytes, to: name, replacing: false)
    let digests = FileDigests(of: bytes)
    return Manifest.FileRecord(
      path: name, bytes: bytes.count, xxh3: "\(digests.xxh3)", sha256: "\(digests.sha256)")
  }

  /// Writes the manifests, the root's last, and removes the journals: the output is then complete.
  ///
  /// - Parameter archived: What the archive holds for the weight files; `nil` if the output is not an archive.
  /// - Returns: The root manifest as written, and the archive's, which is written before it.
  /// - Throws: `.inputOutput`.
  func complete(
    _ manifest: Manifest, archived: [ArchiveManifest.File]?
  ) throws(CheckpointError) -> (manifest: Manifest, archive: ArchiveManifest?) {
    for part in plan.parts where !part.directory.isEmpty {
      guard let directory = try root.directory(part.directory) else { continue }
      _ = try seal(directory, manifest.restricted(to: part))
    }
    let archive = archived.map { archiveManifest(manifest, $0) }
    if let archive {
      try root.writeAtomically(archive.text, to: ArchiveManifest.fileName, replacing: false)
    }
    for folder in listing.folders {
      try root.removeFiles([joinPath(folder, OutputMarkers.journal)])
      try root.directory(folder)?.synchronize()
    }
    return (try seal(root, manifest), archive)
  }

  /// Describes the output as an archive, as if it had been archived after a plain conversion.
  private func archiveManifest(_ manifest: Manifest, _ archived: [ArchiveManifest.File]) -> ArchiveManifest {
    func kept(_ path: String, _ bytes: Int, _ sha256: String) -> ArchiveManifest.File {
      ArchiveManifest.File(
        path: path, bytes: bytes, sha256: sha256, stored: path, storedBytes: bytes, methods: [])
    }
    func kept(_ manifest: Manifest, in directory: String) -> ArchiveManifest.File {
      let text = manifest.sealed.text
      var sha256 = SHA256Digester()
      sha256.update(text)
      return kept(joinPath(directory, OutputMarkers.manifest), text.count, "\(sha256.finalize())")
    }
    let weights = Set(plan.files.map(\.path))
    var files = archived
    files += manifest.files.filter { !weights.contains($0.path) }.map { kept($0.path, $0.bytes, $0.sha256) }
    files += plan.parts.filter { !$0.directory.isEmpty }.map {
      kept(manifest.restricted(to: $0), in: $0.directory)
    }
    files.append(kept(manifest, in: ""))
    return ArchiveManifest(
      tool: toolkitVersion, zstd: PieceEncoder.libraryVersion, files: files.sorted { $0.path < $1.path },
      directories: [])
  }

  private func seal(_ directory: HeldDirectory, _ manifest: Manifest) throws(CheckpointError) -> Manifest {
    let (sealed, text) = manifest.sealed
    try directory.synchronize()
    try directory.writeAtomically(text, to: OutputMarkers.manifest, replacing: false)
    try directory.synchronize()
    try directory.removeFile(OutputMarkers.journal)
    try directory.synchronize()
    return sealed
  }
}
