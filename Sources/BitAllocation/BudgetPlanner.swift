internal import ByteStreams
public import Checkpoint
public import ParallelWork
public import QuantizationRecipes
public import ShardPlanning
internal import Step3Model
public import TensorFormats

/// Chooses a format for each tensor of a GGUF output, for the least loss within a limit, and plans the conversion.
///
/// What each tensor loses in each format is measured on some of its rows (``FormatErrors``), what that means for the
/// model is a rule (``Sensitivity``), and the choice is one of ``AllocationProblem``. It becomes an ordinary recipe:
/// the plan follows from its recipe file.
public struct BudgetPlanner: Sendable {
  private let checkpoint: Checkpoint
  private let request: ShardPlan.Request
  private let base: Recipe
  private let pins: Int
  private let importance: ImportanceFile?
  private let target: ShardPlan.Budget.Target
  private let candidates: [ElementType]?

  /// Prepares a choice.
  ///
  /// - Parameters:
  ///   - request: The request to plan. The chosen recipe gets its recipe's name.
  ///   - base: Says which tensors are quantised in blocks, and how all others are stored.
  ///   - pins: How many of the base's first rules must not be changed.
  ///   - candidates: The formats to choose from; `nil` for the default.
  public init(
    _ checkpoint: Checkpoint, request: ShardPlan.Request, base: Recipe, pins: Int,
    importance: ImportanceFile?, target: ShardPlan.Budget.Target, candidates: [ElementType]?
  ) {
    self.checkpoint = checkpoint
    self.request = request
    self.base = base
    self.pins = pins
    self.importance = importance
    self.target = target
    self.candidates = candidates
  }

  /// XXH3-128 of everything that the choice depends on, besides the weights.
  private var basis: String {
    var text = "\(base.yaml())\n\(pins)\n\(target)\n\(importance?.xxh3 ?? "")\n"
    text += (candidates ?? []).map(\.rawValue).joined(separator: ",")
    text += "\n\(request.exclude)\n\(request.maximumShardBytes ?? 0)\n\(request.allowNonFinite)"
    var digester = XXH3Digester()
    unsafe digester.update(Array(text.utf8).span.bytes)
    return "\(digester.finalize())"
  }

  /// Plans with a choice that was made before.
  ///
  /// - Parameter budget: The budget in an earlier run's plan.
  /// - Throws: `.invalidRequest` if that had a different request; what planning throws.
  public func plan(taking budget: ShardPlan.Budget) throws(CheckpointError) -> PlannedConversion {
    guard budget.basis == basis else {
      throw CheckpointError(
        .invalidRequest, "was begun with another budget, other candidates, or another base for them",
        remedy: "give the options it was begun with, or start afresh with --overwrite")
    }
    return try plan(budget)
  }

  private func plan(_ budget: ShardPlan.Budget) throws(CheckpointError) -> PlannedConversion {
    var request = request
    request.budget = budget
    return try ShardPlanner.plan(
      checkpoint, request: request,
      recipe: Recipe(yaml: budget.recipe, path: "the recipe of the budget"), importance: importance)
  }

  /// Measures, chooses and plans.
  ///
  /// - Parameter begin: Called once with the bytes that will be read.
  /// - Throws: `.invalidRequest` for a limit that cannot be kept, with the possible range, and if there is nothing to
  ///   choose; what planning and measuring throw.
  /// - Complexity: In the number of tensors and candidates; the sample has a fixed size for each tensor.
  public func plan(threads: Int, begin: (Int) -> WorkMonitor) throws -> PlannedConversion {
    let first = try ShardPlanner.plan(checkpoint, request: request, recipe: base, importance: importance)
    let measured = try free(first)
    guard !measured.isEmpty else {
      throw CheckpointError(
        .invalidRequest,
        "there is nothing to choose: no tensor is quantised in blocks by \(base.name.printable)",
        path: checkpoint.path, remedy: "choose another recipe with --quantize, or give fewer --tensor-type")
    }
    let (errors, sampledBytes) = try FormatErrors.measure(
      measured, in: first.checkpoint, importance: importance?.matrix, threads: threads,
      allowNonFinite: request.allowNonFinite, begin: begin)
    let choice = try BudgetChoice(
      measured, errors, sizes: SizeMeasure(target),
      sensitivity: Sensitivity(
        try Step3Configuration(of: first.checkpoint), elements: first.plan.parameters,
        hasTiedEmbedding: !first.plan.files.contains { $0.tensors.contains { $0.role == .lmHead } }))
    let fixed = mixtures(choice)

    // The size of headers and other tensors is known from a plan; the number of files only from the final one.
    var plan = first
    var overhead = choice.overhead(of: first.plan)
    while true {
      let allocation = try choice.allocation(
        for: target, overhead: overhead, parameters: first.plan.parameters)
      let budget = describe(allocation, choice, first, fixed, overhead: overhead, sampledBytes: sampledBytes)
      plan = try self.plan(budget)
      try choice.check(plan.plan, holds: allocation)
      let actual = choice.overhead(of: plan.plan)
      let size = choice.sizes.bytes(of: plan.plan)
      if actual <= overhead || choice.isKept(target, by: plan.plan) {
        guard size != budget.bytes else { return plan }
        var budget = budget
        budget.bytes = size
        return try self.plan(budget)
      }
      overhead = actual
    }
  }

