public import ByteStreams
internal import Checkpoint
internal import Conversion
internal import ParallelWork
internal import Synchronization
internal import ShardPlanning
public import TensorFormats

/// Compares every byte of an output directory with its manifest.
///
/// Each file is read once. Its header, each tensor and the padding between them are compared separately, so that
/// differences can be located, and the whole file by both digests. Several files are read concurrently.
public struct ChecksumVerification: Sendable {
  private let store: any ByteStore
  private let options: Options
  /// `nil` if there is none.
  private let manifest: Manifest?

  /// How to compare.
  public struct Options: Sendable {
    /// How many files to read at the same time.
    public var threads: Int
    /// Whether to compute SHA-256. XXH3 alone detects accidents, at an eighth of the cost.
    public var withSHA256: Bool
    /// The root digest that the manifest must have; `nil` for any.
    public var pin: Digest?
    /// Whether an output without a manifest fails the check; for a partition set or a part of one it always does.
    public var requiresManifest: Bool

    /// Describes a check.
    public init(
      threads: Int, withSHA256: Bool = true, pin: Digest? = nil, requiresManifest: Bool = false
    ) {
      self.threads = threads
      self.withSHA256 = withSHA256
      self.pin = pin
      self.requiresManifest = requiresManifest || pin != nil
    }
  }

  /// Prepares a check of an output: reads its manifest.
  ///
  /// - Throws: `.unfinished` for an interrupted conversion, errors in the manifest, `.inputOutput`.
  public init(_ store: any ByteStore, _ options: Options) throws(CheckpointError) {
    self.store = store
    self.options = options
    do throws(CheckpointError) {
      manifest = try Manifest.read(in: store)
    } catch {
      guard error.code == .notFound else { throw error }
      manifest = nil
    }
  }

  /// How many bytes ``run(progress:)`` will read.
  public var byteCount: Int { manifest?.files.reduce(0) { $0 + $1.bytes } ?? 0 }

  /// Runs the check.
  ///
  /// Memory: the manifest, and four megabytes for each open file.
  ///
  /// - Parameter progress: Called from any thread with the bytes read since the last call, and their file.
  /// - Throws: What a broken checkpoint without a manifest throws, `.inputOutput` if the directory cannot be listed;
  ///   `CancellationError`. Differences and unreadable files are findings, not errors.
  public func run(
    progress: @escaping @Sendable (_ bytes: Int, _ file: String) -> Void = { _, _ in }
  ) async throws -> ChecksumReport {
    guard let manifest else { return try structureOnly() }
    let found = Mutex(try extras(manifest) + pinned(manifest))
    for part in manifest.plan.parts where !part.directory.isEmpty {
      if let finding = finding(manifestOf: part, manifest) { found.withLock { $0.append(finding) } }
    }
    let withSHA256 = options.withSHA256
    let progressed = Mutex(0)
    // Largest first, so that no large file is left for a single core at the end.
    let files = checkedFiles(manifest).sorted { $0.record.bytes > $1.record.bytes }
    try await ParallelWork(threads: options.threads).run(files, delivering: .asFinished) { file in
      try file.check(in: store, withSHA256: withSHA256) { bytes in
        progressed.withLock { $0 += bytes }
        progress(bytes, file.record.path)
      }
    } takeIn: { _, findings in
      found.withLock { $0 += findings }
    }
    let findings = found.withLock { $0 }.sorted {
      ($0.file, $0.start ?? 0, $0.message) < ($1.file, $1.start ?? 0, $1.message)
    }
    return ChecksumReport(
      ok: !findings.contains(where: \.fatal), manifest: true, sha256: withSHA256,
      rootDigest: manifest.digest, files: manifest.files.count, tensors: manifest.tensors.count,
      bytes: progressed.withLock { $0 }, findings: findings)
  }

  /// Without a manifest there is nothing to compare with; only the structure of the files can be checked.
  private func structureOnly() throws(CheckpointError) -> ChecksumReport {
    let checkpoint = try Checkpoint.open(in: store)
    // Only step3-convert partitions models like this, and it never leaves a part without a manifest.
    let record = try PartitionRecord(of: checkpoint)
    let isPart = record != nil || !checkpoint.parts.isEmpty
    var findings: [ChecksumReport.Finding] = []
    if options.requiresManifest || isPart {
      findings.append(
        ChecksumReport.Finding(
          kind: .missing, file: OutputMarkers.manifest,
          message: isPart && !options.requiresManifest
            ? "there is none, but step3-convert writes one for every part of a model"
            : "there is none, so nothing could be compared", fatal: true))
    }
    return ChecksumReport(
      ok: findings.isEmpty, manifest: false, sha256: false, rootDigest: nil, files: checkpoint.files.count,
      tensors: checkpoint.tensors.count, bytes: 0, findings: findings)
  }

