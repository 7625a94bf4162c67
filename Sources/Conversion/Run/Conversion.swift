internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import Quantization
public import ShardPlanning
public import TensorFormats

/// Runs a plan: streams the source once, from start to end, and leaves either a complete output or one marked
/// unfinished.
public struct Conversion: Sendable {
  let planned: PlannedConversion
  let options: ConversionOptions
  private let prepared: (any PreparedCodes)?

  var checkpoint: Checkpoint { planned.checkpoint }

  /// Prepares a conversion as planned.
  ///
  /// - Parameters:
  ///   - planned: The plan, with the checkpoint that it reads.
  ///   - options: Threads, memory and whatever else leaves the bytes as they are.
  ///   - prepared: Codes made beforehand, if the plan's request asks for calibrated ones.
  public init(
    _ planned: PlannedConversion, options: ConversionOptions, prepared: (any PreparedCodes)? = nil
  ) {
    self.planned = planned
    self.options = options
    self.prepared = prepared
  }

  /// Checks that the output can be written, before work is spent on it.
  ///
  /// - Returns: Whether there is a complete one already.
  /// - Throws: `.cannotCreate` if something is in the way that the options do not allow resuming or replacing.
  public func checkPlace(_ output: String) throws(CheckpointError) -> Bool {
    try opening(StageMeters(), warn: { _ in }).checkPlace(output)
  }

  func opening(
    _ meters: StageMeters, warn: @escaping @Sendable (String) -> Void = { _ in }
  ) throws(CheckpointError) -> OutputOpening {
    OutputOpening(
      checkpoint: checkpoint, planned: planned,
      identity: try JournalIdentity(planned.plan, isArchive: options.archive), options: options,
      meter: meters.write, warn: warn)
  }

