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

  /// Decides for all tensors.
  ///
  /// - Returns: The tensors with their types, and what fell back.
  /// - Throws: `.invalidRequest` for a rule that decides nothing or a tensor that no rule covers, `.unsupported` for
  ///   a type that cannot be made of the source's.
  func decide(
    _ tensors: [PlacedTensor], hasTiedEmbedding: Bool
  ) throws(CheckpointError) -> (tensors: [PlacedTensor], fallbacks: [ShardPlan.Fallback]) {
    var used: Set<Int> = []
    var fallbacks: [ShardPlan.Fallback] = []
    var noted: Set<String> = []
    var decided: [PlacedTensor] = []
    decided.reserveCapacity(tensors.count)
    for var placed in tensors {
      let decision = try recipe.decide(subject(placed, hasTiedEmbedding: hasTiedEmbedding), in: container)
      if let rule = decision.rule { used.insert(rule) }
      placed.elementType = decision.format.elementType(of: placed.source.tensor.elementType)
      try checkConvertible(placed)
      // A tensor in several parts is decided alike in all of them.
      if let reason = decision.reason, noted.insert(placed.source.tensor.name).inserted {
        fallbacks.append(
          ShardPlan.Fallback(
            tensor: placed.source.tensor.name, wanted: decision.wanted.spelling,
            stored: decision.format.spelling,
            reason: reason))
      }
      decided.append(placed)
    }
    try recipe.requireAllUsed(used)
    return (decided, fallbacks)
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

  private func checkConvertible(_ placed: PlacedTensor) throws(CheckpointError) {
    let (from, to) = (placed.source.tensor.elementType, placed.elementType)
    guard from != to || placed.source.scale != nil else { return try checkCut(placed) }
    guard let decoder = BlockCodec.codec(for: from), !from.isInteger else {
      throw CheckpointError(
        .unsupported, "\(from) cannot be converted to \(to)", tensor: placed.source.tensor.name,
        remedy: "keep it with --tensor-type")
    }
    guard let encoder = BlockCodec.codec(for: to), encoder.canEncode else {
      throw CheckpointError(.unsupported, "\(to) cannot be written", tensor: placed.source.tensor.name)
    }
    _ = decoder
    try checkCut(placed)
  }

  /// A cut inside a block of the source would need the block taken apart.
  private func checkCut(_ placed: PlacedTensor) throws(CheckpointError) {
    let block = placed.source.tensor.elementType.block.elements
    guard let start = placed.origin.last, let length = placed.extent.last, !placed.isWhole else { return }
    guard start % block == 0, length % block == 0 else {
      throw CheckpointError(
        .unsupported,
        "the cut at columns \(start) to \(start + length) falls inside the source's blocks of \(block)",
        tensor: placed.source.tensor.name, remedy: "convert to BF16 first, or cut into fewer parts")
    }
  }
}
