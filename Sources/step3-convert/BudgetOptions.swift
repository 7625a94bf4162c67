import ArgumentParser
import BitAllocation
import ByteStreams
import Checkpoint
import CommandSupport
import Conversion
import QuantizationRecipes
import ShardPlanning
import TensorFormats

/// A bound on the output instead of a format.
struct BudgetOptions: ParsableArguments {
  @Option(
    name: .customLong("target-size"),
    help: ArgumentHelp(
      "Choose a format for each tensor so that all weight files together take no more than this, and lose least.",
      valueName: "size"))
  var size: ByteSize?

  @Option(
    name: .customLong("target-bpw"),
    help: ArgumentHelp("The same with a bound on the bits per weight.", valueName: "bits"))
  var bitsPerWeight: Double?

  @Option(
    name: .customLong("max-kl"),
    help: ArgumentHelp(
      "The same the other way round: the smallest output whose estimated mean KL divergence is no more than this.",
      valueName: "nats"))
  var klDivergence: Double?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The formats to choose among, with commas between (default: what llama.cpp loads, from IQ1_S to Q8_0).",
      valueName: "types"))
  var candidates: String?

  @Option(
    name: .customLong("write-recipe"),
    help: ArgumentHelp(
      "Write the choice to this file, for --quantize. It must not exist.", valueName: "file"),
    completion: .file())
  var recipeFile: String?

  func validate() throws {
    guard [size != nil, bitsPerWeight != nil, klDivergence != nil].count(where: { $0 }) < 2 else {
      throw ValidationError("--target-size, --target-bpw and --max-kl exclude each other.")
    }
    if let size, size.bytes < 1 { throw ValidationError("--target-size must be more than 0.") }
    for (option, value) in [("--target-bpw", bitsPerWeight), ("--max-kl", klDivergence)] {
      if let value, !value.isFinite || value <= 0 || value > 1000 {
        throw ValidationError("\(option) must be more than 0; got \(value).")
      }
    }
    guard target == nil else { return }
    for (option, value) in [("--candidates", candidates), ("--write-recipe", recipeFile)] where value != nil {
      throw ValidationError("\(option) needs --target-size, --target-bpw or --max-kl.")
    }
  }

  /// What is bounded; `nil` if nothing is.
  var target: ShardPlan.Budget.Target? {
    if let size { return .bytes(size.bytes) }
    if let bitsPerWeight { return .bitsPerWeight(bitsPerWeight) }
    return klDivergence.map { .klDivergence($0) }
  }

  /// What the chosen recipe is called.
  private var name: String {
    if let size { return "budget-" + size.decimal.filter { $0 != " " } }
    if let bitsPerWeight { return "budget-\(bitsPerWeight)bpw" }
    return "budget-kl-\(klDivergence ?? 0)"
  }

  /// Chooses, and plans the conversion; nothing is measured where an output that goes on says what was chosen for it.
  ///
  /// - Parameters:
  ///   - base: With `pins` rules of the command line in front.
  ///   - output: The output that goes on; `nil` if none does.
  func plan(
    _ checkpoint: Checkpoint, _ target: ShardPlan.Budget.Target, _ request: ShardPlan.Request, base: Recipe,
    pins: Int, importance: ImportanceFile?, resuming output: String?, _ common: CommonOptions
  ) throws -> PlannedConversion {
    guard request.format == .gguf else {
      throw CheckpointError(
        .invalidRequest, "a size budget chooses among GGML's formats", remedy: "give --to gguf")
    }
    if let recipeFile { try Self.checkFree(recipeFile) }
    var request = request
    request.recipe = name
    let planner = BudgetPlanner(
      checkpoint, request: request, base: base, pins: pins, importance: importance, target: target,
      candidates: try candidates.map { try Candidates.parse($0) })
    let planned: PlannedConversion
    if let output, let begun = try Conversion.request(begunIn: output)?.budget {
      planned = try planner.plan(taking: begun)
    } else {
      planned = try common.reporting("sampling") { begin in
        try planner.plan(threads: common.threadCount, begin: begin)
      }
    }
    if let recipeFile, let budget = planned.plan.request.budget {
      try Self.checkFree(recipeFile)
      try FileSystem.writeAtomically(Array(budget.recipe.utf8), to: recipeFile)
      common.note("step3-convert", "the choice is in \(recipeFile)")
    }
    return planned
  }

  private static func checkFree(_ path: String) throws(CheckpointError) {
    guard try !FileSystem.isTaken(path) else {
      throw CheckpointError(
        .cannotCreate, "exists already", path: path, remedy: "choose another name, or remove it")
    }
  }
}
