public import Archives
internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import JSON
public import ParallelWork
internal import Safetensors
internal import Synchronization
public import TensorFormats

/// Restores the original of an archive, or checks that it can be restored, by the SHA-256 of every file.
public struct Restorer: Sendable {
  private let archive: ArchiveDirectory
  private let options: ArchivingOptions

  /// Opens an archive.
  ///
  /// - Throws: `.notFound` if there is no archive, `.unfinished` if it is incomplete, `.malformed` or `.unsupported` if
  ///   its manifest cannot be read.
  public init(_ path: String, options: ArchivingOptions) throws(CheckpointError) {
    if try FileSystem.kind(of: "\(path)/\(OutputMarkers.journal)") == .file,
      try FileSystem.kind(of: "\(path)/\(ArchiveManifest.fileName)") == nil
    {
      throw CheckpointError(
        .unfinished, "this is the unfinished output of an interrupted command", path: path,
        remedy: "finish it with --resume first")
    }
    guard let archive = try ArchiveDirectory(in: DirectoryStore(path)) else {
      throw CheckpointError(
        .notFound, "is not an archive: there is no \(ArchiveManifest.fileName)", path: path,
        remedy:
          "name a directory that step3-convert archive wrote; unpack other tools' files with zstd -d")
    }
    self.archive = archive
    self.options = options
  }

  /// The archive's contents.
  public var manifest: ArchiveManifest { archive.manifest }

  /// Restores into `output`, which must not exist unless resuming. No file gets its final name before its SHA-256 has
  /// been verified. When resuming, a directory that is already complete, by the SHA-256 of all its files, is left
  /// unchanged.
  ///
  /// Memory: about `options.memory`, and 16 bytes for each piece of a file.
  ///
  /// - Throws: ``CheckpointError``: `.malformed` or `.truncated` for damage, naming the file and the byte offset;
  ///   `.cannotCreate`, `.inputOutput`, `.invalidRequest`; `CancellationError`. The output then stays marked as
  ///   unfinished, and finished work is kept.
  public func run(into output: String, monitor: WorkMonitor = WorkMonitor()) async throws {
    if options.resume, try await isRestored(output, monitor) { return }
    let work: WorkDirectory
    switch try WorkDirectory.open(
      output, source: archive.path, identity: identity(), completedBy: nil, bytes: manifest.bytes,
      resume: options.resume)
    {
    case .working(let opened): work = opened
    case .complete: return
    }
    try work.createDirectories(above: archive.manifest.files.map(\.path), and: manifest.directories)
    let last = OutputMarkers.manifest
    for file in manifest.files.filter({ $0.path != last }) + manifest.files.filter({ $0.path == last }) {
      try Task.checkCancellation()
      monitor.item(file.path)
      if try work.record(of: file.path) != nil {
        monitor.advance(file.bytes)
        continue
      }
      let unfinished = WorkDirectory.unfinished(file.path)
      try work.root.removeFile(unfinished)
      let target = try OutputFile(unfinished, in: work.root, byteCount: file.bytes)
      try await read(file, monitor) { bytes, offset throws(CheckpointError) in
        try target.write(bytes, at: offset)
      }
      try target.synchronize()
      try work.finish(file.path, Restored(stored: file.path, storedBytes: file.bytes))
    }
    try work.complete(nil)
  }

  /// What is wrong with one file.
  public struct Finding: Sendable {
    /// Its path below the original directory.
    public let path: String
    /// The first problem found.
    public let error: CheckpointError
  }

  /// Decompresses every file and compares its SHA-256, without writing anything.
  ///
  /// - Returns: The problems found; empty if everything can be restored.
  /// - Throws: `.inputOutput` if reading fails, `CancellationError`.
  public func check(monitor: WorkMonitor = WorkMonitor()) async throws -> [Finding] {
    var findings: [Finding] = []
    for file in manifest.files {
      try Task.checkCancellation()
      monitor.item(file.path)
      do {
        try await read(file, monitor) { _, _ in }
      } catch let error as CheckpointError where error.code != .inputOutput {
        findings.append(Finding(path: file.path, error: error))
      }
    }
    return findings
  }
}

extension Restorer {
  /// A line of the journal.
  private struct Restored: Encodable {
    let stored: String
    let storedBytes: Int
  }