  private func pinned(_ manifest: Manifest) -> [ChecksumReport.Finding] {
    guard let pin = options.pin, "\(pin)" != manifest.digest else { return [] }
    return [
      ChecksumReport.Finding(
        kind: .changed, file: OutputMarkers.manifest,
        message:
          "the root digest is \(manifest.digest), expected \(pin): this is another output, or was "
          + "rewritten", fatal: true)
    ]
  }
}

// MARK: - What there is to compare

extension ChecksumVerification {
  private struct Key: Hashable {
    let file: String
    let tensor: String
  }

  /// Every file, in the sections for which the manifest has digests. Plan and records have been checked to agree.
  private func checkedFiles(_ manifest: Manifest) -> [CheckedFile] {
    let planned = Dictionary(
      manifest.plan.files.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
    var digests: [Key: String] = [:]
    for tensor in manifest.tensors { digests[Key(file: tensor.file, tensor: tensor.name)] = tensor.xxh3 }
    return manifest.files.map { record in
      guard let file = planned[record.path] else {
        return CheckedFile(
          record: record,
          sections: [CheckedFile.Section(range: 0..<record.bytes, content: .digest(record.xxh3))])
      }
      var sections = [CheckedFile.Section(range: 0..<file.dataOffset, content: .digest(file.headerXXH3))]
      var end = file.dataOffset
      for tensor in file.tensors {
        if tensor.offset > end {
          sections.append(CheckedFile.Section(range: end..<tensor.offset, content: .zeros))
        }
        end = tensor.offset + tensor.bytes
        sections.append(
          CheckedFile.Section(
            range: tensor.offset..<end,
            content: .digest(digests[Key(file: file.path, tensor: tensor.name)] ?? ""),
            tensor: tensor.name))
      }
      if file.bytes > end {
        sections.append(CheckedFile.Section(range: end..<file.bytes, content: .zeros))
      }
      return CheckedFile(record: record, sections: sections)
    }
  }

  /// Parts have their own manifests, which must match the main one.
  private func finding(manifestOf part: ShardPlan.Part, _ whole: Manifest) -> ChecksumReport.Finding? {
    let file = joinPath(part.directory, OutputMarkers.manifest)
    func finding(_ kind: ChecksumReport.Finding.Kind, _ message: String) -> ChecksumReport.Finding {
      ChecksumReport.Finding(kind: kind, file: file, message: message, fatal: true)
    }
    do throws(CheckpointError) {
      let own = try Manifest.read(in: store.folder(part.directory))
      return own.saysTheSame(as: whole.restricted(to: part))
        ? nil : finding(.changed, "does not match the main manifest's record of this part")
    } catch {
      switch error.code {
      case .notFound: return finding(.missing, "the file is missing")
      case .inputOutput: return finding(.unreadable, error.message)
      default: return finding(.changed, error.message)
      }
    }
  }

  /// Leftovers of an interrupted replacement beside a complete output.
  private static let explanation = [
    OutputReplacement.newName: "is an interrupted conversion that would have replaced this output",
    OutputReplacement.oldName: "is left over from an output that this one replaced",
  ]

  /// Files that are not in the manifest. Those that an engine would load are errors, whatever their origin.
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
      let isThere = try store.kind(of: folder) == .directory
      guard folder.isEmpty || isThere else { continue }
      for name in try store.names(in: folder) {
        let relative = joinPath(folder, name)
        guard !known.contains(relative), !parts.contains(relative) else { continue }
        findings.append(
          ChecksumReport.Finding(
            kind: .extra, file: relative,
            message: Self.explanation[name]
              ?? (name.hasSuffix(OutputMarkers.signatureSuffix)
                ? "is a signature, which step3-verify signature checks" : "is not in the manifest"),
            fatal: Self.isLoaded(name)))
      }
    }
    return findings
  }

  /// Whether engines and libraries load a file if it exists: weights, configurations, tokenizers, templates, code. For
  /// `.bin`, which may be anything, only the names that they look for.
  private static func isLoaded(_ name: String) -> Bool {
    let name = name.lowercased()
    let endings = [
      ".safetensors", ".gguf", ".pt", ".pth", ".ckpt", ".npz", ".h5", ".msgpack", ".onnx", ".json", ".model",
      ".jinja", ".py", ".zst", ".tiktoken",
    ]
    return endings.contains { name.hasSuffix($0) } || ["merges.txt", "vocab.txt"].contains(name)
      || name.hasSuffix(".bin") && ["pytorch_model", "adapter_model"].contains { name.hasPrefix($0) }
  }
}
