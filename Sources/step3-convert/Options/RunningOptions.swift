import ArgumentParser
import Calibration
import Checkpoint
import CommandSupport
import Conversion
import ShardPlanning
import Step3Runtime
import StoredWeights
import TensorFormats

/// Resources and the treatment of OUTPUT: the options of every command that converts.
struct RunningOptions: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("The memory for buffers.", valueName: "size"))
  var memory = ByteSize(bytes: 1 << 30)

  @Flag(name: .long, help: "Resume an interrupted conversion, or start one.")
  var resume = false

  @Option(
    name: .customLong("sync-every"),
    help: ArgumentHelp(
      "Sync after this much output: the most that a crash can cost.",
      valueName: "size"))
  var syncEvery = ByteSize(bytes: 1 << 30)

  @Flag(
    name: .long,
    help: "Compress the weight files without loss as they are written, making the output an archive.")
  var archive = false

  @Option(
    name: .customLong("expect-sha256"),
    help: ArgumentHelp(
      "A list in sha256sum's format: fail if a weight file of the source does not match it.",
      valueName: "file"), completion: .file())
  var expectSHA256: String?

  @Option(
    name: .customLong("keep-source"),
    help: ArgumentHelp(
      "Keep what is fetched from a hub in this directory, laid out like Hugging Face's cache.",
      valueName: "directory"), completion: .directory)
  var keepSource: String?

  @Flag(name: .long, help: "Replace the output of an earlier conversion.")
  var overwrite = false

  @Flag(name: .customLong("dry-run"), help: "Plan and check everything, but write nothing.")
  var dryRun = false

  @Flag(
    name: .customLong("discard-output"),
    help: ArgumentHelp("Do all the work and discard the output.", visibility: .hidden))
  var discardOutput = false

  func validate() throws {
    if resume, overwrite { throw ValidationError("--resume and --overwrite are mutually exclusive.") }
    guard memory.bytes >= ConversionOptions.minimumMemory else {
      throw ValidationError(
        "--memory must be at least \(ByteSize(bytes: ConversionOptions.minimumMemory).binary); got \(memory.binary)."
      )
    }
    try validate(archiving: archive)
  }

  /// Checks what only matters when making an archive.
  func validate(archiving: Bool) throws {
    guard archiving else { return }
    if discardOutput { throw ValidationError("A discarded output cannot be archived.") }
    guard memory.bytes >= ConversionOptions.minimumArchivingMemory else {
      throw ValidationError(
        "--memory must be at least \(ByteSize(bytes: ConversionOptions.minimumArchivingMemory).binary) for an archive; got \(memory.binary)."
      )
    }
  }
}

/// Runs a plan and reports the outcome.
struct PlannedRun {
  let planned: PlannedConversion
  /// The opened source.
  let checkpoint: Checkpoint
  let output: String
  let running: RunningOptions
  let common: CommonOptions
  /// Codes chosen by calibration beforehand.
  private var prepared: (any PreparedCodes)?
  /// How long that took.
  private var calibrationTimes: GPTQTimes?

  init(
    planned: PlannedConversion, checkpoint: Checkpoint, output: String, running: RunningOptions,
    common: CommonOptions
  ) {
    self.planned = planned
    self.checkpoint = checkpoint
    self.output = output
    self.running = running
    self.common = common
  }

  /// Calibrates the codes of the plan, then runs it.
  ///
  /// - Throws: What the calibration throws, and as ``run()``.
  mutating func run(calibratedWith input: CalibrationInput) async throws {
    do {
      let calibration = try GPTQCalibration(
        planned, input,
        options: RuntimeOptions(threads: common.threadCount, memory: running.memory.bytes))
      guard !running.dryRun, try !conversion().checkPlace(output) else { return try await run() }
      let outcome = try await CalibratedRun(
        calibration: calibration, output: output, running: running, common: common
      ).run()
      prepared = outcome.codes
      calibrationTimes = outcome.times
      try await run()
      try outcome.remove()
    } catch let error as CheckpointError {
      throw checkpoint.locating(error)
    }
  }

  /// - Throws: What the conversion throws; an interruption ends the process as one.
  func run() async throws {
    CommonOptions.warn("step3-convert", planned.plan.warnings)
    let engines = PlannedEngines(planned.plan)
    CommonOptions.warn("step3-convert", engines?.warnings ?? [])
    if running.dryRun { return try report(planned.plan, engines) }

    let destination = running.discardOutput ? nil : output
    let (outcome, seconds) = try await watching("converting", total: workBytes) {
      conversion, advance in
      guard let destination else { return try await conversion.rehearse(progress: advance) }
      return try await conversion.run(
        into: destination, progress: advance, warn: { CommonOptions.warn("step3-convert", [$0]) })
    }
    try report(outcome, seconds, engines)
  }

