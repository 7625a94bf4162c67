import ArgumentParser
import Checkpoint
import CommandSupport
import Conversion
import Deployment
import ServingEngines
import ShardPlanning
import Locations

/// `step3-convert plan`: what a conversion would do.
struct Plan: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print what a conversion would write, or save the plan to run it later.",
    discussion: """
      Reads headers and config.json only; for a size budget (--target-size, --target-bpw, --max-kl) some rows of each \
      tensor too. With --json the plan itself is printed. With --output it is written to a file, with the headers of \
      the output files in a second file beside it: step3-convert run executes it.

      With --gpu-memory it says instead whether the planned weights, the KV cache and activations fit on cards, and \
      how many it takes (exit code 1 if they do not fit); with --deployment what decoding costs on the hardware that a \
      file describes.

      Examples:
        step3-convert plan step3 --to safetensors --quantize FP8_BLOCK
        step3-convert plan step3 --to safetensors --quantize FP8_BLOCK --gpu-memory 141GB --context 32K --batch 64
        step3-convert plan step3 --to gguf --target-size 180GB --imatrix step3.imatrix.gguf --write-recipe step3.yaml
        step3-convert plan step3 --deployment report.yaml --compare
      """)

  @Argument(
    help: "The checkpoint to read: a path, or an address such as hf://OWNER/NAME.", completion: .file())
  var source: String

  @OptionGroup var planning: PlanningOptions

  @Option(
    name: .customLong("for-engine"),
    help: "Fail if this engine would not load the output, or load it wrongly.")
  var forEngine: Engine?

  @Option(
    name: .long,
    help: ArgumentHelp("Write the plan to this file, for step3-convert run.", valueName: "file"),
    completion: .file())
  var output: String?

  @Flag(name: .long, help: "Replace an existing plan.")
  var overwrite = false

  @OptionGroup(title: "Serving") var serving: ServingOptions

  @OptionGroup var common: CommonOptions

  func validate() throws {
    if !serving.isGiven { try planning.requireFormat() }
    if serving.deployment != nil {
      for (option, isThere) in [
        ("--to", planning.to != nil), ("--quantize", planning.quantize != "keep"),
        ("--partition", planning.partition != .none), ("--output", output != nil),
        ("--for-engine", forEngine != nil),
      ] where isThere {
        throw ValidationError(
          "\(option) cannot be combined with --deployment, which plans no conversion: precisions come from its file."
        )
      }
    }
    if overwrite, output == nil { throw ValidationError("--overwrite needs --output.") }
  }

  func run() async throws {
    let checkpoint = try common.location(source).open()
    CommonOptions.warn("step3-convert", checkpoint.warnings)
    if let file = serving.deployment {
      return try DeploymentAnswer(checkpoint, file, serving).print(json: common.json)
    }
    let planned = try planning.plan(checkpoint, common)
    let plan = planned.plan
    CommonOptions.warn("step3-convert", plan.warnings)
    if let forEngine { try PlannedEngines.require(forEngine, of: plan) }
    if serving.gpuMemory != nil {
      let answer = try MemoryAnswer(checkpoint, plan, planning, serving)
      try answer.print(json: common.json)
      guard answer.memory.fits else { throw CommandLineTool.end(.checkFailed) }
    } else if common.json {
      try StandardStream.output.write(json: plan, as: .plan)
    } else {
      try StandardStream.output.write(PlanTable(plan).rendered(width: StandardStream.output.columns))
      if let engines = PlannedEngines(plan) {
        try StandardStream.output.write(sentences: "\n\(engines.text)\n")
      }
    }
    // The plan has been printed; refuse what convert would refuse.
    try planning.require(plan)
    guard let output else { return }
    try StoredPlan.write(
      planned, to: output, source: checkpoint.path, importance: planning.imatrix,
      overwriting: overwrite)
    let archive = planning.to == .archive ? " --archive" : ""
    common.note("step3-convert", "run it with: step3-convert run \(output) OUTPUT\(archive)")
  }
}
