internal import ByteStreams
internal import Checkpoint
internal import ParallelWork
internal import ShardPlanning
internal import TensorFormats

/// Rereads the files of a finished output and compares them with its manifest, by size and XXH3: they may have been
/// removed or overwritten since.
struct FinishedFiles: Sendable {
  private let manifest: Manifest
  private let output: any ByteStore

  /// - Parameter output: The files as they were before archiving.
  init(_ manifest: Manifest, in output: any ByteStore) {
    self.manifest = manifest
    self.output = output
  }

  /// Memory: four megabytes for each file under way.
  ///
  /// - Parameters:
  ///   - threads: How many files to read at the same time.
  ///   - progress: Called from any thread.
  /// - Throws: `.digestMismatch` naming a file that has changed, `.inputOutput`, `CancellationError`.
  func check(threads: Int, _ progress: @escaping @Sendable (ConversionProgress) -> Void) async throws {
    for part in manifest.plan.parts where !part.directory.isEmpty {
      let name = joinPath(part.directory, OutputMarkers.manifest)
      guard try output.kind(of: name) == .file else { throw damage("\(name.printable) is missing") }
    }
    try await ParallelWork(threads: threads).run(manifest.files, delivering: .asFinished) { record in
      try check(record) { progress(ConversionProgress(bytes: $0, tensor: record.path)) }
    } takeIn: { _, _ in
    }
  }

  private func check(_ record: Manifest.FileRecord, _ progress: (Int) -> Void) throws {
    let name = record.path.printable
    let file: any ByteSource
    do throws(CheckpointError) {
      file = try output.open(record.path)
    } catch {
      guard error.code == .notFound else { throw error }
      throw damage("\(name) is missing")
    }
    guard file.byteCount == record.bytes else {
      throw damage("\(name) has \(file.byteCount) bytes, but had \(record.bytes)")
    }
    let buffer = BufferPool(keep: 0).take(min(4 << 20, max(1, record.bytes)))
    var digester = XXH3Digester()
    var position = 0
    while position < record.bytes {
      try Task.checkCancellation()
      let count = min(buffer.byteCount, record.bytes - position)
      try buffer.fill { (span) throws(CheckpointError) in
        var piece = span._mutatingExtracting(first: count)
        try file.read(into: &piece, at: position)
      }
      digester.update(buffer.bytes.extracting(0..<count))
      position += count
      progress(count)
    }
    guard "\(digester.finalize())" == record.xxh3 else { throw damage("the bytes of \(name) have changed") }
  }

  private func damage(_ message: String) -> CheckpointError {
    CheckpointError(
      .digestMismatch, "this output was complete, but has been damaged since: \(message)", path: output.path,
      remedy: "step3-verify checksums lists all damage; --overwrite converts again")
  }
}
