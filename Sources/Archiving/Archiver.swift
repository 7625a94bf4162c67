public import Archives
internal import ByteStreams
internal import Checkpoint
internal import Conversion
internal import GGUF
internal import JSON
public import ParallelWork
internal import Safetensors
public import TensorFormats

/// Archives a directory: weight files are compressed losslessly, all others copied.
public struct Archiver: Sendable {
  private let listing: SourceListing
  private let options: ArchivingOptions

  /// Lists the files to archive.
  ///
  /// - Throws: `.notFound` if there is no such directory, `.unfinished`, `.unsupported` or `.invalidRequest` if it cannot
  ///   be archived.
  public init(_ source: String, options: ArchivingOptions) throws(CheckpointError) {
    listing = try SourceListing(source)
    self.options = options
  }

  /// The total size of all files, which a monitor's `advance` calls add up to.
  public var bytes: Int { listing.bytes }

  /// The outcome of a run.
  public struct Outcome: Sendable {
    /// The manifest as written.
    public let manifest: ArchiveManifest
    /// Files that an earlier run had finished.
    public let reusedFiles: Int
    /// Whether the archive was complete before.
    public let wasComplete: Bool
  }

  /// Archives into `output`, which must not exist unless resuming.
  ///
  /// Memory: about `options.memory`, and some 100 bytes for each tensor.
  ///
  /// - Parameter warn: Called with warnings about the source.
  /// - Throws: ``CheckpointError``: `.cannotCreate` if the output path is taken, `.inputOutput` for a full disk,
  ///   `.sourceChanged` if a file changes while it is read, `.invalidRequest` if a different job was started there;
  ///   `CancellationError` if the task is cancelled. The output then stays marked as unfinished, and finished work
  ///   is kept.
  public func run(
    into output: String, monitor: WorkMonitor = WorkMonitor(),
    warn: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws -> Outcome {
    let work: WorkDirectory
    // Weights shrink, but it is not known yet by how much.
    let kept = listing.files.reduce(0) { $0 + ($1.isWeights ? 0 : $1.bytes) }
    switch try WorkDirectory.open(
      output, source: listing.root, identity: try identity(), completedBy: ArchiveManifest.fileName,
      bytes: kept,
      resume: options.resume)
    {
    case .working(let opened): work = opened
    case .complete(let root):
      let manifest = try ArchiveDirectory.read(InputFile(ArchiveManifest.fileName, in: root))
      guard manifest.files.map(\.path) == listing.files.map(\.path),
        manifest.files.map(\.bytes) == listing.files.map(\.bytes)
      else {
        throw CheckpointError(
          .cannotCreate, "is the archive of another directory", path: output, remedy: "choose another output")
      }
      return Outcome(manifest: manifest, reusedFiles: manifest.files.count, wasComplete: true)
    }
    let plans = try await plan(except: work.finished, warn)
    try checkRoom(for: missing(plans, work), in: work.root.freeSpace, path: output)
    try work.createDirectories(above: listing.files.map(\.stored), and: listing.emptyDirectories)
    var records: [ArchiveManifest.File] = []
    var reused = 0
    // Without this file, nothing treats the directory as complete output.
    let last = OutputMarkers.manifest
    for file in listing.files.filter({ $0.path != last }) + listing.files.filter({ $0.path == last }) {
      try Task.checkCancellation()
      monitor.item(file.path)
      if let record = try work.record(of: file.stored) {
        records.append(try ArchiveManifest.File(record))
        reused += 1
        monitor.advance(file.bytes)
        continue
      }
      let source = try open(file)
      if let sections = plans[file.path]?.sections {
        let record = try await FileArchiver(
          source: source, sections: sections, work: options.work, monitor: monitor
        ).run(into: WorkDirectory.unfinished(file.stored), in: work.root, path: file.path)
        try work.finish(file.stored, record)
        records.append(record)
      } else {
        records.append(try copy(file, source, into: work, monitor))
      }
    }
    let manifest = ArchiveManifest(
      tool: toolkitVersion, zstd: PieceEncoder.libraryVersion, files: records.sorted { $0.path < $1.path },
      directories: listing.emptyDirectories)
    try work.complete((ArchiveManifest.fileName, manifest.text))
    return Outcome(manifest: manifest, reusedFiles: reused, wasComplete: false)
  }

  private func open(_ file: SourceListing.File) throws(CheckpointError) -> InputFile {
    let source = try InputFile("\(listing.root)/\(file.path)")
    guard source.byteCount == file.bytes else {
      throw CheckpointError(
        .sourceChanged, "had \(file.bytes) bytes and has \(source.byteCount)", path: source.path,
        remedy: "archive it when nothing is writing to it")
    }
    return source
  }
}

// MARK: - Planning

extension Archiver {
  private struct PlannedFile: Sendable {
    let sections: [PlannedSection]
    /// The estimated compressed size.
    let estimatedBytes: Int
  }

