internal import Checkpoint
internal import Quantization
internal import QuantizationRecipes
internal import TensorFormats

/// Asks the recipe how each placed tensor is stored, and notes every place where it gets something else.
struct FormatChoice {
  let recipe: Recipe
  let container: Container
  let sourceContainer: Container
  let layerCount: Int
  let expertCount: Int
  let importance: ImportanceMatrix?

  /// What was decided for all tensors.
  struct Decisions {
    /// The tensors with their types.
    var tensors: [PlacedTensor] = []
    /// What is stored otherwise than its rule asked.
    var fallbacks: [ShardPlan.Fallback] = []
    /// The source tensors that could have used an importance matrix's weights and have none.
    var unweighted: Set<String> = []
  }

  /// Decides for all tensors.
  ///
  /// - Throws: `.invalidRequest` for a rule that decides nothing, a tensor that no rule covers, a format that needs an
  ///   importance matrix, or one of another model; `.unsupported` for a type that cannot be made of the source's, and
  ///   for a cut inside a block.
  func decide(_ tensors: [PlacedTensor], hasTiedEmbedding: Bool) throws(CheckpointError) -> Decisions {
    var used: Set<Int> = []
    var result = Decisions()
    result.tensors.reserveCapacity(tensors.count)
    // Boxes of one size from one tensor are alike, and 64 ranks have 64 of them.
    var settled: [Box: Settled] = [:]
    var noted: Set<String> = []
    for var placed in tensors {
      let name = placed.source.tensor.name
      let box = Box(tensor: name, extent: placed.extent)
      let choice: Settled
      if let known = settled[box] {
        choice = known
      } else {
        choice = try settle(placed, hasTiedEmbedding: hasTiedEmbedding)
        settled[box] = choice
        if let rule = choice.rule { used.insert(rule) }
      }
      placed.elementType = choice.elementType
      placed.derivation = choice.derivation
      placed.importance = choice.importance
      if choice.lacksImportance { result.unweighted.insert(name) }
      if let fallback = choice.fallback, noted.insert(name).inserted { result.fallbacks.append(fallback) }
      result.tensors.append(placed)
    }
    try recipe.requireAllUsed(used)
    return result
  }

  private struct Box: Hashable {
    let tensor: String
    let extent: [Int]
  }

  private struct Settled {
    let elementType: ElementType
    let derivation: ShardPlan.Derivation
    let importance: String?
    let lacksImportance: Bool
    let fallback: ShardPlan.Fallback?
    let rule: Int?
  }
}

// MARK: - One tensor

extension FormatChoice {
  private func settle(_ placed: PlacedTensor, hasTiedEmbedding: Bool) throws(CheckpointError) -> Settled {
    let source = placed.source
    let subject = subject(placed, hasTiedEmbedding: hasTiedEmbedding)
    var decision: RecipeDecision
    do throws(CheckpointError) {
      decision = try recipe.decide(subject, in: container)
    } catch {
      guard let cut = placed.cut, error.code == .unsupported else { throw error }
      var refusal = error
      refusal.remedy = [error.remedy, placed.choices(cut, unit: 1)].compactMap { $0 }.joined(
        separator: "; or ")
      throw refusal
    }
    let weights = try importanceName(of: placed)
    if let obstacle = try obstacle(decision.format, placed, hasWeights: weights != nil) {
      decision = try instead(of: decision, obstacle, placed, subject, hasWeights: weights != nil)
    }
    let format = decision.format
    let type = format.elementType(of: source.tensor.elementType)
    let isCodes = format == .blockFP8 && source.scale == nil
    try checkConvertible(placed, to: type, isRecoded: isCodes || source.scale != nil)
    let isEncoded = type != source.tensor.elementType || source.scale != nil
    let uses = isEncoded && BlockCodec.codec(for: type)?.usesImportance == true
    return Settled(
      elementType: type, derivation: isCodes ? .blockFP8Codes : .values, importance: uses ? weights : nil,
      lacksImportance: uses && weights == nil && importance != nil,
      fallback: decision.reason.map {
        ShardPlan.Fallback(
          tensor: source.tensor.name, wanted: decision.wanted.spelling, stored: format.spelling, reason: $0)
      }, rule: decision.rule)
  }

  private func subject(_ placed: PlacedTensor, hasTiedEmbedding: Bool) -> RecipeSubject {
    let source = placed.source
    return RecipeSubject(
      name: source.tensor.name,
      otherNames: [source.safetensorsName, source.ggufName].compactMap { $0 }.filter {
        $0 != source.tensor.name
      },
      role: source.role, layer: source.layer, layerCount: layerCount, shape: placed.shape,
      sourceType: source.tensor.elementType, sourceContainer: sourceContainer,
      isExpertStack: source.isExpertStack, expertCount: expertCount,
      hasTiedEmbedding: hasTiedEmbedding)
  }

