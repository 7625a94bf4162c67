public import ArgumentParser
public import Checkpoint
import CommandSupport
public import Quantization
public import QuantizationRecipes
import ShardPlanning
import TensorFormats

/// The output form, as spelled on the command line.
enum OutputForm: String, CaseIterable, ExpressibleByArgument {
  case safetensors, gguf
  /// The source's own format, archived.
  case archive

  /// The format of the weight files, archived or not.
  func format(for source: Checkpoint) -> Checkpoint.Format {
    switch self {
    case .safetensors: .safetensors
    case .gguf: .gguf
    case .archive: source.format
    }
  }
}

extension RouterSide: ExpressibleByArgument {}
extension SchemeRecipe.Scope: ExpressibleByArgument {}
extension ScaleSearch: ExpressibleByArgument {}

/// The ways to partition a model, as spelled on the command line.
enum PartitionKind: String, CaseIterable, ExpressibleByArgument {
  case none, afd
}

/// The options that shape the output, shared by `convert` and `plan`.
struct PlanningOptions: ParsableArguments {
  @Option(
    name: .long,
    help: "The format to write; archive keeps the source's format, compressed without loss (like --archive).")
  var to: OutputForm?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "How to store weights: a built-in recipe (for gguf Q4_K_M, IQ4_XS, Q8_0, ...; for safetensors W4A16, FP8_BLOCK, "
        + "NVFP4A16, ...; for both keep, BF16, F16, F32) or a recipe file. 'step3-convert recipes' lists them.",
      valueName: "recipe"),
    completion: .list(Recipe.builtIns.map(\.name)))
  var quantize = "keep"

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Store tensors whose name contains this regular expression as TYPE. May be given more than once.",
      valueName: "pattern=type"))
  var tensorType: [String] = []

  @Option(
    name: .long,
    help: "The linear layers that a scheme such as W4A16 applies to (default: experts; linear for FP8_BLOCK)."
  )
  var scope: SchemeRecipe.Scope?

  @Option(
    name: .customLong("group-size"),
    help: ArgumentHelp(
      "The number of weights that share a scale in W4A16: 128, 64 or 32 (default: 128).", valueName: "n"))
  var groupSize: Int?

  @Option(
    name: .customLong("scale-search"),
    help: ArgumentHelp(
      "How scales are chosen: as a scheme's own library does, or for the least error (default: mse for four bits)."
    )
  )
  var scaleSearch: ScaleSearch?

  @Option(name: .long, help: "Partition the model for attention-FFN disaggregated serving.")
  var partition: PartitionKind = .none

  @Option(
    name: .customLong("ffn-ep"),
    help: ArgumentHelp(
      "FFN instances that the experts are divided between, whole experts each.", valueName: "n"))
  var ffnEP = 1

  @Option(
    name: .customLong("ffn-tp"),
    help: ArgumentHelp(
      "Ranks that the intermediate dimension of every expert of an FFN instance is divided between.",
      valueName: "n"))
  var ffnTP = 1

  @Option(
    name: .customLong("attention-tp"),
    help: ArgumentHelp(
      "Ranks that the attention heads are divided between: wq by rows, o_proj by columns.", valueName: "n"))
  var attentionTP = 1

  @Option(name: .long, help: "The side that holds the router's weights.")
  var router: RouterSide = .attention

  @Option(
    name: .customLong("max-shard-size"),
    help: ArgumentHelp(
      "The largest weight file to write, unless a single tensor is larger.", valueName: "size"))
  var maximumShardSize = ByteSize(bytes: 5_000_000_000)

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The importance matrix (from llama-imatrix, GGUF or legacy) that weights quantisation errors.",
      valueName: "file"),
    completion: .file())
  var imatrix: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Leave out tensors whose name contains this regular expression. May be given more than once.",
      valueName: "pattern"))
  var exclude: [String] = []

  @OptionGroup(title: "Size budget") var budget: BudgetOptions

  @Flag(name: .customLong("no-mtp"), help: "Leave out the layers that predict further tokens.")
  var withoutPrediction = false

  @Flag(
    name: .customLong("mtp"),
    help: "Convert only the layers that predict further tokens, with embedding, final norm and head.")
  var onlyPrediction = false

  @Flag(
    name: .customLong("published-names"),
    help:
      "With --quantize keep: store a wrapped Step-3, or one with separate experts, under the published names."
  )
  var publishedNames = false

  @Flag(
    name: .customLong("allow-fallback"),
    help: "Go on even if more than 5 % of the parameters would not be stored as the recipe says.")
  var allowFallback = false

  @Flag(
    name: .long,
    help: "Refuse any deviation from what was requested: other formats, missing tensors or files.")
  var strict = false

  @Flag(
    name: .customLong("allow-nonfinite"),
    help: "Keep NaN and infinity where the target type can hold them.")
  var allowNonFinite = false

  @Option(
    name: .customLong("tokenizer-pre"),
    help: ArgumentHelp(
      "The pre-tokenizer's name in GGUF (default: recognised by how tokenizer.json splits text).",
      valueName: "name"))
  var tokenizerPre: String?

  func validate() throws {
    if tokenizerPre != nil, to == .safetensors { throw ValidationError("--tokenizer-pre needs --to gguf.") }
    for (option, count) in [("--ffn-ep", ffnEP), ("--ffn-tp", ffnTP), ("--attention-tp", attentionTP)] {
      if partition == .none, count != 1 { throw ValidationError("\(option) needs --partition afd.") }
      guard (1...PartIdentity.mostRanks).contains(count) else {
        throw ValidationError("\(option) must be from 1 to \(PartIdentity.mostRanks); got \(count).")
      }
    }
    guard ffnEP * ffnTP <= PartIdentity.mostRanks else {
      throw ValidationError(
        "--ffn-ep times --ffn-tp must be at most \(PartIdentity.mostRanks); got \(ffnEP * ffnTP).")
    }
    if budget.target != nil, partition != .none {
      throw ValidationError("A size budget is for one model: it cannot be combined with --partition afd.")
    }
    if strict, allowFallback {
      throw ValidationError("--strict and --allow-fallback are mutually exclusive.")
    }
    if withoutPrediction, onlyPrediction {
      throw ValidationError("--no-mtp and --mtp are mutually exclusive.")
    }
    if partition == .none, router != .attention { throw ValidationError("--router needs --partition afd.") }
    guard maximumShardSize.bytes >= 1 << 10 else {
      throw ValidationError("--max-shard-size must be at least 1 KiB; got \(maximumShardSize.binary).")
    }
  }

  /// Checks that a format is given: requests that only ask about memory may leave it out, for the source's own.
  func requireFormat() throws {
    if to == nil {
      let forms = OutputForm.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("Missing expected argument '--to <to>': one of \(forms)")
    }
  }

  /// Plans the conversion of a checkpoint, choosing formats first if requested.
  ///
  /// - Parameter output: The output to resume; `nil` if there is none.
  func plan(
    _ checkpoint: Checkpoint, calibration: ShardPlan.Calibration? = nil, resuming output: String? = nil,
    _ common: CommonOptions
  ) throws -> PlannedConversion {
    guard let target = budget.target else { return try plan(checkpoint, calibration: calibration) }
    let asked = try asked(of: checkpoint, calibration)
    return try budget.plan(
      checkpoint, target, asked.request, base: asked.recipe, pins: tensorType.count,
      importance: asked.importance, resuming: output, common)
  }

  /// Plans the conversion of a checkpoint as its recipe says.
  func plan(
    _ checkpoint: Checkpoint, calibration: ShardPlan.Calibration? = nil
  ) throws(CheckpointError) -> PlannedConversion {
    let asked = try asked(of: checkpoint, calibration)
    return try ShardPlanner.plan(
      checkpoint, request: asked.request, recipe: asked.recipe, importance: asked.importance)
  }

  private func asked(
    of checkpoint: Checkpoint, _ calibration: ShardPlan.Calibration?
  ) throws(CheckpointError) -> (request: ShardPlan.Request, recipe: Recipe, importance: ImportanceFile?) {
    let to = to?.format(for: checkpoint) ?? checkpoint.format
    if tokenizerPre != nil, to != .gguf {
      throw CheckpointError(
        .invalidRequest, "--tokenizer-pre needs an output in GGUF", remedy: "give --to gguf")
    }
    var overrides: [TensorTypeOverride] = []
    for argument in tensorType { overrides.append(try TensorTypeOverride(argument: argument)) }
    // A budget chooses formats for whatever this recipe would quantise.
    let quantize = budget.target != nil && quantize == "keep" ? "Q4_K" : quantize
    let recipe = try Recipe.named(
      quantize, for: to == .gguf ? .gguf : .safetensors, scope: scope, groupSize: groupSize
    ).overriding(with: overrides)
    let layout = ShardPlan.AFDLayout(ffnEP: ffnEP, ffnTP: ffnTP, attentionTP: attentionTP, router: router)
    var importance: ImportanceFile?
    if let imatrix { importance = try ImportanceFile(imatrix) }
    var exclude = exclude
    if withoutPrediction || onlyPrediction {
      exclude.append(try PredictionLayers(of: checkpoint).pattern(keepingThem: onlyPrediction))
    }
    let request = ShardPlan.Request(
      format: to, recipe: recipe.name, partition: partition == .none ? .none : .afd(layout),
      maximumShardBytes: maximumShardSize.bytes, scaleSearch: scaleSearch, tokenizerPre: tokenizerPre,
      exclude: exclude, publishedNames: publishedNames, allowNonFinite: allowNonFinite,
      calibration: calibration)
    return (request, recipe, importance)
  }

  /// Checks that a plan does what was requested, as strictly as the options say.
  func require(_ plan: ShardPlan) throws(CheckpointError) {
    if !allowFallback { try plan.requireRecipe() }
    if strict { try PlanNotes(plan).requireNone() }
  }
}
