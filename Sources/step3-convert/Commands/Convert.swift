import ArgumentParser
import Calibration
import Checkpoint
import CommandSupport
import Conversion
import ServingEngines
import Quantization
import ShardPlanning
import Locations
import TensorFormats

/// `step3-convert SOURCE OUTPUT`: the conversion itself.
struct Convert: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Convert a checkpoint (the default subcommand).")

  @Argument(
    help: "The checkpoint to read: a path, or an address such as hf://OWNER/NAME.", completion: .file())
  var source: String

  @Argument(
    help: "The directory to write. It must not exist, unless --resume or --overwrite is given.",
    completion: .directory)
  var output: String

  @OptionGroup var planning: PlanningOptions

  @OptionGroup(title: "Calibration") var method: MethodOptions

  @OptionGroup var running: RunningOptions

  @Option(
    name: .customLong("for-engine"), help: "Refuse to write what this engine would not load, or load wrongly."
  )
  var forEngine: Engine?

  @OptionGroup var common: CommonOptions

  func validate() throws {
    try planning.requireFormat()
    try running.validate(archiving: planning.to == .archive)
    guard method.method != nil else { return }
    // GGML has formats whose codes no method chooses, and which need an importance matrix.
    if planning.imatrix != nil, planning.to != .gguf {
      throw ValidationError("--method measures what --imatrix would supply; give only one of them.")
    }
    if running.discardOutput { throw ValidationError("--method cannot be combined with --discard-output.") }
  }

  func run() async throws {
    var running = running
    running.archive = running.archive || planning.to == .archive
    let location = try common.location(source, keeping: running.keepSource)
    let checkpoint = try location.open()
    CommonOptions.warn("step3-convert", checkpoint.warnings)
    let input = try method.input(for: checkpoint)
    let planned = try planning.plan(
      checkpoint, calibration: method.described(input), resuming: running.resume ? output : nil, common)
    try planning.require(planned.plan)
    // The loaders' rules need only the plan, so they are checked before hours of work.
    if let forEngine { try PlannedEngines.require(forEngine, of: planned.plan) }
    var run = PlannedRun(
      planned: planned, checkpoint: checkpoint, output: output, running: running, common: common)
    if let input {
      try await run.run(calibratedWith: input)
    } else {
      try await run.run()
    }
    if !running.dryRun { try location.completeKept() }
  }
}
