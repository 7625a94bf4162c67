internal import Checkpoint
internal import Quantization
internal import QuantizationRecipes
internal import ServingEngines
internal import TensorFormats

/// Asks the recipe how to store each placed tensor, and records every deviation.
struct FormatChoice {
  let recipe: Recipe
  let container: Checkpoint.Format
  let sourceContainer: Checkpoint.Format
  let layerCount: Int
  let expertCount: Int
  let importance: ImportanceMatrix?
  /// How the scales of schemes are chosen; `nil` for the default.
  let scaleSearch: ScaleSearch?

  /// What was decided for all tensors.
  struct Decisions {
    /// The tensors with their types.
    var tensors: [PlacedTensor] = []
    /// Tensors not stored as their rule asked.
    var fallbacks: [ShardPlan.Fallback] = []
    /// The source tensors that could have used importance weights but have none.
    var unweighted: Set<String> = []
    /// Whether the importance matrix covers any tensor.
    var isCovered = false
    /// The rules that decided, by the tensors' names in GGUF.
    var rules: [String: Int] = [:]
  }

  /// Decides for all tensors.
  ///
  /// - Throws: `.invalidRequest` for a rule that decides nothing, a tensor that no rule covers, a format that needs an
  ///   importance matrix, or one of another model; `.unsupported` for a type that the source's cannot be converted to,
  ///   and for a cut inside a block.
  func decide(_ tensors: [PlacedTensor], hasTiedEmbedding: Bool) throws(CheckpointError) -> Decisions {
    var used: Set<Int> = []
    var result = Decisions()
    result.tensors.reserveCapacity(tensors.count)
    // Boxes of the same size from one tensor are decided alike; 64 ranks have 64 of them.
    var settled: [Box: Settled] = [:]
    for placed in tensors where settled[Box(placed)] == nil {
      let choice = try settle(placed, hasTiedEmbedding: hasTiedEmbedding, encodes: false)
      settled[Box(placed)] = choice
      if let rule = choice.rule { used.insert(rule) }
    }
    for placed in Self.lackingNeighbours(tensors.map { ($0, settled[Box($0)]?.treatment) }) {
      settled[Box(placed)] = try settle(placed, hasTiedEmbedding: hasTiedEmbedding, encodes: true)
    }
    var positions: [String: Int] = [:]
    for var placed in tensors {
      let name = placed.source.name
      guard let choice = settled[Box(placed)] else { continue }
      placed.treatment = choice.treatment
      if choice.lacksImportance { result.unweighted.insert(name) }
      if choice.hasImportance { result.isCovered = true }
      if let ggufName = placed.source.ggufName { result.rules[ggufName] = choice.rule }
      if var fallback = choice.fallback {
        fallback.parameters = placed.shape.elementCount
        if let position = positions[name] {
          result.fallbacks[position].parameters += fallback.parameters
        } else {
          positions[name] = result.fallbacks.count
          result.fallbacks.append(fallback)
        }
      }
      result.tensors.append(placed)
    }
    try recipe.requireAllUsed(used)
    return result
  }

  private struct Box: Hashable {
    let tensor: String
    let extent: [Int]

    init(_ placed: PlacedTensor) {
      tensor = placed.source.safetensorsName
      extent = placed.box.extent
    }
  }

  private struct Settled {
    let treatment: Treatment
    let lacksImportance: Bool
    /// Whether the importance matrix covers it, used or not.
    let hasImportance: Bool
    let fallback: ShardPlan.Fallback?
    let rule: Int?
  }
}

// MARK: - Neighbours

extension FormatChoice {
  /// The weights that could keep their codes on their own, but share a scale or a tensor with others that
  /// cannot, or have individual scales where there must be a common one.
  private static func lackingNeighbours(_ tensors: [(PlacedTensor, Treatment?)]) -> [PlacedTensor] {
    struct Member {
      let tensor: PlacedTensor
      let isEncoded: Bool
      let hasOwnScale: Bool
    }
    var groups: [String: [Member]] = [:]
    for (tensor, treatment) in tensors {
      guard let treatment, !treatment.isKept, let scheme = treatment.scheme,
        let module = EngineModules.module(of: tensor.source.safetensorsName)
      else { continue }
      let joins = scheme.fusesQueries && EngineModules.fusedQuery(module) != nil
      guard scheme.scheme.geometry.hasMatrixScale || joins else { continue }
      groups[EngineModules.scaleGroup(module), default: []].append(
        Member(
          tensor: tensor, isEncoded: treatment.operation.decodes,
          hasOwnScale: joins && scheme.scheme.geometry.hasMatrixScale && !tensor.source.isFused))
    }
    return groups.values.flatMap { members in
      let first = members[0]
      let isUniform = members.allSatisfy {
        $0.isEncoded == first.isEncoded && !$0.hasOwnScale
          && (first.isEncoded || $0.tensor.source.scheme == first.tensor.source.scheme)
      }
      return isUniform ? [] : members.filter { !$0.isEncoded }.map(\.tensor)
    }
  }
}

// MARK: - One tensor

extension FormatChoice {
  /// - Parameter encodes: Whether to re-encode a scheme's codes even if the source's could be kept.
  private func settle(
    _ placed: PlacedTensor, hasTiedEmbedding: Bool, encodes: Bool
  ) throws(CheckpointError) -> Settled {
    let subject = subject(placed, hasTiedEmbedding: hasTiedEmbedding)
    let weights = try importanceName(of: placed)
    let decision = try decide(subject, placed, hasWeights: weights != nil)
    let treatment = try Treatment(
      placed, as: decision.format, encodes: encodes, weights: weights, search: scaleSearch)
    try placed.checkBlocks()
    return Settled(
      treatment: treatment,
      lacksImportance: treatment.hasUseForWeights && weights == nil && importance != nil,
      hasImportance: weights != nil,
      fallback: decision.reason.map {
        ShardPlan.Fallback(
          tensor: placed.source.name, wanted: decision.wanted.spelling, stored: decision.format.spelling,
          reason: $0, parameters: 0, isForeseen: isForeseen(decision))
      }, rule: decision.rule)
  }

