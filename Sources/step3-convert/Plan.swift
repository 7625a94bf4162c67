import ArgumentParser
import Checkpoint
import CommandSupport
import ServingEngines
import ShardPlanning

/// `step3-convert plan`: what a conversion would do.
struct Plan: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print what a conversion would write, and write nothing.",
    discussion: "Reads headers and config.json only. With --json the plan itself is printed.")

  @Argument(help: "The checkpoint to read.", completion: .file())
  var source: String

  @OptionGroup var planning: PlanningOptions

  @Option(
    name: .customLong("for-engine"),
    help: "Fail if this engine would not load the output, or load it wrongly.")
  var forEngine: Engine?

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let checkpoint = try Checkpoint.open(source)
    CommonOptions.warn("step3-convert", checkpoint.warnings)
    let plan = try planning.plan(checkpoint).plan
    CommonOptions.warn("step3-convert", plan.warnings)
    if let forEngine { try PlannedEngines.require(forEngine, of: plan) }
    if common.json {
      try StandardStream.output.write(json: plan)
    } else {
      try StandardStream.output.write(PlanTable(plan).rendered(width: StandardStream.output.columns))
      if let engines = PlannedEngines(plan) { try StandardStream.output.write("\n\(engines.text)\n") }
    }
    // The plan is there to be looked at; what convert would refuse it refuses too.
    try planning.require(plan)
  }
}
