/// What a tensor is for. A model description (`Step3Model`) assigns roles from names; recipes, listings and partitions
/// refer to them.
public enum TensorRole: String, Hashable, Sendable, CaseIterable, Codable {
  /// The token embedding.
  case embedding
  /// Attention projections and the norm inside them.
  case attention
  /// The gate that chooses experts.
  case router
  /// The FFN of a layer without experts.
  case denseFFN = "dense_ffn"
  /// The expert every token goes through.
  case sharedExpert = "shared_expert"
  /// The stacked experts that tokens are routed to.
  case routedExperts = "routed_experts"
  /// Norms of the residual stream.
  case norm
  /// The output projection.
  case lmHead = "lm_head"
  /// The vision encoder and its down-samplers.
  case vision
  /// The projection of image features into the language model.
  case projector
  /// Scales that belong to another tensor.
  case scale
  /// Anything else.
  case other
}