  /// The recipe's decision. If nothing fits a box, the error also says which cuts would.
  private func decide(
    _ subject: RecipeSubject, _ placed: PlacedTensor, hasWeights: Bool
  ) throws(CheckpointError) -> RecipeDecision {
    var obstructed: StorageFormat?
    do throws(CheckpointError) {
      return try recipe.decide(subject, in: container) { format throws(CheckpointError) in
        let obstacle = try obstacle(format, placed, hasWeights: hasWeights)
        if obstacle != nil, obstructed == nil { obstructed = format }
        return obstacle
      }
    } catch {
      guard error.code == .unsupported else { throw error }
      var refusal = error
      if let obstructed {
        if case .scheme(let stored) = obstructed, let choices = placed.cutInside(stored.scheme)?.choices {
          refusal.remedy = choices
        }
      } else if let cut = placed.cut {
        var rules = recipe.rules[...]
        while let rule = rules.first, try !rule.matches(subject) { rules = rules.dropFirst() }
        let wanted = rules.first?.format.resolved(in: container)
        let unit = wanted.map { $0.cutUnit(along: cut.axis, of: placed.shape.rank) } ?? 1
        refusal.remedy = [error.remedy, placed.choices(cut, unit: unit)].compactMap { $0 }.joined(
          separator: "; or ")
      }
      throw refusal
    }
  }

  /// Whether the recipe itself provides for the replacement: its rule has a list, no rule covers the tensor, or
  /// everything is kept as far as the other kind of file supports the type.
  private func isForeseen(_ decision: RecipeDecision) -> Bool {
    guard let rule = decision.rule else { return true }
    if recipe.isCopy, container != sourceContainer { return true }
    if case .chain = recipe.rules[rule].fallback ?? recipe.onMisfit { return true }
    return false
  }

  private func subject(_ placed: PlacedTensor, hasTiedEmbedding: Bool) -> RecipeSubject {
    let source = placed.source
    return RecipeSubject(
      name: source.name,
      otherNames: [source.safetensorsName, source.ggufName].compactMap { $0 }.filter { $0 != source.name },
      role: source.role, layer: source.layer, layerCount: layerCount, shape: placed.shape,
      sourceType: source.elementType, sourceScheme: source.scheme, sourceContainer: sourceContainer,
      isExpertStack: source.isExpertStack, expertCount: expertCount, hasTiedEmbedding: hasTiedEmbedding,
      publishedType: source.publishedType, isHalfConvolution: source.isHalfConvolution,
      isLinear: source.isLinear)
  }

  /// The tensor's name in the importance matrix.
  private func importanceName(of placed: PlacedTensor) throws(CheckpointError) -> String? {
    let shape = placed.source.shape
    guard let importance, let name = placed.source.ggufName, (2...3).contains(shape.rank) else { return nil }
    let experts = shape.rank == 3 ? shape.dimensions[0] : nil
    return try importance.covers(name, columns: shape.columns, expertCount: experts) ? name : nil
  }

  /// Why a tensor cannot be stored this way, for reasons other than its shape; `nil` if it can.
  private func obstacle(
    _ format: StorageFormat, _ placed: PlacedTensor, hasWeights: Bool
  ) throws(CheckpointError) -> String? {
    switch format {
    case .keep:
      if let decoded = placed.source.decoded {
        return "it is \(decoded), and such codes can only be copied whole, within one format"
      }
      // A fused module is kept as a whole.
      if !(placed.source.isFused && placed.isWhole), let scheme = placed.source.scheme,
        let inside = placed.cutInside(scheme.scheme)
      {
        throw CheckpointError(
          .invalidRequest, inside.message, tensor: placed.source.name,
          remedy: (inside.choices.map { $0 + "; or " } ?? "") + "convert to BF16")
      }
      return nil
    case .scheme(let stored):
      guard EngineModules.module(of: placed.source.safetensorsName) != nil else {
        return "\(stored.scheme) is for module weights, whose names end in .weight"
      }
      return placed.cutInside(stored.scheme)?.message
    case .element(let type):
      guard type != placed.source.elementType, !hasWeights,
        BlockCodec.codec(for: type)?.needsImportance == true
      else { return nil }
      guard importance != nil else {
        throw CheckpointError(
          .invalidRequest, "\(type) cannot be encoded without an importance matrix",
          tensor: placed.source.name, remedy: "give one with --imatrix, or choose another format")
      }
      return "\(type) needs an importance matrix, but the one given does not cover this tensor"
    }
  }
}

extension StorageFormat {
  /// The multiple that a cut along a dimension has to be.
  fileprivate func cutUnit(along axis: Int, of rank: Int) -> Int {
    switch self {
    case .keep: 1
    case .element(let type): axis == rank - 1 ? type.block.elements : 1
    case .scheme(let stored):
      axis == rank - 1
        ? stored.scheme.geometry.cutUnit.columns
        : (axis == rank - 2 ? stored.scheme.geometry.cutUnit.rows : 1)
    }
  }
}

extension BlockCodec {
  fileprivate var needsImportance: Bool { if case .required = importanceUse { true } else { false } }
}
