internal import Checkpoint
internal import Quantization
internal import TensorFormats

extension Recipe {
  /// Every built-in recipe, in the order in which a listing shows them: plain types, FP8, mixtures, pure formats.
  public static let builtIns: [Recipe] =
    [keep, bf16, f16, f32, fp8Block, mxfp4MoE] + kMixtures + pureBlockFormats

  /// The built-in of this name; letter case does not matter.
  public static func builtIn(named name: String) -> Recipe? {
    let wanted = name.uppercased()
    return builtIns.first { $0.name.uppercased() == wanted }
  }

  /// The vision side stays as it is wherever the language model is put into blocks: it is small beside it, runs once
  /// per picture, and no engine reads it quantised.
  static let visionAsItIs = RecipeRule(
    roles: [.vision, .projector], format: .keep, fallback: .chain([.element(.bf16)]), isOptional: true)
}

// MARK: - Plain types

extension Recipe {
  /// Nothing is recoded, as far as the output's files have a type for it.
  static let keep = Recipe(
    name: "keep", summary: "every tensor in the type it has",
    rules: [RecipeRule(format: .keep, isOptional: true)], precise: PreciseStorage(safetensors: .keep))

  static let bf16 = Recipe(
    name: "BF16", summary: "every matrix in BF16", rules: [RecipeRule(format: .element(.bf16))])

  /// Half precision has fewer exponents than BF16, so tensors that are always kept precise stay out of it.
  static let f16 = Recipe(
    name: "F16", summary: "every matrix in F16", rules: [RecipeRule(format: .element(.f16))],
    precise: PreciseStorage(safetensors: .keep))

  static let f32 = Recipe(
    name: "F32", summary: "every tensor of real numbers in F32",
    rules: [RecipeRule(format: .element(.f32), isOptional: true)],
    precise: PreciseStorage(safetensors: .element(.f32), gguf: .element(.f32)))
}

// MARK: - FP8 and MXFP4

extension Recipe {
  /// StepFun's own FP8 release: every linear layer of the language model (attention, dense FFN, shared and routed
  /// experts) in block-FP8, everything else BF16.
  ///
  /// The linear layers are recognised by name within those roles, so that the recipe also serves checkpoints whose
  /// tensors have no role: Hugging Face calls a linear layer `*_proj` nearly everywhere.
  static let fp8Block = Recipe(
    name: "FP8_BLOCK", summary: "linear layers in F8_E4M3 with 128 x 128 scales, as StepFun's FP8 release",
    rules: [
      RecipeRule(
        roles: [.attention, .denseFFN, .sharedExpert, .routedExperts, .other],
        names: ["*_proj.weight", "*.wq.weight", "*.attn_*.weight", "*.ffn_*.weight"].map(NamePattern.glob),
        format: .blockFP8),
      RecipeRule(format: .element(.bf16), isOptional: true),
    ])

  /// The layout that llama.cpp calls MXFP4_MOE: stacked experts in MXFP4, every other matrix in Q8_0.
  static let mxfp4MoE = Recipe(
    name: "MXFP4_MOE", summary: "routed experts in MXFP4, every other matrix in Q8_0",
    rules: [
      visionAsItIs,
      RecipeRule(isExpertStack: true, format: .element(.mxfp4)),
      RecipeRule(format: .element(.q8_0), isOptional: true),
    ])
}

// MARK: - Pure formats

extension Recipe {
  /// One recipe per GGML block format: all of the language model's matrices in it, embedding and output included.
  static let pureBlockFormats: [Recipe] = StorageFormat.elementTargets.filter {
    $0.isBlockQuantized && BlockCodec.codec(for: $0)?.canEncode == true
  }.map { type in
    Recipe(
      name: type.rawValue, summary: "every matrix of the language model in \(type)",
      rules: [visionAsItIs, RecipeRule(format: .element(type))])
  }
}
