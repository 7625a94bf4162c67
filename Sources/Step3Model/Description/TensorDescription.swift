public import Checkpoint

/// Role and layer of a tensor by its name alone: exact for the family, by common naming for other models.
public struct TensorDescription: Hashable, Sendable {
  /// What the tensor is for.
  public let role: TensorRole
  /// The layer, counted from 0, if the name has one.
  public let layer: Int?

  /// Describes a tensor by its Hugging Face or GGUF name.
  public init(name: String) {
    for family in ModelFamily.allCases {
      let model = family.model
      guard let known = model.tensor(published: name) ?? model.tensor(gguf: name) else { continue }
      (role, layer) = (model.role(of: known), known.layer)
      return
    }
    let parts = name.split(separator: ".").map { $0.lowercased() }
    role = Self.guess(parts)
    layer = zip(parts, parts.dropFirst()).lazy.compactMap { word, number in
      ["layers", "blk", "h", "block", "blocks", "layer"].contains(word) ? Int(number) : nil
    }.first { $0 >= 0 }
  }

  private static func guess(_ parts: [String]) -> TensorRole {
    let name = Array(parts.joined(separator: ".").utf8)
    func has(_ words: StaticString...) -> Bool { words.contains { name.hasWord($0) } }
    guard let last = parts.last else { return .other }
    if last.contains("scale")
      || ["qzeros", "scales", "g_idx", "weight_shape", "weight_zero_point"].contains(last)
    {
      return .scale
    }
    if has("projector", "mm.") && !has("comm.") { return .projector }
    if has("vision", "visual", "vit_") || parts.first == "v" { return .vision }
    if has("lm_head") || parts.first == "output" { return .lmHead }
    if has("embed_tokens", "token_embd", "wte", "tok_embeddings") { return .embedding }
    if has("q_norm", "k_norm", "q_a_layernorm", "kv_a_layernorm", "q_a_norm", "kv_a_norm") {
      return .attention
    }
    if has("layernorm", "layer_norm", "_norm", ".norm", "ln_") || parts.first == "norm" { return .norm }
    if has("shared_expert", "share_expert", "shexp") { return .sharedExpert }
    if has("ffn_gate_inp", "router", "mlp.gate.", "moe.gate.", "block_sparse_moe.gate.") { return .router }
    if has("experts", "_exps") { return .routedExperts }
    if has("attn", "attention") { return .attention }
    if has("mlp", "ffn", "feed_forward") { return .denseFFN }
    return .other
  }
}

extension [UInt8] {
  /// Whether the bytes of `word` occur in a row. Names come by the hundred thousand, and searching their characters
  /// takes thirty times as long.
  fileprivate func hasWord(_ word: StaticString) -> Bool {
    word.withUTF8Buffer { word in
      guard let first = unsafe word.first, word.count <= count else { return false }
      return (0...(count - word.count)).contains { start in
        guard self[start] == first else { return false }
        for index in 1..<word.count where unsafe word[index] != self[start + index] { return false }
        return true
      }
    }
  }
}
