import ArgumentParser
import Checkpoint
import CommandSupport
import Conversion
import ServingEngines
import Quantization
import ShardPlanning
import TensorFormats

/// `step3-convert SOURCE OUTPUT`: the conversion itself.
struct Convert: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Convert a checkpoint (the default subcommand).")

  @Argument(help: "The checkpoint to read.", completion: .file())
  var source: String

  @Argument(
    help: "The directory to write. It must not exist, unless --resume or --overwrite is given.",
    completion: .directory)
  var output: String

  @OptionGroup var planning: PlanningOptions

  @Option(name: .long, help: ArgumentHelp("The memory for buffers.", valueName: "size"))
  var memory = ByteSize(bytes: 1 << 30)

  @Flag(name: .long, help: "Go on with an interrupted conversion; start it if there is none.")
  var resume = false

  @Option(
    name: .customLong("sync-every"),
    help: ArgumentHelp(
      "Have this much output on the device before it counts as done: what a crash costs at most.",
      valueName: "size"))
  var syncEvery = ByteSize(bytes: 1 << 30)

  @Option(
    name: .customLong("expect-sha256"),
    help: ArgumentHelp(
      "A list as sha256sum writes it: fail if a weight file of the source is not what it says.",
      valueName: "file"), completion: .file())
  var expectSHA256: String?

  @Flag(name: .long, help: "Replace what an earlier conversion wrote there.")
  var overwrite = false

  @Option(
    name: .customLong("for-engine"), help: "Refuse to write what this engine would not load, or load wrongly."
  )
  var forEngine: Engine?

  @Flag(name: .customLong("dry-run"), help: "Plan and check everything, write nothing.")
  var dryRun = false

  @Flag(
    name: .customLong("discard-output"),
    help: ArgumentHelp("Do all the work and throw the output away.", visibility: .hidden))
  var discardOutput = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    if resume, overwrite { throw ValidationError("--resume and --overwrite exclude each other.") }
    guard memory.bytes >= ConversionOptions.minimumMemory else {
      throw ValidationError(
        "--memory must be at least \(ByteSize(bytes: ConversionOptions.minimumMemory).binary); got \(memory.binary)."
      )
    }
  }

  func run() async throws {
    let checkpoint = try Checkpoint.open(source)
    CommonOptions.warn("step3-convert", checkpoint.warnings)
    let planned = try planning.plan(checkpoint)
    try planning.require(planned.plan)
    CommonOptions.warn("step3-convert", planned.plan.warnings)
    // The loaders' rules need the plan only, so they are asked before hours of work.
    if let forEngine { try PlannedEngines.require(forEngine, of: planned.plan) }
    let engines = PlannedEngines(planned.plan)
    CommonOptions.warn("step3-convert", engines?.warnings ?? [])
    if dryRun { return try report(planned.plan, engines) }

    let conversion = Conversion(
      planned,
      options: ConversionOptions(
        threads: common.threadCount, memory: memory.bytes, overwrite: overwrite, resume: resume,
        syncEvery: syncEvery.bytes,
        expectedDigests: try expectSHA256.map(ExpectedDigests.init(path:))
          ?? ExpectedDigests(ofSet: checkpoint)))
    let progress = common.progressReporter("converting", total: planned.plan.workBytes)
    defer { progress.finish() }
    let start = ContinuousClock.now
    let outcome: ConversionOutcome
    do {
      outcome = try await run(conversion, progress)
    } catch let error as CheckpointError {
      // What is found in the weights on the way is about the source.
      throw checkpoint.locating(error)
    }
    progress.finish()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    common.note("step3-convert", outcome.usage.describe(seconds: seconds))
    try ConversionSummary(outcome, output: discardOutput ? nil : output, engines: engines, seconds: seconds)
      .print(json: common.json)
  }

  private func run(
    _ conversion: Conversion, _ progress: ProgressReporter
  ) async throws -> ConversionOutcome {
    let destination = discardOutput ? nil : output
    let advance: @Sendable (ConversionProgress) -> Void = { step in
      progress.advance(by: step.bytes)
      if let tensor = step.tensor { progress.setItem(tensor) }
    }
    do {
      return try await Interruption.cancelling {
        guard let destination else { return try await conversion.rehearse(progress: advance) }
        return try await conversion.run(
          into: destination, progress: advance, warn: { CommonOptions.warn("step3-convert", [$0]) })
      }
    } catch let error as CancellationError {
      progress.finish()
      if destination != nil, !common.json {
        CommonOptions.warn(
          "step3-convert", ["what is done is kept: the same command with --resume goes on from here"])
      }
      throw error
    }
  }

  private func report(_ plan: ShardPlan, _ engines: PlannedEngines?) throws {
    if common.json {
      try StandardStream.output.write(json: plan)
    } else {
      try StandardStream.output.write(PlanTable(plan).rendered(width: StandardStream.output.columns))
      if let engines { try StandardStream.output.write("\n\(engines.text)\n") }
    }
  }
}
