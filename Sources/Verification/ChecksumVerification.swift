public import ByteStreams
internal import Checkpoint
internal import Conversion
internal import ParallelWork
internal import Synchronization
internal import ShardPlanning
public import TensorFormats

/// Compares every byte of an output directory with its manifest.
///
/// A file is compared range by range: its header, each tensor, the padding between them. Together they are the
/// whole file, each has a digest of its own in the manifest, and so all cores can work on one file and a difference has a name.
public struct ChecksumVerification: Sendable {
  private let store: any ByteStore
  private let threads: Int

  /// Prepares a check of an output with that many ranges under way at a time.
  public init(_ store: any ByteStore, threads: Int) {
    self.store = store
    self.threads = threads
  }

  /// Runs the check.
  ///
  /// - Parameter progress: Called from any thread with the bytes read since the last call, and their file.
  /// - Throws: `.notFound` if there is nothing there, `.unfinished` for the remains of an interrupted conversion,
  ///   and what a broken manifest or, without one, a broken checkpoint throws. Differences are findings, not errors.
  public func run(
    progress: @escaping @Sendable (_ bytes: Int, _ file: String) -> Void = { _, _ in }
  ) async throws -> ChecksumReport {
    guard hasManifest else { return try structureOnly() }
    let manifest = try Manifest.read(in: store)
    let (ranges, early) = try ranges(of: manifest)
    let total = ranges.reduce(0) { $0 + $1.range.count }
    let found = Mutex(early)
    try await ParallelWork(threads: threads).run(ranges, delivering: .asFinished) { range in
      range.check(in: store) { progress($0, range.file) }
    } takeIn: { _, finding in
      if let finding { found.withLock { $0.append(finding) } }
    }
    let findings = found.withLock { $0 }.sorted {
      ($0.file, $0.start ?? 0, $0.message) < ($1.file, $1.start ?? 0, $1.message)
    }
    return ChecksumReport(
      ok: !findings.contains(where: \.fatal), manifest: true, files: manifest.files.count,
      tensors: manifest.tensors.count, bytes: total, findings: findings)
  }

  /// How many bytes ``run(progress:)`` will read.
  ///
  /// - Throws: As ``run(progress:)``.
  public func byteCount() throws(CheckpointError) -> Int {
    guard hasManifest else { return 0 }
    return try Manifest.read(in: store).files.reduce(0) { $0 + $1.bytes }
  }

  /// Whether anything bears its name: what is no manifest is an error then.
  private var hasManifest: Bool { store.isTaken(OutputMarkers.manifest) }

  /// Without a manifest there is nothing to compare with; what can be said is whether the files are well-formed.
  private func structureOnly() throws(CheckpointError) -> ChecksumReport {
    let checkpoint = try Checkpoint.open(in: store)
    return ChecksumReport(
      ok: true, manifest: false, files: checkpoint.files.count, tensors: checkpoint.tensors.count, bytes: 0,
      findings: [])
  }
}

// MARK: - Ranges

