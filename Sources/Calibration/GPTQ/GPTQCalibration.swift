internal import QuantizationRecipes
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
/// each weight with the second moments of its inputs.
///
/// The plan is the same as without. Codes and scales are kept beside the output, where the conversion reads them.
public struct GPTQCalibration: Sendable {
  /// The codes for the conversion, and what was not made as requested.
  public struct Outcome: Sendable {
    /// The codes.
    public let codes: any PreparedCodes
    /// Matrices that GPTQ encoded.
    public let matrices: Int
    /// What was rounded to nearest, or encoded as without a calibration.
    public var fallbacks: [CalibrationFallback] { codes.fallbacks }
    /// Layers that an earlier run had done.
    public let layersResumed: Int
    /// The time that the others took.
    public let times: GPTQTimes
    fileprivate let directory: WorkingDirectory

    /// Removes what was kept beside the output, once the output is complete.
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
  /// Weights that the conversion encodes as without calibration.
  private let others: [CalibrationFallback]

  /// Prepares the calibration that a plan's request asks for.
  ///
  /// - Throws: `.invalidRequest` if the plan asks for none, or encodes nothing that GPTQ could; `.unsupported` for a
  ///   model that is not a Step-3, for formats that GPTQ cannot encode, and for weights that it cannot tell apart.
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
    let found = try GPTQJobs(planned.plan, weights)
    jobs = found.all
    others = found.fallbacks
  }

  /// Runs the text and makes all codes.
  ///
  /// - Parameters:
  ///   - output: The conversion's output, beside which the codes are kept.
  ///   - resume: Whether to resume what an interrupted run left.
  ///   - overwrite: Whether to discard it.
  ///   - begin: Called once with the total bytes that the monitor will be told about.
  /// - Throws: As ``ImportanceCalibration/run(to:resume:overwrite:begin:)``.
  public func run(
    for output: String, resume: Bool, overwrite: Bool, begin: (Int) -> WorkMonitor
  ) throws -> Outcome {
    try checkMemory()
    let formats = Set(jobs.map { "\($0.tensor) \($0.format.spelling) \($0.search)" })
    let directory = try WorkingDirectory(
      for: output,
      .init(
        purpose:
          "gptq, damping \(settings.damping), experts of \(settings.minimumExpertTokens) tokens: "
          + formats.sorted().joined(separator: ", "), weights.checkpoint, input), resume: resume,
      overwrite: overwrite)
    let collector = GPTQCollector(
      weights, jobs: jobs, damping: settings.damping, minimum: settings.minimumExpertTokens,
      threads: options.threads, directory: directory)
    let quiet = try LayerwiseRun(
      weights, input, visitor: collector, options: options, directory: directory)
    let last = jobs.compactMap(\.name.layer).max() ?? 0
    let run = quiet.monitored(by: begin(quiet.byteCount))
    let start = ContinuousClock.now
    try run.run(after: directory.layersDone, upTo: last + 1) { try directory.note(layersDone: $0) }
    var times = collector.times
    times.forwardPass = max(0, (ContinuousClock.now - start) / .seconds(1) - times.total)
    let codes = try CodeStore(
      jobs, layers: Set(jobs.compactMap(\.name.layer)).sorted(), others: others, in: directory)
    let made = jobs.reduce(0) { $0 + $1.weight.matrixCount } - codes.fallbacks.count + others.count
    return Outcome(
      codes: codes, matrices: made, layersResumed: directory.layersDone, times: times, directory: directory)
  }

  /// Checks the memory for the second moments held at the same time, and for the largest factor.
  private func checkMemory() throws(CheckpointError) {
    var most = 0
    for part in Dictionary(grouping: jobs, by: { part(of: $0) }).values {
      // Weights with the same input have the same number of columns; others are overcounted by one at most.
      let widths = Set(part.map(\.weight.columns))
      most = max(most, widths.reduce(0) { $0 + 4 * $1 * $1 } + 8 * (widths.max() ?? 0) * (widths.max() ?? 0))
    }
    guard most <= options.memory else {
      let need = ((most >> 20) + 512 + 1023) / 1024
      throw CheckpointError(
        .invalidRequest,
        "GPTQ needs \(most >> 20) MiB for the second moments of the widest layers, but only \(options.memory >> 20) MiB are "
          + "allowed", remedy: "give --memory \(need)GiB")
    }
  }

  private func part(of job: GPTQJob) -> String {
    let role = weights.model?[job.name.module]?.role
    return "\(job.name.layer ?? 0) \(role.map { "\($0)" } ?? "")"
  }
}