  /// Whether a directory without a journal has every file of the original: it does not record its source, and an
  /// interruption at the very end leaves it in this state.
  private func isRestored(_ output: String, _ monitor: WorkMonitor) async throws -> Bool {
    let store = DirectoryStore(output)
    guard try store.kind(of: "") == .directory, try !store.isTaken(OutputMarkers.journal) else {
      return false
    }
    for directory in manifest.directories where try store.kind(of: directory) != .directory { return false }
    for file in manifest.files {
      guard try store.kind(of: file.path) == .file, try store.size(of: file.path) == file.bytes else {
        return false
      }
    }
    for file in manifest.files {
      monitor.item(file.path)
      let found = try await sha256(of: file, in: store, monitor) { _, _ in }
      guard found == file.sha256 else { return false }
    }
    return !manifest.files.isEmpty
  }

  private func identity() -> String {
    struct Identity: Encodable {
      var job = "restore"
      let tool: String
      let archive: String
    }
    var digester = XXH3Digester()
    digester.update(manifest.text)
    return JSONText.compact(Identity(tool: toolkitVersion, archive: "\(digester.finalize())"))
  }

  /// Reads a file of the original, its parts in parallel, and compares its digest at the end.
  private func read(
    _ file: ArchiveManifest.File, _ monitor: WorkMonitor,
    _ body: @escaping @Sendable (_ bytes: [UInt8], _ offset: Int) throws(CheckpointError) -> Void
  ) async throws {
    let found = try await sha256(of: file, in: archive, monitor, body)
    guard found == file.sha256 else {
      throw CheckpointError(
        .malformed,
        "does not restore to the original: its SHA-256 is \(found), the manifest has \(file.sha256)",
        path: try archive.open(file.path).path, remedy: "fetch the file again")
    }
  }

  private func sha256(
    of file: ArchiveManifest.File, in store: any ByteStore, _ monitor: WorkMonitor,
    _ body: @escaping @Sendable (_ bytes: [UInt8], _ offset: Int) throws(CheckpointError) -> Void
  ) async throws -> String {
    final class Shared: Sendable {
      struct State: ~Copyable { var sha256 = SHA256Digester() }
      let lock = Mutex(State())
    }
    let shared = Shared()
    let source = try store.open(file.path)
    try await options.work.run(Self.parts(of: source)) { range in
      let bytes: [UInt8]
      do throws(CheckpointError) {
        bytes = try source.readBytes(range)
      } catch {
        throw Self.naming(error, range, of: source, file.path)
      }
      try body(bytes, range.lowerBound)
      return bytes
    } takeIn: { range, bytes in
      shared.lock.withLock { $0.sha256.update(bytes) }
      source.discardCached(range)
      monitor.advance(bytes.count)
    }
    return shared.lock.withLock { "\($0.sha256.finalize())" }
  }

  /// Adds the name of the affected tensor to an error, where the original's header is readable.
  private static func naming(
    _ error: CheckpointError, _ range: Range<Int>, of source: any ByteSource, _ path: String
  ) -> CheckpointError {
    guard error.tensor == nil, error.code != .inputOutput, let archive = source as? ArchiveSource,
      let damaged = archive.pieces.first(where: { piece in
        guard piece.overlaps(range) else { return false }
        do { _ = try source.readBytes(piece) } catch { return true }
        return false
      })
    else { return error }
    let tensors: [(name: String, range: Range<Int>)]? =
      path.hasSuffix(".gguf")
      ? (try? GGUFHeader.read(from: source))?.tensors.map { ($0.name, $0.byteRange) }
      : (try? SafetensorsHeader.read(from: source))?.tensors.map { ($0.name, $0.byteRange) }
    var named = error
    named.tensor = tensors?.first { $0.range.overlaps(damaged) }?.name
    return named
  }

  /// Whole pieces, so that none is decompressed twice.
  private static func parts(of source: any ByteSource) -> [Range<Int>] {
    guard let archive = source as? ArchiveSource else {
      return stride(from: 0, to: source.byteCount, by: FileArchiver.batchByteCount).map {
        $0..<min($0 + FileArchiver.batchByteCount, source.byteCount)
      }
    }
    var parts: [Range<Int>] = []
    for piece in archive.pieces {
      if let last = parts.last, piece.upperBound - last.lowerBound <= FileArchiver.batchByteCount {
        parts[parts.count - 1] = last.lowerBound..<piece.upperBound
      } else {
        parts.append(piece)
      }
    }
    return parts
  }
}
