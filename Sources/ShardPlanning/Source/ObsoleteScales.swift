internal import Checkpoint
internal import StoredWeights
internal import QuantizationRecipes
internal import ServingEngines
internal import TensorFormats

/// Activation scales for codes that no longer exist.
struct ObsoleteScales {
  /// What was removed, and why.
  private(set) var absorbed: [ShardPlan.Absorption] = []

  /// Removes such scales from the tensors of an output.
  init(_ tensors: inout [PlacedTensor]) {
    var isCoded: [Substring: Bool] = [:]
    for tensor in tensors where tensor.source.scheme != nil || tensor.source.decoded != nil {
      guard let module = EngineModules.module(of: tensor.source.safetensorsName) else { continue }
      isCoded[module[...]] = tensor.isCopy
    }
    guard !isCoded.isEmpty else { return }
    var names: Set<String> = []
    tensors.removeAll { tensor in
      let name = tensor.source.safetensorsName
      guard let dot = name.lastIndex(of: "."), isCoded[name[..<dot]] == false,
        Self.suffixes.contains(name[name.index(after: dot)...])
      else { return false }
      if names.insert(tensor.source.stored.codes.name).inserted {
        absorbed.append(
          ShardPlan.Absorption(
            tensor: tensor.source.stored.codes.name,
            reason: "it scales activations for codes that the output does not have"))
      }
      return true
    }
  }

  /// Removes activation scales from a model to be partitioned: no rank has a place for them.
  ///
  /// - Throws: `.unsupported` if their codes are kept.
  static func beforeCutting(
    _ tensors: [SourceTensor], _ request: ShardPlan.Request, _ recipe: Recipe
  ) throws(CheckpointError) -> (kept: [SourceTensor], dropped: [ShardPlan.Absorption]) {
    guard request.partition != .none else { return (tensors, []) }
    let (scales, kept) = (tensors.filter(isActivationScale), tensors.filter { !isActivationScale($0) })
    if let first = scales.first, recipe.isCopy {
      throw CheckpointError(
        .unsupported,
        "it scales activations for codes, and parts of a partitioned model have no place for it",
        tensor: first.name, remedy: "leave such scales out with --exclude 'input_', or give --quantize BF16")
    }
    return (
      kept,
      scales.map {
        ShardPlan.Absorption(
          tensor: $0.stored.codes.name,
          reason: "parts of a partitioned model have no place for activation scales"
        )
      }
    )
  }

  static func isActivationScale(_ tensor: SourceTensor) -> Bool {
    let name = tensor.safetensorsName
    guard let dot = name.lastIndex(of: ".") else { return false }
    return suffixes.contains(name[name.index(after: dot)...])
  }

  private static let suffixes: Set<Substring> = [
    "input_scale", "input_global_scale", "input_zero_point", "input_amax", "activation_scale",
    "input_scale_ub",
  ]
}
