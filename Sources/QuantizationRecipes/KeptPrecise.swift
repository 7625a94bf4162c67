internal import Checkpoint
internal import Patterns
internal import TensorFormats

/// Why a tensor is never quantised, whatever a recipe's rules say.
///
/// These tensors are small, or their values are not a matrix's, and every engine expects them plain.
public enum KeptPrecise: String, Hashable, Sendable, Codable, CaseIterable {
  /// Integers, booleans and complex numbers.
  case integer
  /// Scales of another tensor.
  case scale
  /// Norms, wherever they are.
  case norm
  /// The gates that choose experts.
  case router
  /// Biases, those of stacked experts too.
  case bias
  /// Fewer than two dimensions.
  case vector
  /// More than three dimensions, or a convolution by name.
  case convolution
  /// Published in F32 where everything around it is BF16.
  case wide
  /// Position and token-type tables.
  case position
  /// Small recurrent and mixing tensors of other architectures.
  case delicate
  /// Not a weight, judged by the name.
  case notAWeight

  /// The reason as text, for a plan.
  public var explanation: String {
    switch self {
    case .integer: "its elements are not real numbers"
    case .scale: "it holds the scales of another tensor"
    case .norm: "norms are always kept precise"
    case .router: "routers are always kept precise"
    case .bias: "biases are always kept precise"
    case .vector: "tensors of fewer than two dimensions are always kept precise"
    case .convolution: "convolution kernels are always kept precise"
    case .wide: "published checkpoints store it in F32"
    case .position: "position tables are always kept precise"
    case .delicate: "small recurrent and mixing tensors are always kept precise"
    case .notAWeight: "its name does not end in 'weight'"
    }
  }

  /// The reason that applies to a tensor; `nil` if the rules decide.
  static func reason(for subject: RecipeSubject, names: [NameBytes]) -> KeptPrecise? {
    // Codes are integers, but what they stand for is not.
    if subject.sourceScheme == nil, subject.sourceType.isInteger || subject.sourceType == .c64 {
      return .integer
    }
    switch subject.role {
    case .scale: return .scale
    case .norm: return .norm
    case .router: return .router
    default: break
    }
    if names.contains(where: biasName.matches) { return .bias }
    if subject.shape.rank < 2 { return .vector }
    if subject.shape.rank > 3 { return .convolution }
    if subject.publishedType == .f32 { return .wide }
    switch subject.role {
    case .embedding, .attention, .denseFFN, .sharedExpert, .routedExperts, .lmHead: return nil
    default: return reason(forNames: names)
    }
  }

  /// Without a role, the tensor's name has to tell.
  private static func reason(forNames names: [NameBytes]) -> KeptPrecise? {
    for (reason, patterns) in patterns {
      if patterns.contains(where: { names.contains(where: $0.matches) }) { return reason }
    }
    return names.contains(where: weightName.matches) ? nil : .notAWeight
  }

  private static let biasName = Glob("*.bias")
  private static let weightName = Glob("*weight")

  /// Source: the names that `tensor_allows_quantization` in llama.cpp's `src/llama-quant.cpp` refuses to quantise, and
  /// their counterparts in Hugging Face checkpoints.
  private static let patterns: [(KeptPrecise, [Glob])] = [
    (.norm, globs("*norm.weight")),
    (.router, globs("*.gate.weight", "*.router.weight", "*.ffn_gate_inp.weight")),
    (.position, globs("*position_emb*", "*pos_embd*", "*rel_pos*", "*attn_rel_b*", "*token_types*")),
    (.convolution, globs("*conv1d*", "*shortconv.conv*", "*patch_embd*", "*patch_merger*")),
    (
      .delicate,
      globs(
        "*altup*", "*laurel*", "*per_layer_model_proj*", "*indexer.k_proj*", "*indexer.q_proj*",
        "*time_mix_first.*", "*time_mix_w?.*", "*time_mix_v?.*", "*time_mix_a?.*", "*time_mix_g?.*",
        "*time_mix_decay_w?.*", "*time_mix_lerp_fused*", "*sam.neck.*", "*sam.net_*", "*rvq.codebook*",
        "*code_embd*")
    ),
  ]

  private static func globs(_ texts: String...) -> [Glob] { texts.map(Glob.init) }
}

/// How the tensors that are always kept precise are stored.
///
/// A tensor that stays in its container keeps its type unless a format is given here. One that changes it takes the
/// type that the other side's readers expect: F32 in GGUF, in safetensors the model's published type, or BF16 if
/// unknown (the reverse of the conversion to GGUF).
public struct PreciseFormats: Hashable, Sendable, Codable {
  /// The format in safetensors files, if the recipe gives one: a plain float, or `keep`.
  public var safetensors: StorageFormat?
  /// The format in GGUF files, if the recipe gives one: a plain float, or `keep`.
  public var gguf: StorageFormat?

  /// Leaves both at the containers' defaults, or overrides them.
  public init(safetensors: StorageFormat? = nil, gguf: StorageFormat? = nil) {
    self.safetensors = safetensors
    self.gguf = gguf
  }

  /// What is allowed here.
  static let choices: [StorageFormat] = [.keep, .element(.f32), .element(.f16), .element(.bf16)]

  /// The format for one tensor.
  func format(for subject: RecipeSubject, reason: KeptPrecise, in container: Checkpoint.Format)
    -> StorageFormat
  {
    if reason == .integer || reason == .scale { return .keep }
    switch container {
    case .safetensors:
      return safetensors
        ?? (subject.sourceContainer == .safetensors ? .keep : .element(subject.publishedType ?? .bf16))
    case .gguf: return gguf ?? (subject.sourceContainer == .gguf ? .keep : .element(.f32))
    }
  }
}