  /// Converts into the directory `output`, which must not exist unless overwriting or resuming is allowed.
  ///
  /// Memory: about `options.memory`, whatever the size of the model.
  ///
  /// - Parameters:
  ///   - output: The directory to write.
  ///   - progress: Called from any thread after each step.
  ///   - warn: Called with warnings about existing contents of the output: what is left in place, and what
  ///     has to be removed first for lack of space.
  /// - Returns: The manifest as written, and the outcome.
  /// - Throws: `CheckpointError`: `.cannotCreate` if the output is in the way, `.inputOutput` for a full disk or a
  ///   failing read, `.nonFinite` for non-finite weights, `.digestMismatch` if the source is not what was published,
  ///   `.sourceChanged`, `.invalidRequest` or `.unsupported` if an output cannot be resumed like this;
  ///   `CancellationError` if the task is cancelled. The output is then marked unfinished, and finished work is
  ///   kept. An output that is being replaced stays complete until the new one is.
  public func run(
    into output: String, progress: @escaping @Sendable (ConversionProgress) -> Void = { _ in },
    warn: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws -> ConversionOutcome {
    let plan = planned.plan
    let meters = StageMeters()
    try options.expectedDigests?.check(plan.source)
    FileSystem.raiseOpenFileLimit()
    let opening = try opening(meters, warn: warn)
    let found: OutputOpening.Result
    do throws(CheckpointError) {
      found = try opening.open(output)
    } catch {
      throw OutputOpening.isBegun(output) ? error.resumable : error
    }
    let target: OutputOpening.Target
    switch found {
    case .complete(let manifest): return try await finished(manifest, in: output, progress)
    case .writing(let opened): target = opened
    }

    let (directory, opened) = (target.directory, target.opened)
    do {
      let journal = Journal(
        opened.journal, finished: opened.finished, outputs: opened.outputs, batchBytes: options.syncEvery,
        meter: meters.sync)
      let tally = UnitTally()
      let scope = ConversionPipeline.Scope(settled: try settled(opened))
      let archive = archive(directory, opened, journal, progress)
      let pipeline = try pipeline(scope, opened.outputs, journal, archive, meters, tally, progress)
      let report = try await journal.keeping { try await pipeline.run() }
      try confirmSource(warn)
      let outcome = try finish(directory, opened, report, archive, tally, meters)
      if target.isReplacement { try opening.finish(target.output, with: outcome.manifest) }
      return outcome
    } catch let error as CheckpointError {
      throw target.abandoned(error, options) ?? error.resumable
    }
  }

  /// Gives the files their final names and writes what comes last.
  func finish(
    _ directory: OutputDirectory, _ opened: OutputDirectory.Opened, _ report: ConversionPipeline.Report,
    _ archive: OutputArchive?, _ tally: UnitTally, _ meters: StageMeters
  ) throws(CheckpointError) -> ConversionOutcome {
    let archived = try archive?.files(report.outputs.map(\.digests))
    try directory.finish(opened.outputs, opened.journal)
    let documents = try directory.writeDocuments(from: checkpoint.store)
    let (manifest, archiveManifest) = try directory.complete(
      Manifest(plan: planned.plan, report: report, documents: documents, prepared: prepared),
      archived: archived)
    return ConversionOutcome(
      manifest: manifest, archive: archiveManifest, units: tally.total, reusedUnits: tally.reused,
      wasComplete: false, usage: meters.usage)
  }

  /// Where output files go when they are complete; `nil` if they are not archived.
  func archive(
    _ directory: OutputDirectory, _ opened: OutputDirectory.Opened, _ journal: Journal,
    _ progress: @escaping @Sendable (ConversionProgress) -> Void
  ) -> OutputArchive? {
    guard options.archive else { return nil }
    return OutputArchive(
      directory, opened, journal, threads: options.threads, memory: options.archiveMemory,
      advance: { progress(ConversionProgress(bytes: $0, tensor: nil)) })
  }

  /// Does all the work and discards the result: a rehearsal, which shows how long a conversion takes and how much
  /// memory it needs, without needing space for the output.
  ///
  /// - Throws: As ``run(into:progress:warn:)``, except for errors about output files.
  public func rehearse(
    progress: @escaping @Sendable (ConversionProgress) -> Void = { _ in }
  ) async throws -> ConversionOutcome {
    let plan = planned.plan
    let meters = StageMeters()
    let tally = UnitTally()
    try options.expectedDigests?.check(plan.source)
    FileSystem.raiseOpenFileLimit()
    let outputs = plan.files.map { OutputFile(discarding: $0.path, byteCount: $0.bytes) }
    let report = try await pipeline(ConversionPipeline.Scope(), outputs, nil, nil, meters, tally, progress)
      .run()
    try confirmSource { _ in }
    return ConversionOutcome(
      manifest: Manifest(plan: plan, report: report, documents: [], prepared: prepared), archive: nil,
      units: tally.total, reusedUnits: 0, wasComplete: false, usage: meters.usage)
  }

  /// An already complete output: nothing to do, if it is intact.
  ///
  /// - Throws: `.digestMismatch` if it is not, or was made from other files than expected; `.inputOutput`.
  func finished(
    _ manifest: Manifest, in output: String,
    _ progress: @escaping @Sendable (ConversionProgress) -> Void
  ) async throws -> ConversionOutcome {
    try options.expectedDigests?.check(manifest, of: checkpoint.store)
    let directory = DirectoryStore(output)
    let archived = try ArchiveDirectory(in: directory)
    try await FinishedFiles(manifest, in: archived ?? directory as any ByteStore)
      .check(threads: options.threads, progress)
    let archive = options.archive ? archived?.manifest : nil
    return ConversionOutcome(
      manifest: manifest, archive: archive, units: 0, reusedUnits: 0, wasComplete: true, usage: StageUsage())
  }

  /// Checks at the end that the files have not changed since they were opened.
  ///
  /// - Throws: `.sourceChanged`; --resume tells results from old and new bytes apart.
  func confirmSource(_ warn: (String) -> Void) throws(CheckpointError) {
    for file in checkpoint.files where !file.isDerived {
      switch try file.source.change {
      case nil: break
      case .content:
        throw CheckpointError(
          .sourceChanged, "was changed while it was read", path: file.source.path,
          remedy: "restore it and continue with --resume, or start afresh with --overwrite")
      case .status:
        warn(
          "\(file.source.path): its names or its mode changed while it was read, or its bytes and then its "
            + "time; --expect-sha256 would detect that")
      }
    }
  }

  /// The files of a remote source that need not be fetched again: an earlier run read them completely, they match
  /// what is published now, and all their results are recorded.
  ///
  /// A local source is read again, because nothing vouches for it.
  private func settled(_ opened: OutputDirectory.Opened) throws(CheckpointError) -> [Int: FileDigests] {
    guard checkpoint.store.directory == nil, !opened.sources.isEmpty else { return [:] }
    let (files, work) = (planned.plan.source.files, try WorkList(planned.plan, checkpoint))
    var settled: [Int: FileDigests] = [:]
    for stream in work.streams {
      guard let digests = opened.sources[stream.file],
        checkpoint.store.sha256(of: files[stream.file].path) == digests.sha256,
        stream.segments.allSatisfy({ segment in
          (segment.firstUnit..<segment.firstUnit + segment.unitCount).allSatisfy {
            opened.finished[$0] != nil
          }
        })
      else { continue }
      settled[stream.file] = digests
    }
    return settled
  }

  /// The codes made beforehand, if the plan asks for them.
  ///
  /// - Throws: `.invalidRequest` if they are missing: there is no substitute.
  private func preparedCodes() throws(CheckpointError) -> (any PreparedCodes)? {
    guard let calibration = planned.plan.request.calibration else { return nil }
    guard let prepared else {
      throw CheckpointError(
        .invalidRequest,
        "the codes should have been made by \(calibration.method.rawValue), but there are none",
        remedy: "convert with --method \(calibration.method.rawValue) and the text, with --resume to continue"
      )
    }
    return prepared
  }

  func pipeline(
    _ scope: ConversionPipeline.Scope, _ outputs: [OutputFile], _ journal: Journal?,
    _ archive: OutputArchive?,
    _ meters: StageMeters, _ tally: UnitTally,
    _ progress: @escaping @Sendable (ConversionProgress) -> Void
  ) throws(CheckpointError) -> ConversionPipeline {
    let plan = planned.plan
    let metered = checkpoint.mappingSources { MeteredSource($0, meter: meters.read) }
    let work = try WorkList(plan, metered)
    var firstTarget = 0
    var lanes: [OutputLane] = []
    for (file, output) in zip(work.files, outputs) where !scope.isShare {
      lanes.append(
        OutputLane(
          file: file, output: output, header: planned.headers[file.path] ?? [], firstTarget: firstTarget,
          twin: plan.source.twin(of: file), meter: meters.hashOutput))
      firstTarget += file.tensors.count
    }
    let (names, expected) = (plan.source.files.map(\.path), options.expectedDigests)
    var sources: [Int: SourceLane] = [:]
    for (index, file) in metered.files.enumerated() where !file.isDerived && scope.reads(index) {
      sources[index] = SourceLane(
        path: file.source.path, byteCount: file.source.byteCount, meter: meters.hashSource)
    }
    let paths = sources.mapValues(\.path)
    return ConversionPipeline(
      context: UnitContext(
        checkpoint: metered, work: work, outputs: outputs, pool: BufferPool(keep: 8 * options.threads + 16),
        nonFinite: plan.request.allowNonFinite ? .pass : .reject, importance: planned.importance,
        prepared: try preparedCodes(), journal: journal),
      scope: scope, sources: sources, outputs: lanes, archive: archive,
      options: options.stages(work, isRemote: checkpoint.store.directory == nil), meters: meters,
      tally: tally,
      sourceRead: { file, digests in
        try expected?.check(names[file], digests.sha256, path: paths[file] ?? "")
        journal?.add(digests, ofSource: file)
      },
      progress: { unit in
        let name = unit.deliveries.first.map { work.targets[$0.target].tensor.name }
        progress(ConversionProgress(bytes: unit.source.bytes.count, tensor: name))
      })
  }
}

extension ConversionOptions {
  /// The part of the memory for archiving.
  fileprivate var archiveMemory: Int {
    min(
      max(memory - Self.minimumMemory, 0), max(memory / 4, Self.minimumArchivingMemory - Self.minimumMemory))
  }

