import ArgumentParser
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

  @OptionGroup var running: RunningOptions

  @Option(
    name: .customLong("for-engine"), help: "Refuse to write what this engine would not load, or load wrongly."
  )
  var forEngine: Engine?

  @OptionGroup var common: CommonOptions

  func validate() throws { try running.validate(archiving: planning.to == .archive) }

  func run() async throws {
    var running = running
    running.archive = running.archive || planning.to == .archive
    let location = try common.location(source, keeping: running.keepSource)
    let checkpoint = try location.open()
    CommonOptions.warn("step3-convert", checkpoint.warnings)
    let planned = try planning.plan(checkpoint)
    try planning.require(planned.plan)
    // The loaders' rules need the plan only, so they are asked before hours of work.
    if let forEngine { try PlannedEngines.require(forEngine, of: planned.plan) }
    try await PlannedRun(
      planned: planned, checkpoint: checkpoint, output: output, running: running, common: common
    ).run()
    if !running.dryRun { try location.completeKept() }
  }
}
