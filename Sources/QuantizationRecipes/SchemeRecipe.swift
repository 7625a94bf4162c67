internal import Checkpoint
internal import Quantization
internal import Patterns
internal import TensorFormats

/// A built-in recipe that stores linear layers in one scheme, as serving engines read it, and all else in BF16.
public struct SchemeRecipe: Sendable {
  /// Which linear layers.
  public enum Scope: String, Sendable, CaseIterable {
    /// The routed experts: nearly all of the model, and what engines have the most kernels for.
    case experts
    /// All linear layers of the language model: attention, dense FFN, shared and routed experts.
    case linear
  }

  /// The name for `--quantize`.
  public let name: String
  let summary: String
  let format: StorageFormat
  /// The default scope.
  let usualScope: Scope

  /// Whether it is the MXFP4 without a list of modules.
  private var isBareMXFP4: Bool { format == .element(.mxfp4) }

  /// Whether it supports linear layers, which are recognised by shape and name.
  var hasLinearScope: Bool { !isBareMXFP4 }

  /// The recipe with its default scope.
  var usual: Recipe { recipe(for: usualScope) }

  /// The recipe for some layers.
  ///
  /// - Throws: `.invalidRequest` if the scheme does not exist for them.
  func recipe(_ scope: Scope?) throws(CheckpointError) -> Recipe {
    if scope == .linear, isBareMXFP4 {
      throw CheckpointError(
        .invalidRequest,
        "quant_method mxfp4 is for routed experts only: engines leave every linear layer as it is",
        remedy: "choose MXFP4A16, which is the same format under compressed-tensors' names")
    }
    return recipe(for: scope ?? usualScope)
  }

  /// The same recipe with other groups.
  ///
  /// - Throws: `.invalidRequest` if the format's groups have one size only, or not this one.
  func groupSize(_ size: Int?) throws(CheckpointError) -> SchemeRecipe {
    guard let size else { return self }
    guard case .scheme(let stored) = format, case .int4Group = stored.scheme else {
      throw CheckpointError(
        .invalidRequest, "the groups of \(name) have one size only", remedy: "leave out --group-size")
    }
    let wanted = StorageFormat.scheme(StoredScheme(.int4Group(size), stored.method))
    guard let recipe = SchemeRecipe.all.first(where: { $0.format == wanted }) else {
      throw CheckpointError(
        .invalidRequest, "W4A16 has no groups of \(size)", remedy: "choose 128, 64 or 32")
    }
    return recipe
  }

  private func recipe(for scope: Scope) -> Recipe {
    var name = name
    if scope != usualScope { name += scope == .linear ? ", linear layers" : ", experts" }
    return Recipe(
      name: name, summary: summary,
      rules: rules(scope) + [RecipeRule(format: .element(.bf16), isOptional: true)],
      // The other MXFP4 is GGML's.
      container: isBareMXFP4 ? .safetensors : nil,
      knownSubject: scope == .experts ? "the routed experts" : nil)
  }

  private func rules(_ scope: Scope) -> [RecipeRule] {
    switch scope {
    case .experts: [RecipeRule(isExpertStack: true, format: format)]
    case .linear:
      [
        // In models with unknown roles: matrices that are not linear layers, or that engines leave as they are.
        RecipeRule(roles: [.other], names: Self.notLinear, format: .element(.bf16), isOptional: true),
        RecipeRule(
          roles: Self.linearRoles, names: Self.neverLinear, format: .element(.bf16), isOptional: true),
        // In known models: head gates, indexers, and layers that predict further tokens.
        RecipeRule(roles: Self.linearRoles, isLinear: false, format: .element(.bf16), isOptional: true),
        RecipeRule(roles: Self.linearRoles, names: [.glob("*.weight")], format: format),
      ]
    }
  }

  private static let linearRoles: [TensorRole] = [
    .attention, .denseFFN, .sharedExpert, .routedExperts, .other,
  ]

  /// Kernels of convolutions, and the gates of shared experts, wherever they are.
  private static let neverLinear = ["*conv*", "*expert_gate.weight"].map(NamePattern.glob)

  /// Embeddings, output heads and gates by their usual names; norms and vectors are kept precise anyway.
  private static let notLinear = [
    "*embed*", "*wte.weight", "*wpe.weight", "*_emb.weight", "*.emb.weight", "*lm_head*", "*head.weight",
    "output.weight", "*.score.weight", "score.weight", "*classifier*", "*gate.weight", "*router*", "*norm*",
    "*.ln_*",
  ].map(NamePattern.glob)
}

// MARK: - All of them

extension SchemeRecipe {
  /// In the order in which a listing shows them.
  public static let all: [SchemeRecipe] = [
    SchemeRecipe(
      name: "FP8_BLOCK", summary: "linear layers in F8_E4M3 with 128 x 128 scales, as StepFun's FP8 release",
      format: .blockFP8, usualScope: .linear),
    experts("FP8_DYNAMIC", "experts in F8_E4M3 with a scale per row (compressed-tensors)"),
    experts("W8A8_INT8", "experts in INT8 with a scale per row (compressed-tensors: vLLM)"),
    experts("W8A8_INT8_SGLANG", "the same for SGLang (quant_method w8a8_int8)"),
    experts("W4A16", "experts in INT4 with a scale per 128 weights (compressed-tensors)"),
    experts("W4A16_G64", "the same with a scale per 64 weights"),
    experts("W4A16_G32", "the same with a scale per 32 weights"),
    experts("NVFP4A16", "experts in NVFP4, activations in BF16 (compressed-tensors)"),
    experts("NVFP4A16_MODELOPT", "the same under ModelOpt's names"),
    SchemeRecipe(
      name: "MXFP4", summary: "experts in MXFP4 (quant_method mxfp4: vLLM)",
      format: .element(.mxfp4), usualScope: .experts),
    experts("MXFP4A16", "experts in MXFP4, activations in BF16 (compressed-tensors: vLLM)"),
  ]

  /// The one of this name; letter case does not matter.
  static func named(_ name: String) -> SchemeRecipe? {
    let wanted = name.uppercased()
    return all.first { $0.name == wanted }
  }

  private static func experts(_ name: String, _ summary: String) -> SchemeRecipe {
    let scheme = StorageFormat.schemeSpellings.first { $0.spelling == name }?.scheme
    precondition(scheme != nil, "every recipe of a scheme has a spelling")
    return SchemeRecipe(
      name: name, summary: summary, format: scheme.map(StorageFormat.scheme) ?? .keep, usualScope: .experts)
  }
}
