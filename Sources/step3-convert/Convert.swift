import ArgumentParser
import Checkpoint
import CommandSupport
import Conversion
import Quantization
import ShardPlanning
import TensorFormats

/// `step3-convert SOURCE OUTPUT`: the conversion itself.
struct Convert: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Convert a checkpoint (the default subcommand).")

  @Argument(help: "The checkpoint to read.", completion: .file())
  var source: String

  @Argument(help: "The directory to write. It must not exist.", completion: .directory)
  var output: String

  @OptionGroup var planning: PlanningOptions

  @Option(name: .long, help: ArgumentHelp("The memory for buffers.", valueName: "size"))
  var memory = ByteSize(bytes: 1 << 30)

  @Flag(name: .long, help: "Replace what an earlier conversion wrote there.")
  var overwrite = false

  @Flag(name: .customLong("dry-run"), help: "Plan and check everything, write nothing.")
  var dryRun = false

  @Flag(
    name: .customLong("allow-nonfinite"),
    help: "Pass NaN and infinity on where the target type can hold them.")
  var allowNonFinite = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
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
    if dryRun { return try report(planned.plan) }

    let conversion = Conversion(
      checkpoint, planned,
      options: ConversionOptions(
        threads: common.threadCount, memory: memory.bytes, nonFinite: allowNonFinite ? .pass : .reject,
        overwrite: overwrite))
    let progress = common.progressReporter("converting", total: planned.plan.sourceBytes)
    defer { progress.finish() }
    let start = ContinuousClock.now
    let destination = output
    let manifest = try await Interruption.cancelling {
      try await conversion.run(into: destination) { step in
        progress.advance(by: step.bytes)
        if let tensor = step.tensor { progress.setItem(tensor) }
      }
    }
    progress.finish()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    try ConversionSummary(manifest, output: output, seconds: seconds).print(json: common.json)
  }

  private func report(_ plan: ShardPlan) throws {
    if common.json {
      try StandardStream.output.write(json: plan)
    } else {
      try StandardStream.output.write(PlanTable(plan).rendered(width: StandardStream.output.columns))
    }
  }
}
