internal import ByteStreams
public import Checkpoint
internal import Quantization
public import ShardPlanning
internal import TensorFormats

/// Runs a plan: streams the source once, from the first byte to the last, and leaves a complete output or one that
/// says that it is not.
public struct Conversion: Sendable {
  private let checkpoint: Checkpoint
  private let planned: PlannedConversion
  private let options: ConversionOptions

  /// Prepares the conversion of `checkpoint` as planned.
  public init(_ checkpoint: Checkpoint, _ planned: PlannedConversion, options: ConversionOptions) {
    self.checkpoint = checkpoint
    self.planned = planned
    self.options = options
  }

  /// Converts into the directory `output`, which must not exist unless overwriting is allowed.
  ///
  /// Memory: about `options.memory`, whatever the size of the model.
  ///
  /// - Parameter progress: Called from any thread after each step.
  /// - Returns: The manifest, as it was written.
  /// - Throws: ``CheckpointError``: `.cannotCreate` if the output is in the way, `.inputOutput` for a full disk or a
  ///   failing read, `.nonFinite` for weights that are no numbers; `CancellationError` if the task is cancelled.
  ///   The output is then marked unfinished.
  public func run(
    into output: String, progress: @escaping @Sendable (ConversionProgress) -> Void = { _ in }
  ) async throws -> Manifest {
    let plan = planned.plan
    let directory = OutputDirectory(path: output, plan: plan)
    let files = try directory.begin(headers: planned.headers, overwrite: options.overwrite)
    let report = try await pipeline(directory, files, progress).run()
    try directory.finish(files)
    let documents = try directory.writeDocuments(from: checkpoint.directory)
    let manifest = Manifest(plan: plan, report: report, documents: documents)
    try directory.complete(manifest)
    return manifest
  }

  private func pipeline(
    _ directory: OutputDirectory, _ files: [OutputFile],
    _ progress: @escaping @Sendable (ConversionProgress) -> Void
  ) -> ConversionPipeline {
    let plan = planned.plan
    let work = WorkList(plan)
    // A unit holds its source bytes, what becomes of them (at most twice as much, F32 from BF16) and scratch.
    let unitBytes = 4 * SourceView.unitElements * 2
    let width = max(
      2, min(options.threads * 2 + 2, max(options.memory, ConversionOptions.minimumMemory) / unitBytes))
    var firstTarget = 0
    var lanes: [OutputLane] = []
    for file in work.files {
      lanes.append(
        OutputLane(
          file: file, path: directory.unfinishedPath(of: file), header: planned.headers[file.path] ?? [],
          firstTarget: firstTarget))
      firstTarget += file.tensors.count
    }
    return ConversionPipeline(
      processor: UnitProcessor(
        checkpoint: checkpoint, work: work, outputs: files, pool: BufferPool(keep: width * 2),
        nonFinite: options.nonFinite, importance: planned.importance),
      sources: checkpoint.files.map { SourceLane(path: $0.source.path, byteCount: $0.source.byteCount) },
      outputs: lanes, width: width,
      progress: { unit in
        let name = unit.deliveries.first.map { work.targets[$0.target].tensor.name }
        progress(ConversionProgress(bytes: unit.byteRange.count, tensor: name))
      })
  }
}

extension Manifest {
  init(plan: ShardPlan, report: ConversionPipeline.Report, documents: [FileRecord]) {
    func record(_ path: String, _ bytes: Int, _ digests: FileDigests) -> FileRecord {
      FileRecord(path: path, bytes: bytes, xxh3: "\(digests.xxh3)", sha256: "\(digests.sha256)")
    }
    let files = plan.files
    self.init(
      version: Manifest.currentVersion, tool: plan.tool, plan: plan,
      sources: zip(plan.source.files, report.sources).map { record($0.path, $0.bytes, $1.digests) },
      files: zip(files, report.outputs).map { record($0.path, $0.bytes, $1.digests) } + documents,
      tensors: zip(files, report.outputs).flatMap { file, lane in
        zip(file.tensors, lane.tensors).map { tensor, report in
          TensorRecord(
            name: tensor.name, file: file.path, xxh3: "\(report.xxh3)",
            sources: [tensor.source.tensor] + (tensor.source.scale.map { [$0.tensor] } ?? []),
            error: tensor.isLossless ? nil : QuantizationError(report.errors))
        }
      })
  }
}

extension Manifest.QuantizationError {
  init(_ sums: ErrorSums) {
    self.init(
      rmse: sums.rmse, maximumAbsoluteError: Double(sums.maximumAbsoluteError),
      relativeRMSE: sums.relativeRMSE,
      cosineSimilarity: sums.cosineSimilarity)
  }
}
