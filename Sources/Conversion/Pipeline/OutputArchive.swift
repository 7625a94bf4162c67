internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import ParallelWork
internal import ShardPlanning
internal import Synchronization
internal import TensorFormats

/// Archives output files as soon as they are complete, one after the other, while further ones are written.
///
/// A file exists twice only while it is being archived. It is archived, synced, recorded in the journal and renamed,
/// and only then is its plain form removed: an interruption at any point can be resumed.
final class OutputArchive: Sendable {
  private let directory: OutputDirectory
  private let outputs: [OutputFile]
  private let journal: Journal
  private let work: ParallelWork
  private let advance: @Sendable (_ bytes: Int) -> Void
  private let input = LaneInput<Int>()
  /// One for each file that is waiting or being archived.
  private let places = Permits(OutputArchive.mostWaiting)
  private let archived: Mutex<[Int: ArchiveManifest.File]>

  /// How many complete files may exist before fetching pauses: the disk has to hold these besides the archive.
  private static let mostWaiting = 2

  /// - Parameters:
  ///   - archived: The files that an earlier run archived, by their indices.
  ///   - memory: For the pieces in progress.
  ///   - advance: Called with the number of bytes of an output file that have been archived.
  init(
    _ directory: OutputDirectory, _ opened: OutputDirectory.Opened, _ journal: Journal, threads: Int,
    memory: Int,
    advance: @escaping @Sendable (_ bytes: Int) -> Void
  ) {
    self.directory = directory
    outputs = opened.outputs
    self.journal = journal
    work = FileArchiver.work(threads: threads, memory: memory)
    self.advance = advance
    // Files that no longer exist are archived again.
    archived = Mutex(opened.archived.filter { opened.outputs[$0.key].isFinished })
  }

  /// Takes a complete file. Waits if too many are waiting.
  func put(_ file: Int) async throws {
    try await places.take()
    input.put(file)
  }

  /// No more will come.
  func finish() { input.finish() }

  /// Waits until fetching may continue.
  func room() async throws {
    try await places.take()
    places.giveBack()
  }

  /// Archives files until no more will come.
  func run() async throws {
    for await file in input.elements {
      try await archive(file)
      places.giveBack()
    }
    try Task.checkCancellation()
  }

  private func archive(_ index: Int) async throws {
    let file = directory.plan.files[index]
    guard archived.withLock({ $0[index] }) == nil else {
      advance(file.bytes)
      return
    }
    let (root, plain) = (directory.root, directory.unfinished(file))
    let stored = directory.listing.stored(file.path)
    let growing = stored + OutputMarkers.unfinishedSuffix
    let source = try InputFile(plain, in: root)
    let tensors = file.tensors.map { (range: $0.offset..<$0.offset + $0.bytes, elementType: $0.elementType) }
    guard let layout = ArchiveLayout(byteCount: file.bytes, tensors: tensors) else {
      preconditionFailure("tensors of a plan do not overlap")
    }
    let sections = try await FileArchiver.plan(source, layout: layout, work: work).sections
    let description = try await FileArchiver(
      source: source, sections: sections, work: work, monitor: WorkMonitor(advance: advance)
    ).run(into: growing, in: root, path: file.path)
    try await journal.add(description, ofArchived: index)
    try root.give(growing, stored)
    try root.synchronize(with: directory.listing.parts)
    try root.removeFile(plain)
    try outputs[index].giveUpSpace()
    archived.withLock { $0[index] = description }
  }

  /// The weight files' entries in the archive's manifest.
  ///
  /// - Parameter digests: What was written, in the order of the files.
  /// - Throws: `.inputOutput` if the archived bytes were not those.
  func files(_ digests: [FileDigests]) throws(CheckpointError) -> [ArchiveManifest.File] {
    let archived = archived.withLock { $0 }
    var files: [ArchiveManifest.File] = []
    for (index, digests) in digests.enumerated() {
      guard let file = archived[index] else { preconditionFailure("not archived") }
      guard file.sha256 == "\(digests.sha256)" else {
        throw CheckpointError(
          .inputOutput,
          "does not hold what was written: its SHA-256 is \(file.sha256), not \(digests.sha256)",
          path: directory.root.path(of: file.stored),
          remedy: "remove this file, and run the same command with --resume")
      }
      files.append(file)
    }
    return files
  }
}
