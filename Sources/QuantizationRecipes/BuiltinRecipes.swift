public import Checkpoint
internal import Quantization
internal import TensorFormats

extension Recipe {
  /// Every built-in recipe, in the order in which a listing shows them: plain types, schemes, mixtures, pure formats.
  public static let builtIns: [Recipe] =
    [keep, bf16, f16, f32] + SchemeRecipe.all.map(\.usual) + [mxfp4MoE] + kMixtures + pureBlockFormats

  /// The built-in of this name; letter case does not matter.
  ///
  /// - Parameters:
  ///   - name: The recipe's name.
  ///   - container: The files it is for: `MXFP4` is a recipe for each kind.
  public static func builtIn(named name: String, for container: Checkpoint.Format? = nil) -> Recipe? {
    let wanted = name.uppercased()
    let named = builtIns.filter { $0.name.uppercased() == wanted }
    return named.first { $0.container != nil && $0.container == container }
      ?? named.first { $0.container == nil } ?? named.first
  }

  /// The vision side stays as it is wherever the language model is quantised in blocks: it is comparatively small,
  /// runs once per picture, and no engine reads it quantised.
  static let visionAsItIs = RecipeRule(
    roles: [.vision, .projector], format: .keep, fallback: .chain([.element(.bf16)]), isOptional: true)
}

// MARK: - Plain types

extension Recipe {
  /// Nothing is re-encoded, as far as the output's files support the type.
  static let keep = Recipe(
    name: "keep", summary: "every tensor in its own type",
    rules: [RecipeRule(format: .keep, isOptional: true)], precise: PreciseFormats(safetensors: .keep))

  static let bf16 = Recipe(
    name: "BF16", summary: "every matrix in BF16", rules: [RecipeRule(format: .element(.bf16))])

  /// Half precision has a smaller range than BF16, so tensors that are always kept precise are not stored in it.
  static let f16 = Recipe(
    name: "F16", summary: "every matrix in F16", rules: [RecipeRule(format: .element(.f16))],
    precise: PreciseFormats(safetensors: .keep))

  static let f32 = Recipe(
    name: "F32", summary: "every tensor of real numbers in F32",
    rules: [RecipeRule(format: .element(.f32), isOptional: true)],
    precise: PreciseFormats(safetensors: .element(.f32), gguf: .element(.f32)))
}

// MARK: - MXFP4 with Q8_0

extension Recipe {
  /// The layout that llama.cpp calls MXFP4_MOE: stacked experts in MXFP4, every other matrix in Q8_0.
  static let mxfp4MoE = Recipe(
    name: "MXFP4_MOE", summary: "routed experts in MXFP4, every other matrix in Q8_0",
    rules: [
      visionAsItIs,
      RecipeRule(isExpertStack: true, format: .element(.mxfp4)),
      RecipeRule(format: .element(.q8_0), isOptional: true),
    ], knownSubject: "the routed experts")
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
