internal import ByteStreams
internal import Checkpoint
public import Conversion
public import ParallelWork
internal import Quantization
public import ShardPlanning
internal import Step3Model
public import Step3Runtime
internal import StoredWeights
public import TensorFormats

/// Makes the codes of a planned conversion by GPTQ: runs the text through the model once, layer by layer, and encodes
/// each weight with the second moments of what entered it.
///
/// The plan stays what it is without. Codes and scales are kept beside the output, and the conversion takes them from
/// there.
public struct GPTQCalibration: Sendable {
  /// What the conversion takes, and what was not made as asked.
  public struct Outcome: Sendable {
    /// The codes.
    public let codes: any PreparedCodes
    /// Matrices that GPTQ encoded.
    public let matrices: Int
    /// The matrices that were rounded to nearest.
    public let fallbacks: [CalibrationFallback]
    /// Layers that an earlier run had done.
    public let layersResumed: Int
    fileprivate let directory: WorkingDirectory

    /// Removes what was kept beside the output, once that is complete.
    ///
    /// - Throws: `.inputOutput`.
    public func remove() throws(CheckpointError) { try directory.remove() }
  }

  private let planned: PlannedConversion
  private let weights: ModelWeights
  private let input: CalibrationInput
  private let settings: ShardPlan.Calibration
  private let options: RuntimeOptions
  private let jobs: [GPTQJob]

  /// Prepares the calibration that a plan's request asks for.
  ///
  /// - Throws: `.invalidRequest` if the plan asks for none, or encodes nothing that GPTQ could; `.unsupported` for a model
  ///   that is no Step-3, and for schemes that GPTQ does not make here.
  public init(
    _ planned: PlannedConversion, _ input: CalibrationInput, options: RuntimeOptions
  ) throws(CheckpointError) {
    guard let settings = planned.plan.request.calibration else {
      throw CheckpointError(.invalidRequest, "the plan asks for no calibration")
    }
    self.planned = planned
    self.input = input
    self.settings = settings
    self.options = options
    weights = try ModelWeights(planned.checkpoint)
    jobs = try Self.jobs(planned.plan, weights)
  }

  /// The linear layers whose codes the plan makes anew.
  private static func jobs(
    _ plan: ShardPlan, _ weights: ModelWeights
  ) throws(CheckpointError) -> [GPTQJob] {
    guard let model = weights.model else {
      throw CheckpointError(
        .unsupported,
        "\(weights.checkpoint.architecture ?? "this model") is not a Step-3, and only that can be calibrated",
        path: weights.checkpoint.path)
    }
    var jobs: [String: GPTQJob] = [:]
    for tensor in plan.files.flatMap(\.tensors) {
      guard case .encode(.codes, let scheme, let encoding) = tensor.operation else { continue }
      for slice in tensor.sources where jobs[slice.tensor] == nil {
        guard let name = (model.tensor(published: slice.tensor) ?? model.tensor(gguf: slice.tensor))?.weight,
          name.layer != nil, let row = model[name.module], row.isLinear, let weight = weights[name]
        else { continue }
        guard let layer = name.layer, layer < weights.configuration?.text.layerCount ?? 0 else {
          throw CheckpointError(
            .unsupported, "is in a layer that the forward pass does not run, so GPTQ cannot make its codes",
            tensor: slice.tensor, remedy: "leave out --method, or keep it as it is with --tensor-type")
        }
        switch scheme.scheme {
        case .int4Group, .int8Channel, .fp8Channel, .mxfp4: break
        case .fp8Block, .nvfp4:
          throw CheckpointError(
            .unsupported, "\(scheme.scheme) is not made by GPTQ here", tensor: slice.tensor,
            remedy: "choose W4A16, W8A8_INT8, FP8_DYNAMIC or MXFP4, or leave out --method")
        }
        jobs[slice.tensor] = GPTQJob(
          name: name, tensor: slice.tensor, weight: weight, scheme: scheme, search: encoding.search)
      }
    }
    guard !jobs.isEmpty else {
      throw CheckpointError(
        .invalidRequest, "nothing is encoded that GPTQ could make the codes of",
        remedy: "choose a scheme such as --quantize W4A16, or leave out --method")
    }
    return jobs.values.sorted { $0.tensor.precedesBytewise($1.tensor) }
  }

  /// Runs the text and makes all codes.
  ///
  /// - Parameters:
  ///   - output: The conversion's output, beside which the codes are kept.
  ///   - resume: Whether to go on with what an interrupted run has left.
  ///   - overwrite: Whether to drop it.
  ///   - begin: Called once with the bytes that the monitor will be told of.
  /// - Throws: As ``ImportanceCalibration/run(to:resume:overwrite:begin:)``.
  public func run(
    for output: String, resume: Bool, overwrite: Bool, begin: (Int) -> WorkMonitor
  ) throws -> Outcome {
    try checkMemory()
    let schemes = Set(
      jobs.map { "\($0.tensor) \($0.scheme.scheme) \($0.scheme.method.rawValue) \($0.search)" })
    let directory = try WorkingDirectory(
      for: output,
      .init(
        purpose:
          "gptq, damping \(settings.damping), experts of \(settings.minimumExpertTokens) tokens: "
          + schemes.sorted().joined(separator: ", "), weights.checkpoint, input), resume: resume,
      overwrite: overwrite)
    let collector = GPTQCollector(
      weights, jobs: jobs, damping: settings.damping, minimum: settings.minimumExpertTokens,
      threads: options.threads, directory: directory)
    let quiet = try LayerwiseRun(
      weights, input, visitor: collector, options: options, directory: directory)
    let last = jobs.compactMap(\.name.layer).max() ?? 0
    let run = quiet.monitored(by: begin(quiet.byteCount))
    try run.run(after: directory.layersDone, upTo: last + 1) { try directory.note(layersDone: $0) }
    let codes = try CodeStore(jobs, layers: Set(jobs.compactMap(\.name.layer)).sorted(), in: directory)
    return Outcome(
      codes: codes, matrices: jobs.reduce(0) { $0 + $1.weight.matrixCount } - codes.fallbacks.count,
      fallbacks: codes.fallbacks, layersResumed: directory.layersDone, directory: directory)
  }

  /// What the second moments that are there at the same time take, and the largest factor.
  private func checkMemory() throws(CheckpointError) {
    var most = 0
    for part in Dictionary(grouping: jobs, by: { part(of: $0) }).values {
      // Weights that get the same rows have the same number of columns, and the others are counted once too often at the
      // most.
      let widths = Set(part.map(\.weight.columns))
      most = max(most, widths.reduce(0) { $0 + 4 * $1 * $1 } + 8 * (widths.max() ?? 0) * (widths.max() ?? 0))
    }
    guard most <= options.memory else {
      let need = ((most >> 20) + 512 + 1023) / 1024
      throw CheckpointError(
        .invalidRequest,
        "GPTQ needs \(most >> 20) MiB for the second moments of the widest layers, and \(options.memory >> 20) MiB are "
          + "allowed", remedy: "give --memory \(need)GiB")
    }
  }

  private func part(of job: GPTQJob) -> String {
    let role = weights.model?[job.name.module]?.role
    return "\(job.name.layer ?? 0) \(role.map { "\($0)" } ?? "")"
  }
}