extension ChecksumVerification {
  /// Everything there is to compare, and what is wrong at first sight.
  private func ranges(
    of manifest: Manifest
  ) throws(CheckpointError) -> (ranges: [CheckedRange], findings: [ChecksumReport.Finding]) {
    var ranges: [CheckedRange] = []
    var findings: [ChecksumReport.Finding] = []
    let planned = Dictionary(
      manifest.plan.files.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
    var digests: [Key: String] = [:]
    for tensor in manifest.tensors { digests[Key(file: tensor.file, tensor: tensor.name)] = tensor.xxh3 }
    for record in manifest.files {
      guard let size = store.size(of: record.path) else {
        findings.append(
          ChecksumReport.Finding(
            kind: .missing, file: record.path, message: "the file is not there", fatal: true))
        continue
      }
      if size != record.bytes {
        let comparison = size < record.bytes ? "shorter" : "longer"
        findings.append(
          ChecksumReport.Finding(
            kind: .size, file: record.path, start: min(size, record.bytes), end: max(size, record.bytes),
            message:
              "\(size) bytes, \(abs(size - record.bytes)) \(comparison) than the \(record.bytes) written",
            fatal: true))
      }
      guard let file = planned[record.path] else {
        ranges.append(CheckedRange(file: record.path, range: 0..<record.bytes, content: .digest(record.xxh3)))
        continue
      }
      ranges.append(
        CheckedRange(file: file.path, range: 0..<file.dataOffset, content: .digest(file.headerXXH3)))
      var end = file.dataOffset
      for tensor in file.tensors {
        guard let digest = digests[Key(file: file.path, tensor: tensor.name)] else {
          throw CheckpointError(
            .malformed, "the manifest contradicts itself about \(file.path)", path: store.path,
            tensor: tensor.name)
        }
        if tensor.offset > end {
          ranges.append(CheckedRange(file: file.path, range: end..<tensor.offset, content: .zeros))
        }
        end = tensor.offset + tensor.bytes
        ranges.append(
          CheckedRange(
            file: file.path, range: tensor.offset..<end, content: .digest(digest), tensor: tensor.name))
      }
      if file.bytes > end {
        ranges.append(CheckedRange(file: file.path, range: end..<file.bytes, content: .zeros))
      }
    }
    findings += try extras(manifest)
    findings += manifest.plan.parts.compactMap { part in
      part.directory.isEmpty ? nil : finding(manifestOf: part, manifest)
    }
    return (ranges, findings)
  }

  /// Parts have manifests of their own, which say what the whole one says of them.
  private func finding(manifestOf part: ShardPlan.Part, _ whole: Manifest) -> ChecksumReport.Finding? {
    let file = joinPath(part.directory, OutputMarkers.manifest)
    func finding(_ kind: ChecksumReport.Finding.Kind, _ message: String) -> ChecksumReport.Finding {
      ChecksumReport.Finding(kind: kind, file: file, message: message, fatal: true)
    }
    do throws(CheckpointError) {
      let own = try Manifest.read(in: store.folder(part.directory))
      return own == whole.restricted(to: part)
        ? nil : finding(.changed, "does not say what the manifest of the whole output says of this part")
    } catch {
      return error.code == .notFound
        ? finding(.missing, "the file is not there") : finding(.changed, error.message)
    }
  }

  private struct Key: Hashable {
    let file: String
    let tensor: String
  }

  /// What an interrupted replacement leaves beside an output that is complete.
  private static let explanation = [
    OutputReplacement.newName: "is a conversion that was to replace this output and was interrupted",
    OutputReplacement.oldName: "is what is left of an output that this one has replaced",
  ]

  /// Files that the manifest does not know. Weights among them are an error: engines load what they find.
  private func extras(_ manifest: Manifest) throws(CheckpointError) -> [ChecksumReport.Finding] {
    var known = Set(manifest.files.map(\.path))
    var parts = manifest.plan.parts.map(\.directory)
    known.insert(OutputMarkers.manifest)
    // Folders of side files.
    for file in manifest.files {
      let folder = splitPath(file.path).directory
      if folder != ".", !parts.contains(folder) { parts.append(folder) }
    }
    for part in parts where !part.isEmpty { known.insert(joinPath(part, OutputMarkers.manifest)) }
    var findings: [ChecksumReport.Finding] = []
    for folder in Set([""] + parts).sorted() {
      guard folder.isEmpty || store.kind(of: folder) == .directory else { continue }
      for name in try store.names(in: folder) {
        let relative = joinPath(folder, name)
        guard !known.contains(relative), !parts.contains(relative) else { continue }
        let isWeights = name.hasSuffix(".safetensors") || name.hasSuffix(".gguf")
        findings.append(
          ChecksumReport.Finding(
            kind: .extra, file: relative, message: Self.explanation[name] ?? "is not in the manifest",
            fatal: isWeights))
      }
    }
    return findings
  }
}