  /// The tensors whose formats are chosen: those that an unpinned rule of the base quantises in blocks.
  private func free(_ planned: PlannedConversion) throws(CheckpointError) -> [MeasuredTensor] {
    var measured: [MeasuredTensor] = []
    for tensor in planned.plan.files.flatMap(\.tensors) {
      guard tensor.elementType.isBlockQuantized, let rule = planned.rules[tensor.name], rule >= pins,
        tensor.sources.count == 1, (2...3).contains(tensor.shape.rank), tensor.shape.elementCount > 0
      else { continue }
      let slice = tensor.source
      let isCovered = try importance?.matrix.covers(
        tensor.name, columns: tensor.shape.columns,
        expertCount: tensor.shape.rank == 3 ? tensor.shape.dimensions[0] : nil)
      let formats = Candidates.fitting(
        candidates, shape: tensor.shape, source: slice.scaling == nil ? slice.elementType : nil,
        hasImportance: isCovered == true)
      guard !formats.isEmpty else { continue }
      measured.append(
        MeasuredTensor(tensor, formats: formats, importance: isCovered == true ? tensor.name : nil))
    }
    return measured
  }

  private func describe(
    _ allocation: Allocation, _ choice: BudgetChoice, _ first: PlannedConversion,
    _ fixed: [ShardPlan.Budget.Fixed], overhead: Int, sampledBytes: Int
  ) -> ShardPlan.Budget {
    let formats = choice.formats(allocation)
    let tensors = first.plan.files.flatMap(\.tensors)
    let used = Set(tensors.filter { formats[$0.name] == nil }.compactMap { first.rules[$0.name] })
    let recipe = BudgetRecipe(
      tensors: tensors.map { .init(name: $0.name, layer: $0.layer) }, choices: formats
    ).recipe(
      named: request.recipe, summary: "chosen by measured errors for \(Self.words(target))", base: base,
      pins: pins, used: used)
    let bytes = allocation.bytes + overhead
    return ShardPlan.Budget(
      target: target, basis: basis,
      recipe: recipe.yaml(comment: [
        "Chosen by step3-convert for \(Self.words(target)): estimated KL divergence "
          + "\(NumberText.significant(allocation.cost))"
      ]), multiplier: allocation.multiplier, estimatedKL: allocation.cost, bytes: bytes,
      reachable: choice.reachable(overhead: overhead), sampledRows: choice.sampledRows,
      sampledBytes: sampledBytes, choices: choice.described(allocation),
      fixed: Array(
        fixed.filter { abs($0.bytes - bytes) <= bytes / 50 || $0.bytes < bytes && $0.bytes > bytes * 9 / 10 }
          .sorted { ($0.estimatedKL, $0.bytes) < ($1.estimatedKL, $1.bytes) }.prefix(3)))
  }

  /// The target as text.
  static func words(_ target: ShardPlan.Budget.Target) -> String {
    switch target {
    case .bytes(let bytes): "at most \(bytes) bytes"
    case .bitsPerWeight(let bits): "at most \(bits) bits per weight"
    case .klDivergence(let limit): "an estimated KL divergence of at most \(limit)"
    }
  }

  /// The built-in recipes with their estimates, if they use only measured formats.
  private func mixtures(_ choice: BudgetChoice) -> [ShardPlan.Budget.Fixed] {
    let pinned = Recipe(name: "", summary: "", rules: Array(base.rules.prefix(pins)))
    return Recipe.builtIns.compactMap { recipe in
      guard recipe.container != .safetensors, !recipe.isCopy else { return nil }
      var recipe = recipe
      recipe.rules = pinned.rules + recipe.rules
      guard
        let planned = try? ShardPlanner.plan(
          checkpoint, request: request, recipe: recipe, importance: importance),
        let estimate = choice.estimate(planned.plan)
      else { return nil }
      return ShardPlan.Budget.Fixed(
        recipe: recipe.name, bytes: choice.sizes.bytes(of: planned.plan), estimatedKL: estimate)
    }
  }
}
