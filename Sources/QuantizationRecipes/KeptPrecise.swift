internal import Checkpoint
internal import TensorFormats

/// Why a tensor is never quantised, whatever a recipe's rules say: no rule is asked about it.
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
  /// Position and token-type tables.
  case position
  /// Small recurrent and mixing tensors of other architectures.
  case delicate
  /// Not a weight, judged by the name.
  case notAWeight

  /// The reason in words, for a plan.
  public var explanation: String {
    switch self {
    case .integer: "its elements are not real numbers"
    case .scale: "it holds the scales of another tensor"
    case .norm: "norms are always kept precise"
    case .router: "routers are always kept precise"
    case .bias: "biases are always kept precise"
    case .vector: "tensors of fewer than two dimensions are always kept precise"
    case .convolution: "convolution kernels are always kept precise"
    case .position: "position tables are always kept precise"
    case .delicate: "small recurrent and mixing tensors are always kept precise"
    case .notAWeight: "its name does not end in 'weight'"
    }
  }

  /// The reason that applies to a tensor; `nil` if the rules decide about it.
  static func reason(for subject: RecipeSubject) -> KeptPrecise? {
    if subject.sourceType.isInteger || subject.sourceType == .c64 { return .integer }
    switch subject.role {
    case .scale: return .scale
    case .norm: return .norm
    case .router: return .router
    default: break
    }
    let names = [subject.name] + subject.otherNames
    if names.contains(where: { $0.hasSuffix(".bias") }) { return .bias }
    if subject.shape.rank < 2 { return .vector }
    if subject.shape.rank > 3 { return .convolution }
    switch subject.role {
    case .embedding, .attention, .denseFFN, .sharedExpert, .routedExperts, .lmHead: return nil
    default: return reason(forNames: names)
    }
  }

  /// Where no role says what a tensor is for, its name has to.
  private static func reason(forNames names: [String]) -> KeptPrecise? {
    for (reason, suffixes) in suffixes where names.contains(where: { suffixes.contains(where: $0.hasSuffix) })
    {
      return reason
    }
    for (reason, fragments) in fragments {
      if names.contains(where: { name in fragments.contains { name.contains($0) } }) { return reason }
    }
    return names.contains { $0.hasSuffix("weight") } ? nil : .notAWeight
  }

  private static let suffixes: [(KeptPrecise, [String])] = [
    (.norm, ["norm.weight", "layernorm.weight", "layer_norm.weight"]),
    (.router, [".gate.weight", ".router.weight", ".ffn_gate_inp.weight"]),
  ]

  /// Source: the names that `tensor_allows_quantization` in llama.cpp's `src/llama-quant.cpp` refuses to quantise, and
  /// their counterparts in Hugging Face checkpoints.
  private static let fragments: [(KeptPrecise, [String])] = [
    (.position, ["position_embd", "position_embedding", "pos_embd", "rel_pos", "attn_rel_b", "token_types"]),
    (.convolution, ["ssm_conv1d", "conv1d", "shortconv.conv", "patch_embd", "patch_merger"]),
    (
      .delicate,
      [
        "altup", "laurel", "per_layer_model_proj", "indexer.k_proj", "indexer.q_proj", "time_mix_first",
        "time_mix_w0", "time_mix_w1", "time_mix_w2", "time_mix_v0", "time_mix_v1", "time_mix_v2",
        "time_mix_a0",
        "time_mix_a1", "time_mix_a2", "time_mix_g1", "time_mix_g2", "time_mix_decay_w1", "time_mix_decay_w2",
        "time_mix_lerp_fused", "sam.neck.", "sam.net_", "rvq.codebook", "code_embd",
      ]
    ),
  ]
}

/// How the tensors that are always kept precise are stored.
///
/// A tensor that stays in its container keeps its type unless a format is given here. One that changes it takes the
/// type that the other side's readers expect: F32 in GGUF, BF16 in safetensors (the reverse of what GGUF made of it).
public struct PreciseStorage: Hashable, Sendable, Codable {
  /// The format in safetensors files, if the recipe gives one: a plain float, or `keep`.
  public var safetensors: StorageFormat?
  /// The format in GGUF files, if the recipe gives one: a plain float, or `keep`.
  public var gguf: StorageFormat?

  /// Leaves both to the containers' customs, or says what is to be different.
  public init(safetensors: StorageFormat? = nil, gguf: StorageFormat? = nil) {
    self.safetensors = safetensors
    self.gguf = gguf
  }

  /// What is allowed here.
  static let choices: [StorageFormat] = [.keep, .element(.f32), .element(.f16), .element(.bf16)]

  /// The format for one tensor.
  func format(for subject: RecipeSubject, reason: KeptPrecise, in container: Container) -> StorageFormat {
    if reason == .integer || reason == .scale { return .keep }
    switch container {
    case .safetensors:
      return safetensors ?? (subject.sourceContainer == .safetensors ? .keep : .element(.bf16))
    case .gguf: return gguf ?? (subject.sourceContainer == .gguf ? .keep : .element(.f32))
    }
  }
}