  /// How wide each stage is.
  ///
  /// Memory: enough to keep every stage busy, and twice the largest window, if allowed. A remote source
  /// has latency and slow connections, so more reads are in progress.
  fileprivate func stages(_ work: WorkList, isRemote: Bool) -> ConversionPipeline.Options {
    let (fetches, stores) = (max(isRemote ? 16 : 2, threads), max(2, threads))
    // A unit holds its source bytes, its output (at most twice as much, F32 from BF16) and scratch.
    let unitBytes = 4 * SourceView.unitElements * 2
    let allowed = max(memory - (archive ? archiveMemory : 0), Self.minimumMemory)
    var wanted = (threads * 2 + 2 + fetches) * unitBytes
    let window = 2 * work.largestWindow
    if window <= allowed { wanted = max(wanted, window) }
    return ConversionPipeline.Options(
      threads: threads, fetches: fetches, stores: stores, memory: min(allowed, wanted))
  }
}

extension ShardPlan.Source {
  /// The source file with the same bytes as an output file: the same header, and only whole tensors of it at the same
  /// offsets, without a gap.
  package func twin(of file: ShardPlan.File) -> Int? {
    guard let first = file.tensors.first?.source.file, files.indices.contains(first) else { return nil }
    let source = files[first]
    guard !source.isDerived, source.bytes == file.bytes, source.dataOffset == file.dataOffset,
      source.headerXXH3 == file.headerXXH3
    else { return nil }
    var end = file.dataOffset
    for tensor in file.tensors {
      guard tensor.offset == end, tensor.isCopy, tensor.sources.count == 1, tensor.source.isWhole,
        tensor.source.file == first, tensor.copied == tensor.offset
      else { return nil }
      end += tensor.bytes
    }
    return end == file.bytes ? first : nil
  }
}

extension ShardPlan.Tensor {
  /// The offset of the source tensor that it copies.
  fileprivate var copied: Int? {
    switch operation.part {
    case nil, .codes: source.offset
    case .scales: source.scaling?.scales?.offset
    case .matrixScales: source.scaling?.matrixScales?.offset
    case .shape: nil
    }
  }
}

extension CheckpointError {
  /// The same error, noting that nothing is lost if trying again can help.
  var resumable: CheckpointError {
    guard code == .inputOutput || code == .truncated else { return self }
    var copy = self
    copy.remedy =
      (remedy.map { "\($0); " } ?? "") + "what is done is kept: the same command with --resume goes on"
    return copy
  }
}

extension Manifest {
  init(
    plan: ShardPlan, report: ConversionPipeline.Report, documents: [FileRecord],
    prepared: (any PreparedCodes)?
  ) {
    func record(_ path: String, _ bytes: Int, _ digests: FileDigests) -> FileRecord {
      FileRecord(path: path, bytes: bytes, xxh3: "\(digests.xxh3)", sha256: "\(digests.sha256)")
    }
    let files = plan.files
    let names = SourceNames(plan)
    self.init(
      version: Manifest.currentVersion, tool: plan.tool, plan: plan,
      sources: zip(plan.source.files, report.sources).compactMap { file, lane in
        lane.map { record(file.path, file.bytes, $0.digests) }
      },
      files: zip(files, report.outputs).map { record($0.path, $0.bytes, $1.digests) } + documents,
      tensors: zip(files, report.outputs).flatMap { file, lane in
        zip(file.tensors, lane.tensors).map { tensor, report in
          TensorRecord(
            name: tensor.name, file: file.path, xxh3: "\(report.xxh3)",
            sources: names.sources(of: tensor),
            error: tensor.isLossless
              ? nil : QuantizationError(report.errors, searched: tensor.operation.search == .mse)
          )
        }
      }, roundedToNearest: prepared?.fallbacks)
  }
}

extension Manifest.QuantizationError {
  init(_ errors: RecodingErrors, searched: Bool) {
    let sums = errors.sums
    func root(_ sum: Double) -> Double { sums.count == 0 ? 0 : (sum / Double(sums.count)).squareRoot() }
    self.init(
      rmse: sums.rmse, maximumAbsoluteError: Double(sums.maximumAbsoluteError),
      relativeRMSE: sums.relativeRMSE, cosineSimilarity: sums.cosineSimilarity,
      search: searched
        ? Manifest.SearchGain(before: root(errors.search.before), after: root(errors.search.after)) : nil)
  }
}
