import ArgumentParser
import BitAllocation
import ByteStreams
import Checkpoint
import CommandSupport
import Conversion
import QuantizationRecipes
import ShardPlanning
import TensorFormats

/// A limit on the output instead of a format.
struct BudgetOptions: ParsableArguments {
  @Option(
    name: .customLong("target-size"),
    help: ArgumentHelp(
      "Choose a format for each tensor, for the least loss with all weight files together no larger than this.",
      valueName: "size"))
  var size: ByteSize?

  @Option(
    name: .customLong("target-bpw"),
    help: ArgumentHelp("The same, with a limit on the bits per weight.", valueName: "bits"))
  var bitsPerWeight: Double?

  @Option(
    name: .customLong("max-kl"),
    help: ArgumentHelp(
      "The other way round: the smallest output whose estimated mean KL divergence is at most this.",
      valueName: "nats"))
  var klDivergence: Double?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The formats to choose from, separated by commas (default: what llama.cpp loads, from IQ1_S to Q8_0).",
      valueName: "types"))
  var candidates: String?

  @Option(
    name: .customLong("write-recipe"),
    help: ArgumentHelp(
      "Write the chosen recipe to this file, for --quantize. It must not exist.", valueName: "file"),
    completion: .file())
  var recipeFile: String?

  func validate() throws {
    guard [size != nil, bitsPerWeight != nil, klDivergence != nil].count(where: { $0 }) < 2 else {
      throw ValidationError("--target-size, --target-bpw and --max-kl are mutually exclusive.")
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

  /// The limit; `nil` if there is none.
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

  /// Chooses formats and plans the conversion; nothing is measured if a resumed output records what was chosen for it.
  ///
  /// - Parameters:
  ///   - base: Its first `pins` rules are those of the command line.
  ///   - output: The output to resume; `nil` if there is none.
  func plan(
    _ checkpoint: Checkpoint, _ target: ShardPlan.Budget.Target, _ request: ShardPlan.Request, base: Recipe,
    pins: Int, importance: ImportanceFile?, resuming output: String?, _ common: CommonOptions
  ) throws -> PlannedConversion {
    guard request.format == .gguf else {
      throw CheckpointError(
        .invalidRequest, "a size budget chooses from GGML's formats", remedy: "give --to gguf")
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
      common.note("step3-convert", "the chosen recipe is in \(recipeFile)")
    }
    return planned
  }

  private static func checkFree(_ path: String) throws(CheckpointError) {
    guard try !FileSystem.isTaken(path) else {
      throw CheckpointError(
        .cannotCreate, "already exists", path: path, remedy: "choose another name, or remove it")
    }
  }
}