  /// The name under which the importance matrix has something about a tensor.
  private func importanceName(of placed: PlacedTensor) throws(CheckpointError) -> String? {
    let shape = placed.source.tensor.shape
    guard let importance, let name = placed.source.ggufName, (2...3).contains(shape.rank) else { return nil }
    let experts = shape.rank == 3 ? shape.dimensions[0] : nil
    return try importance.covers(name, columns: shape.columns, expertCount: experts) ? name : nil
  }

  /// Why a tensor cannot be stored this way, where its shape alone does not tell; `nil` if it can.
  private func obstacle(
    _ format: StorageFormat, _ placed: PlacedTensor, hasWeights: Bool
  ) throws(CheckpointError) -> String? {
    if format == .blockFP8, let inside = placed.cutInsideTile { return inside }
    let type = format.elementType(of: placed.source.tensor.elementType)
    guard type != placed.source.tensor.elementType, !hasWeights,
      BlockCodec.codec(for: type)?.needsImportance == true
    else { return nil }
    guard importance != nil else {
      throw CheckpointError(
        .invalidRequest, "\(type) cannot be encoded without an importance matrix",
        tensor: placed.source.tensor.name, remedy: "give one with --imatrix, or choose another format")
    }
    return "\(type) needs an importance matrix, and the one given has nothing about this tensor"
  }

  /// What the recipe allows instead of a format that its shape would fit.
  private func instead(
    of decision: RecipeDecision, _ obstacle: String, _ placed: PlacedTensor, _ subject: RecipeSubject,
    hasWeights: Bool
  ) throws(CheckpointError) -> RecipeDecision {
    let fallback = decision.rule.flatMap { recipe.rules[$0].fallback } ?? recipe.onMisfit
    let chain =
      switch fallback {
      case .error: [StorageFormat]()
      case .chain(let formats): formats
      case .standard: Fallback.standardChain(for: decision.format, source: subject.sourceType)
      }
    for format in chain where format.misfit(placed.shape, source: subject.sourceType, in: container) == nil {
      guard try self.obstacle(format, placed, hasWeights: hasWeights) == nil else { continue }
      return RecipeDecision(
        format: format, wanted: decision.wanted,
        reason: [decision.reason, obstacle].compactMap { $0 }.joined(separator: "; "), rule: decision.rule,
        keptPrecise: decision.keptPrecise)
    }
    let choices = placed.cut.map { placed.choices($0, unit: StorageFormat.tileSide) }
    throw CheckpointError(
      .unsupported, "cannot be stored as \(decision.format): \(obstacle)", tensor: subject.name,
      remedy: choices ?? "give the rule a fallback, or another format")
  }
}

// MARK: - What can be made of the source

extension FormatChoice {
  private func checkConvertible(
    _ placed: PlacedTensor, to type: ElementType, isRecoded: Bool
  ) throws(CheckpointError) {
    let from = placed.source.tensor.elementType
    if from != type || isRecoded {
      guard BlockCodec.codec(for: from) != nil, !from.isInteger else {
        throw CheckpointError(
          .unsupported, "\(from) cannot be converted to \(type)", tensor: placed.source.tensor.name,
          remedy: "keep it with --tensor-type")
      }
      guard let encoder = BlockCodec.codec(for: type), encoder.canEncode else {
        throw CheckpointError(.unsupported, "\(type) cannot be written", tensor: placed.source.tensor.name)
      }
    }
    // A cut inside a block of the source would need the block taken apart.
    let block = from.block.elements
    guard let start = placed.origin.last, let length = placed.extent.last, !placed.isWhole else { return }
    guard start % block == 0, length % block == 0 else {
      throw CheckpointError(
        .unsupported,
        "the cut at columns \(start) to \(start + length) falls inside the source's blocks of \(block) (\(from))",
        tensor: placed.source.tensor.name,
        remedy: "convert to BF16 first"
          + (placed.cut.map { ", or cut otherwise: \(placed.choices($0, unit: block))" } ?? ""))
    }
  }
}

extension PlacedTensor {
  /// What would fit instead of a cut, if each piece has to be a multiple of `unit`.
  func choices(_ cut: Cut, unit: Int) -> String {
    cut.choices(length: source.tensor.shape.dimensions[cut.axis], unit: unit)
  }

  /// Why the box's tiles are not the tensor's; `nil` if they are, or if it is no matrix.
  var cutInsideTile: String? {
    let side = StorageFormat.tileSide
    let dimensions = source.tensor.shape.dimensions
    for axis in dimensions.indices.suffix(2) {
      let end = origin[axis] + extent[axis]
      guard origin[axis] % side == 0, end % side == 0 || end == dimensions[axis] else {
        return "the cut at \(origin[axis]) to \(end) of dimension \(axis) falls inside an FP8 tile of \(side)"
      }
    }
    return nil
  }
}

extension BlockCodec {
  fileprivate var usesImportance: Bool { if case .ignored = importanceUse { false } else { true } }
  fileprivate var needsImportance: Bool { if case .required = importanceUse { true } else { false } }
}