  /// The identity of the source on one line: names, sizes and the beginning of each file.
  private func identity() throws(CheckpointError) -> String {
    struct Identity: Encodable {
      var job = "archive"
      let tool: String
      let zstd: String
      var files: [File] = []
      struct File: Encodable {
        let path: String
        let bytes: Int
        let start: String
      }
    }
    var identity = Identity(tool: toolkitVersion, zstd: PieceEncoder.libraryVersion)
    for file in listing.files {
      let source = try open(file)
      var digester = XXH3Digester()
      digester.update(try source.readBytes(0..<min(file.bytes, 1 << 16)))
      identity.files.append(.init(path: file.path, bytes: file.bytes, start: "\(digester.finalize())"))
    }
    return JSONText.compact(identity)
  }

  /// Chooses a method for each tensor of each weight file.
  private func plan(
    except finished: [String: JSONValue], _ warn: @escaping @Sendable (String) -> Void
  ) async throws -> [String: PlannedFile] {
    var plans: [String: PlannedFile] = [:]
    for file in listing.files where file.isWeights && finished[file.stored] == nil {
      let source = try open(file)
      let layout = try layout(of: file, source, warn)
      let planned = try await FileArchiver.plan(source, layout: layout, work: options.work)
      plans[file.path] = PlannedFile(sections: planned.sections, estimatedBytes: planned.estimatedBytes)
    }
    return plans
  }

  /// The layout of a file's tensors. A file that cannot be parsed is archived anyway.
  private func layout(
    of file: SourceListing.File, _ source: InputFile, _ warn: (String) -> Void
  ) throws(CheckpointError) -> ArchiveLayout {
    do throws(CheckpointError) {
      let tensors: [(range: Range<Int>, elementType: ElementType)] =
        file.path.hasSuffix(".gguf")
        ? try GGUFHeader.read(from: source).tensors.map { ($0.byteRange, $0.elementType) }
        : try SafetensorsHeader.read(from: source).tensors.map { ($0.byteRange, $0.elementType) }
      return ArchiveLayout(byteCount: file.bytes, tensors: tensors) ?? ArchiveLayout(byteCount: file.bytes)
    } catch {
      guard error.code != .inputOutput else { throw error }
      warn("\(error) (archived as bytes of unknown structure)")
      return ArchiveLayout(byteCount: file.bytes)
    }
  }

  /// The space still needed, estimated from samples and rounded down, so that a run is never refused wrongly.
  private func missing(_ plans: [String: PlannedFile], _ work: WorkDirectory) throws(CheckpointError) -> Int {
    var bytes = 0
    for file in listing.files where work.finished[file.stored] == nil {
      let there = try work.root.entry(WorkDirectory.unfinished(file.stored))?.bytes ?? 0
      let estimate = plans[file.path].map { $0.estimatedBytes / 100 * 97 } ?? file.bytes
      bytes += max(0, estimate - there)
    }
    return bytes
  }

  /// Copies a file unchanged.
  private func copy(
    _ file: SourceListing.File, _ source: InputFile, into work: WorkDirectory, _ monitor: WorkMonitor
  ) throws -> ArchiveManifest.File {
    let unfinished = WorkDirectory.unfinished(file.stored)
    try work.root.removeFile(unfinished)
    let output = try OutputFile(unfinished, in: work.root, byteCount: file.bytes)
    var sha256 = SHA256Digester()
    for start in stride(from: 0, to: file.bytes, by: FileArchiver.batchByteCount) {
      try Task.checkCancellation()
      let bytes = try source.readBytes(start..<min(file.bytes, start + FileArchiver.batchByteCount))
      sha256.update(bytes)
      try output.write(bytes, at: start)
      monitor.advance(bytes.count)
    }
    try output.synchronize()
    let record = ArchiveManifest.File(
      path: file.path, bytes: file.bytes, sha256: "\(sha256.finalize())", stored: file.stored,
      storedBytes: file.bytes, methods: [])
    try work.finish(file.stored, record)
    return record
  }
}
