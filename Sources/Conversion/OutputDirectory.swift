internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// The directory that a conversion writes, from the first reservation of space to the manifest.
///
/// While it is being written, a journal lies in it (and in each part), and weight files bear the suffix
/// `.unfinished`: neither this toolkit nor an engine takes it for a checkpoint. Finishing syncs and renames the files,
/// then writes the manifests, the root's last. Nothing that was there before is touched without permission.
struct OutputDirectory {
  let path: String
  let plan: ShardPlan

  private var directories: [String] {
    [path] + plan.parts.filter { !$0.directory.isEmpty }.map { "\(path)/\($0.directory)" }
  }

  /// Where a file of the plan is while it is being written.
  func unfinishedPath(of file: ShardPlan.File) -> String {
    "\(path)/\(file.path)\(OutputMarkers.unfinishedSuffix)"
  }

  private func finishedPath(of file: ShardPlan.File) -> String { "\(path)/\(file.path)" }
}

// MARK: - Beginning

extension OutputDirectory {
  /// Makes the directories and the weight files, at their full size and with their headers.
  ///
  /// - Throws: `.cannotCreate` if something is in the way, `.inputOutput` if there is not enough room.
  func begin(headers: [String: [UInt8]], overwrite: Bool) throws(CheckpointError) -> [OutputFile] {
    try clearTheWay(overwrite: overwrite)
    try checkFreeSpace()
    for directory in directories {
      try FileSystem.createDirectory(directory)
      try FileSystem.writeAtomically(journalText, to: "\(directory)/\(OutputMarkers.journal)")
      try FileSystem.synchronizeDirectory(directory)
    }
    var outputs: [OutputFile] = []
    for file in plan.files {
      guard let header = headers[file.path] else { preconditionFailure("no header for \(file.path)") }
      let output = try OutputFile(unfinishedPath(of: file), byteCount: file.bytes)
      try output.write(header, at: 0)
      outputs.append(output)
    }
    return outputs
  }

  private var journalText: [UInt8] {
    Array(
      """
      {"tool": "\(plan.tool)", "state": "unfinished", \
      "note": "step3-convert writes this directory; it is complete when manifest.json is there"}

      """.utf8)
  }

  private func clearTheWay(overwrite: Bool) throws(CheckpointError) {
    guard let kind = FileSystem.kind(of: path) else { return }
    let names = kind == .directory ? try FileSystem.names(in: path) : []
    let finished = names.contains(OutputMarkers.manifest)
    let unfinished = names.contains(OutputMarkers.journal)
    guard overwrite else {
      throw CheckpointError(
        .cannotCreate, unfinished && !finished ? "holds an unfinished conversion" : "exists already",
        path: path,
        remedy: "choose another output, or give --overwrite to replace it")
    }
    // Only what a conversion wrote is removed: a slip of the finger must not cost a home directory.
    guard kind == .directory, finished || unfinished || names.isEmpty else {
      throw CheckpointError(
        .cannotCreate, "exists and was not written by step3-convert", path: path, remedy: "remove it yourself"
      )
    }
    do {
      // Without its manifest what is left of it, should this be interrupted, is no finished output.
      try FileSystem.writeAtomically(journalText, to: "\(path)/\(OutputMarkers.journal)")
      try FileSystem.removeFile("\(path)/\(OutputMarkers.manifest)")
      try FileManager.default.removeItem(atPath: path)
    } catch {
      throw CheckpointError(.cannotCreate, "cannot be removed: \(error)", path: path)
    }
  }

  private func checkFreeSpace() throws(CheckpointError) {
    let parent = splitPath(path).directory
    guard FileSystem.kind(of: parent) == .directory else {
      throw CheckpointError(.cannotCreate, "there is no directory to create it in", path: path)
    }
    guard let free = FileSystem.freeSpace(at: parent), free < plan.outputBytes else { return }
    throw CheckpointError(
      .inputOutput, "\(plan.outputBytes) bytes are needed, \(free) are free", path: path,
      remedy: "free \(plan.outputBytes - free) bytes or choose another disk")
  }
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
