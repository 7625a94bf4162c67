internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

extension OutputDirectory {
  /// An output that can be written.
  struct Opened {
    /// The journal, locked.
    let journal: AppendFile
    /// What an earlier run finished.
    let finished: FinishedUnits
    /// The files of the plan, with their headers.
    let outputs: [OutputFile]
  }

  /// How far an earlier run came.
  enum State {
    /// There is nothing, or nothing but an empty directory.
    case absent
    /// The remains of an interrupted conversion.
    case unfinished
    /// A manifest is there.
    case finished
    /// Something else.
    case foreign
  }

  /// What stands at ``path``.
  func state() throws(CheckpointError) -> State {
    guard let kind = FileSystem.kind(of: path) else { return .absent }
    guard kind == .directory else { return .foreign }
    let names = try FileSystem.names(in: path)
    if names.contains(OutputMarkers.manifest) { return .finished }
    if names.contains(OutputMarkers.journal) { return .unfinished }
    // A crash right at the start leaves a journal that had not got its name yet.
    return names.allSatisfy { $0.hasPrefix(OutputMarkers.journal) } ? .absent : .foreign
  }
}

// MARK: - Beginning

extension OutputDirectory {
  /// Makes the directories and the weight files, at their full size and with their headers.
  ///
  /// - Throws: `.cannotCreate` if something is in the way, `.inputOutput` if there is not enough room.
  func begin(
    _ identity: JournalIdentity, headers: [String: [UInt8]], overwrite: Bool, meter: Meter
  ) throws(CheckpointError) -> Opened {
    try clearTheWay(overwrite: overwrite)
    try checkFreeSpace()
    try FileSystem.createDirectory(path)
    try FileSystem.writeAtomically(
      JournalFormat.title + JournalFormat.frame(.identity, identity.text), to: journalPath)
    let journal = try AppendFile(journalPath)
    try FileSystem.synchronizeDirectory(path)
    try FileSystem.synchronizeDirectory(parent)
    try markParts()
    return Opened(
      journal: journal, finished: FinishedUnits(),
      outputs: try openFiles(headers: headers, meter: meter))
  }

  private var parent: String { splitPath(path).directory }

  /// Has every part say that it is unfinished.
  private func markParts() throws(CheckpointError) {
    for part in partPaths {
      try FileSystem.createDirectory(part)
      try mark(part)
    }
    if !partPaths.isEmpty { try FileSystem.synchronizeDirectory(path) }
  }

  /// Has a directory say that it is unfinished, whatever is in it.
  private func mark(_ directory: String) throws(CheckpointError) {
    try FileSystem.writeAtomically(JournalFormat.title, to: "\(directory)/\(OutputMarkers.journal)")
    try FileSystem.synchronizeDirectory(directory)
    try FileSystem.removeFile("\(directory)/\(OutputMarkers.manifest)")
    try FileSystem.synchronizeDirectory(directory)
  }

  private func openFiles(headers: [String: [UInt8]], meter: Meter) throws(CheckpointError) -> [OutputFile] {
    var outputs: [OutputFile] = []
    for file in plan.files {
      guard let header = headers[file.path] else { preconditionFailure("no header for \(file.path)") }
      let unfinished = unfinishedPath(of: file)
      let size = FileSystem.size(of: unfinished)
      // Nothing of ours is longer than planned.
      if let size, size > file.bytes { try FileSystem.removeFile(unfinished) }
      let reopening = size.map { $0 <= file.bytes } ?? false
      let output = try OutputFile(unfinished, byteCount: file.bytes, reopening: reopening, meter: meter)
      try output.write(header, at: 0)
      if reopening { try clearPadding(of: file, output) }
      outputs.append(output)
    }
    return outputs
  }

  /// Padding is the only part of a file that neither a header nor a unit writes: new files have zeros there.
  private func clearPadding(of file: ShardPlan.File, _ output: OutputFile) throws(CheckpointError) {
    var end = file.dataOffset
    for tensor in file.tensors {
      try output.write([UInt8](repeating: 0, count: max(0, tensor.offset - end)), at: end)
      end = tensor.offset + tensor.bytes
    }
    try output.write([UInt8](repeating: 0, count: max(0, file.bytes - end)), at: end)
  }

  private func clearTheWay(overwrite: Bool) throws(CheckpointError) {
    let state = try state()
    guard overwrite else {
      guard FileSystem.kind(of: path) != nil else { return }
      let unfinished = if case .unfinished = state { true } else { false }
      throw CheckpointError(
        .cannotCreate, unfinished ? "holds an unfinished conversion" : "exists already", path: path,
        remedy: unfinished
          ? "give --resume to go on with it, or --overwrite to replace it"
          : "choose another output, or give --overwrite to replace it")
    }
    switch state {
    case .absent: break
    case .finished, .unfinished: try removeEarlierOutput()
    case .foreign:
      // Only what a conversion wrote is removed: a slip of the finger must not cost a home directory.
      throw CheckpointError(
        .cannotCreate, "exists and was not written by step3-convert", path: path, remedy: "remove it yourself"
      )
    }
  }

