internal import ByteStreams
internal import Checkpoint
internal import ParallelWork
internal import ShardPlanning
internal import TensorFormats

/// Reads the files of a finished output once more and compares them with its manifest, by sizes and XXH3: what a manifest
/// lists may have been removed or overwritten since.
struct FinishedFiles: Sendable {
  private let manifest: Manifest
  private let output: any ByteStore

  /// - Parameter output: Where the files are, as they were before they were archived.
  init(_ manifest: Manifest, in output: any ByteStore) {
    self.manifest = manifest
    self.output = output
  }

  /// Memory: four megabytes for each file under way.
  ///
  /// - Parameters:
  ///   - threads: How many files are under way at a time.
  ///   - progress: Called from any thread.
  /// - Throws: `.digestMismatch` naming a file that is not what was written, `.inputOutput`, `CancellationError`.
  func check(threads: Int, _ progress: @escaping @Sendable (ConversionProgress) -> Void) async throws {
    for part in manifest.plan.parts where !part.directory.isEmpty {
      let name = joinPath(part.directory, OutputMarkers.manifest)
      guard try output.kind(of: name) == .file else { throw damage("it lacks \(name.printable)") }
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
      throw damage("it lacks \(name)")
    }
    guard file.byteCount == record.bytes else {
      throw damage("\(name) has \(file.byteCount) bytes, and had \(record.bytes)")
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
    guard "\(digester.finalize())" == record.xxh3 else { throw damage("\(name) has other bytes") }
  }

  private func damage(_ message: String) -> CheckpointError {
    CheckpointError(
      .digestMismatch, "this output was complete and is not whole any more: \(message)", path: output.path,
      remedy: "step3-verify checksums names all that is wrong; --overwrite makes it again")
  }
}
