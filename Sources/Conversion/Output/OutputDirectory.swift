internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// The directory that a conversion writes, from the first reservation of space to the manifest.
///
/// While it is being written, a journal lies in it (and a marker in each part), and weight files bear the suffix
/// `.unfinished`: neither this toolkit nor an engine takes it for a checkpoint. Finishing syncs and renames the files,
/// then writes the manifests, the root's last. Nothing is written over that this conversion did not make.
struct OutputDirectory {
  /// OUTPUT itself, or the directory in it where its replacement grows.
  let root: HeldDirectory
  let plan: ShardPlan
  let listing: OutputListing

  init(_ root: HeldDirectory, _ plan: ShardPlan) {
    self.root = root
    self.plan = plan
    listing = OutputListing(plan)
  }

  /// The name of a file of the plan while it is being written.
  func unfinished(_ file: ShardPlan.File) -> String { file.path + OutputMarkers.unfinishedSuffix }
}

// MARK: - Finishing

extension OutputDirectory {
  /// Makes weight files durable and gives them their names. The journal says before that they are given.
  ///
  /// - Throws: `.inputOutput`.
  func finish(_ outputs: [OutputFile], _ journal: AppendFile) throws(CheckpointError) {
    for output in outputs { try output.synchronize() }
    try journal.append(JournalFormat.frame(.finishing))
    try journal.synchronize()
    for file in plan.files { try root.give(unfinished(file), file.path) }
  }

  /// Writes the documents and copies of the plan, and says what is in them.
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
    try source.open(copy.from).readBytes(0..<copy.bytes)
  }

  private func write(_ bytes: [UInt8], to name: String) throws(CheckpointError) -> Manifest.FileRecord {
    try root.writeAtomically(bytes, to: name, replacing: false)
    var xxh3 = XXH3Digester()
    var sha256 = SHA256Digester()
    xxh3.update(bytes)
    sha256.update(bytes)
    return Manifest.FileRecord(
      path: name, bytes: bytes.count, xxh3: "\(xxh3.finalize())", sha256: "\(sha256.finalize())")
  }

  /// Writes the manifests, the root's last, and takes the journals away: the output is complete.
  ///
  /// - Throws: `.inputOutput`.
  func complete(_ manifest: Manifest) throws(CheckpointError) {
    for part in plan.parts where !part.directory.isEmpty {
      guard let directory = try root.directory(part.directory) else { continue }
      try seal(directory, manifest.restricted(to: part))
    }
    for folder in listing.folders {
      try root.removeFiles([joinPath(folder, OutputMarkers.journal)])
      try root.directory(folder)?.synchronize()
    }
    try seal(root, manifest)
  }

  private func seal(_ directory: HeldDirectory, _ manifest: Manifest) throws(CheckpointError) {
    try directory.synchronize()
    try directory.writeAtomically(manifest.text, to: OutputMarkers.manifest, replacing: false)
    try directory.synchronize()
    try directory.removeFile(OutputMarkers.journal)
    try directory.synchronize()
  }
}