  /// Does one share.
  ///
  /// - Parameter sealing: Whether to complete the output if no other share is left.
  /// - Throws: As ``run()``.
  func run(_ share: ConversionShare, sealing: Bool) async throws {
    CommonOptions.warn("step3-convert", planned.plan.warnings)
    if running.dryRun { return try ShareSummary(share, of: planned.plan).print(json: common.json) }
    let output = output
    let bytes = try conversion().byteCount(of: share)
    let (outcome, seconds) = try await watching("share \(share)", total: bytes) { conversion, advance in
      try await conversion.run(share, into: output, progress: advance)
    }
    common.note("step3-convert", outcome.usage.describe(seconds: seconds))
    guard sealing, outcome.left.isEmpty, !outcome.isSealed else {
      return try ShareSummary(outcome, output: output, seconds: seconds).print(json: common.json)
    }
    do {
      try await seal()
    } catch let error as CheckpointError where error.code == .busy {
      // Two shares finished at the same time, and the other one is sealing.
      try ShareSummary(outcome, output: output, seconds: seconds).print(json: common.json)
    }
  }

  /// Completes an output all of whose shares are done.
  ///
  /// - Throws: As ``run()``.
  func seal() async throws {
    let (output, engines) = (output, PlannedEngines(planned.plan))
    let (outcome, seconds) = try await watching("sealing", total: workBytes) {
      conversion, advance in try await conversion.seal(output, progress: advance)
    }
    try report(outcome, seconds, engines)
  }

  private var workBytes: Int { planned.plan.workBytes + (running.archive ? planned.plan.outputBytes : 0) }

  private func conversion() throws -> Conversion {
    Conversion(
      planned,
      options: ConversionOptions(
        threads: common.threadCount,
        memory: ProcessUsage.available(of: running.memory.bytes, threads: common.threadCount),
        overwrite: running.overwrite,
        resume: running.resume, syncEvery: running.syncEvery.bytes, archive: running.archive,
        expectedDigests: try running.expectSHA256.map(ExpectedDigests.init(path:))
          ?? ExpectedDigests(ofSet: checkpoint) ?? ExpectedDigests(publishedFor: checkpoint)),
      prepared: prepared)
  }

  /// Runs an operation on the conversion, showing progress, until it is done or the user interrupts it.
  private func watching<Outcome: Sendable>(
    _ title: String, total: Int,
    _ work:
      @escaping @Sendable (Conversion, @escaping @Sendable (ConversionProgress) -> Void) async throws ->
      Outcome
  ) async throws -> (Outcome, seconds: Double) {
    let conversion = try conversion()
    let progress = common.progressReporter(title, total: total)
    defer { progress.finish() }
    let start = ContinuousClock.now
    do {
      let saysMore = !running.discardOutput && !common.json
      let outcome = try await Interruption.cancelling(
        saying: saysMore ? "step3-convert: warning: \(Interruption.canGoOn)" : nil
      ) {
        try await work(conversion) { step in
          progress.advance(by: step.bytes)
          if let tensor = step.tensor { progress.setItem(tensor) }
        }
      }
      progress.finish()
      return (outcome, (ContinuousClock.now - start) / .seconds(1))
    } catch let error as CheckpointError {
      // Errors found in the weights are about the source.
      throw checkpoint.locating(error)
    } catch let error as CancellationError {
      progress.finish()
      if !running.discardOutput, !common.json {
        CommonOptions.warn(
          "step3-convert", [Interruption.canGoOn])
      }
      throw error
    }
  }

  private func report(
    _ outcome: ConversionOutcome, _ seconds: Double, _ engines: PlannedEngines?
  ) throws {
    common.note("step3-convert", outcome.usage.describe(seconds: seconds))
    let request = planned.plan.request
    let rounded =
      planned.plan.source.derived.contains { GGUFValues.isShifted($0.operation) }
      ? try GGUFValues.rounded(ModelWeights(checkpoint, unread: .asStored), writtenAs: request.format) : []
    try ConversionSummary(
      outcome, output: running.discardOutput ? nil : output, source: checkpoint.path, rounded: rounded,
      format: request.format,
      engines: engines, seconds: seconds, calibrationSeconds: calibrationTimes
    ).print(json: common.json)
  }

  private func report(_ plan: ShardPlan, _ engines: PlannedEngines?) throws {
    if common.json {
      try StandardStream.output.write(json: plan, as: .plan)
    } else {
      try StandardStream.output.write(PlanTable(plan).rendered(width: StandardStream.output.columns))
      if let engines { try StandardStream.output.write(sentences: "\n\(engines.text)\n") }
    }
  }
}