  /// Removes an output in an order that never leaves anything that looks complete: the journal goes last.
  private func removeEarlierOutput() throws(CheckpointError) {
    let lock: AppendFile?
    if FileSystem.kind(of: journalPath) == .file {
      lock = try AppendFile(journalPath)
      try lock?.truncate(to: 0)
      try lock?.append(JournalFormat.title)
      try lock?.synchronize()
      try FileSystem.removeFile("\(path)/\(OutputMarkers.manifest)")
    } else {
      try mark(path)
      lock = try AppendFile(journalPath)
    }
    let names = try FileSystem.names(in: path)
    for name in names where FileSystem.kind(of: "\(path)/\(name)") == .directory {
      // A link leads to somebody else's directory.
      let isLink = (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(path)/\(name)")) != nil
      if !isLink { try mark("\(path)/\(name)") }
    }
    do {
      for name in names where name != OutputMarkers.journal {
        try FileManager.default.removeItem(atPath: "\(path)/\(name)")
      }
    } catch {
      throw CheckpointError(.cannotCreate, "cannot be removed: \(error)", path: path)
    }
    try FileSystem.synchronizeDirectory(path)
    // The directory itself stays: its permissions and its place may be of somebody's choosing.
    try FileSystem.removeFile(journalPath)
    withExtendedLifetime(lock) {}
  }

  /// What is there already needs no room.
  private func checkFreeSpace() throws(CheckpointError) {
    guard FileSystem.kind(of: parent) == .directory else {
      throw CheckpointError(.cannotCreate, "there is no directory to create it in", path: path)
    }
    let needed = plan.files.reduce(0) {
      $0 + max(0, $1.bytes - (FileSystem.size(of: unfinishedPath(of: $1)) ?? 0))
    }
    guard let free = FileSystem.freeSpace(at: parent), free < needed else { return }
    throw CheckpointError(
      .inputOutput, "\(needed) bytes are needed, \(free) are free", path: path,
      remedy: "free \(needed - free) bytes or choose another disk")
  }
}

// MARK: - Going on

extension OutputDirectory {
  /// Opens what an interrupted run left, wherever it was interrupted: while it made the files, while it filled them,
  /// or while it gave them their names and wrote manifests.
  ///
  /// - Throws: `.malformed` for a damaged journal; `.sourceChanged`, `.invalidRequest` or `.unsupported` if it is
  ///   about another conversion; `.cannotCreate` if another process is writing here.
  func reopen(
    _ identity: JournalIdentity, headers: [String: [UInt8]], meter: Meter
  ) throws(CheckpointError) -> Opened {
    if FileSystem.size(of: journalPath) == JournalFormat.title.count,
      try JournalContents(path: journalPath).identity == nil
    {
      // An earlier output was being removed to make room: nothing of it is wanted.
      return try begin(identity, headers: headers, overwrite: true, meter: meter)
    }
    let journal = try AppendFile(journalPath)
    let contents = try JournalContents(path: journalPath)
    guard let text = contents.identity else {
      throw CheckpointError(.cannotCreate, "another process is writing here", path: path)
    }
    let begun = try JournalIdentity(reading: text, expecting: plan.tool, path: path)
    try begun.check(against: identity, path: path)
    if contents.letsNonFiniteThrough, !identity.allowsNonFinite {
      throw CheckpointError(
        .invalidRequest, "went on with --allow-nonfinite, which is not given now", path: path,
        remedy: "give it again, or start afresh with --overwrite")
    }
    try journal.truncate(to: contents.intactByteCount)
    if identity.allowsNonFinite, !begun.allowsNonFinite, !contents.letsNonFiniteThrough {
      try journal.append(JournalFormat.frame(.nonFinite))
    }
    try journal.synchronize()
    try markParts()
    try takeBackNames()
    try checkFreeSpace()
    return Opened(
      journal: journal, finished: contents.units, outputs: try openFiles(headers: headers, meter: meter))
  }

  /// Files that had got their names already are unfinished again until everything has been checked.
  private func takeBackNames() throws(CheckpointError) {
    for file in plan.files where FileSystem.kind(of: finishedPath(of: file)) == .file {
      try FileSystem.rename(finishedPath(of: file), to: unfinishedPath(of: file))
    }
  }

  /// Removes what a crash right after the last step left of the journals.
  func tidyFinished() throws(CheckpointError) {
    for directory in partPaths + [path] {
      try FileSystem.removeFile("\(directory)/\(OutputMarkers.journal)")
      try FileSystem.synchronizeDirectory(directory)
    }
  }
}
