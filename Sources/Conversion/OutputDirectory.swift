internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// The directory that a conversion writes, from the first reservation of space to the manifest.
///
/// While it is being written, a journal lies in it (and a marker in each part), and weight files bear the suffix
/// `.unfinished`: neither this toolkit nor an engine takes it for a checkpoint. Finishing syncs and renames the files,
/// then writes the manifests, the root's last. Nothing that was there before is touched without permission.
struct OutputDirectory {
  let path: String
  let plan: ShardPlan

  /// Where the parts are; none for an unpartitioned model, which is the output itself.
  var partPaths: [String] { plan.parts.filter { !$0.directory.isEmpty }.map { "\(path)/\($0.directory)" } }

  var journalPath: String { "\(path)/\(OutputMarkers.journal)" }

  /// Where a file of the plan is while it is being written.
  func unfinishedPath(of file: ShardPlan.File) -> String {
    "\(path)/\(file.path)\(OutputMarkers.unfinishedSuffix)"
  }

  func finishedPath(of file: ShardPlan.File) -> String { "\(path)/\(file.path)" }
}

// MARK: - Finishing

extension OutputDirectory {
  /// Makes weight files durable and gives them their names.
  func finish(_ outputs: [OutputFile]) throws(CheckpointError) {
    for (file, output) in zip(plan.files, outputs) {
      try output.synchronize()
      try FileSystem.rename(unfinishedPath(of: file), to: finishedPath(of: file))
    }
  }

  /// Writes the documents and copies of the plan, and says what is in them.
  func writeDocuments(from source: String) throws(CheckpointError) -> [Manifest.FileRecord] {
    var records: [Manifest.FileRecord] = []
    for part in plan.parts {
      for document in part.documents {
        records.append(try write(Array(document.text.utf8), to: document.path))
      }
      for copy in part.copies {
        let file = try InputFile("\(source)/\(copy.from)")
        records.append(try write(file.readBytes(0..<copy.bytes), to: copy.path))
      }
    }
    return records
  }

  private func write(_ bytes: [UInt8], to name: String) throws(CheckpointError) -> Manifest.FileRecord {
    try FileSystem.writeAtomically(bytes, to: "\(path)/\(name)")
    var xxh3 = XXH3Digester()
    var sha256 = SHA256Digester()
    xxh3.update(bytes)
    sha256.update(bytes)
    return Manifest.FileRecord(
      path: name, bytes: bytes.count, xxh3: "\(xxh3.finalize())", sha256: "\(sha256.finalize())")
  }

  /// Writes the manifests, the root's last, and takes the journals away: the output is complete.
  func complete(_ manifest: Manifest) throws(CheckpointError) {
    for part in plan.parts where !part.directory.isEmpty {
      try seal("\(path)/\(part.directory)", manifest.restricted(to: part))
    }
    try seal(path, manifest)
  }

  private func seal(_ directory: String, _ manifest: Manifest) throws(CheckpointError) {
    try FileSystem.synchronizeDirectory(directory)
    try FileSystem.writeAtomically(manifest.text, to: "\(directory)/\(OutputMarkers.manifest)")
    try FileSystem.synchronizeDirectory(directory)
    try FileSystem.removeFile("\(directory)/\(OutputMarkers.journal)")
    try FileSystem.synchronizeDirectory(directory)
  }
}
