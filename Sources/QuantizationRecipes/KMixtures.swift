internal import Patterns
internal import TensorFormats

/// The mixtures of llama.cpp's K formats, as data.
///
/// A mixture stores most matrices in its base format and spends more bits where an error costs most: the output
/// projection, the attention's value projection (small, and shared by many heads), the FFN's down projection, and of
/// these the layers at both ends of the model.
///
/// | mixture | base | value projection | down projection | attention output |
/// |---|---|---|---|---|
/// | Q3_K_S | Q3_K | | | |
/// | Q3_K_M | Q3_K | layers 0-1 Q5_K, others Q4_K | first 1/16 Q5_K, others Q4_K | Q4_K |
/// | Q3_K_L | Q3_K | Q5_K | Q5_K | Q5_K |
/// | Q4_K_S | Q4_K | layers 0-3 Q5_K | first 1/8 Q5_K | |
/// | Q4_K_M | Q4_K | `more-bits` layers Q6_K | `more-bits` layers Q6_K | |
/// | Q5_K_S | Q5_K | | | |
/// | Q5_K_M | Q5_K | `more-bits` layers Q6_K | `more-bits` layers Q6_K | |
///
/// In all of them the output projection, or the embedding where it serves as one, is Q6_K. A model with exactly 8
/// experts has its key and value projections in Q8_0 and its attention output in Q5_K (that last one not in Q3_K_L
/// and the Q5_K mixtures).
///
/// Source: `llama_tensor_get_type_impl` in llama.cpp's `src/llama-quant.cpp`. Two of its rules are left out: the
/// Falcon architecture's, and one for 80-layer Llama models. Its counters of value projections are layer indices
/// here, which is the same in every model with one value projection per layer.
private struct KMixture {
  /// A format for some layers; no selectors means all of them.
  typealias Step = (layers: [LayerSelector], type: ElementType)

  var name: String
  var summary: String
  var base: ElementType
  var value: [Step] = []
  var down: [Step] = []
  var attentionOutput: ElementType?
  /// The attention output in models with exactly 8 experts, where it is a rule of its own.
  var attentionOutputOf8Experts: ElementType?

  static let all: [KMixture] = [
    KMixture(
      name: "Q5_K_M", summary: "Q5_K, value and down projections of half the layers and the output in Q6_K",
      base: .q5K, value: [([.moreBits], .q6K)], down: [([.moreBits], .q6K)]),
    KMixture(name: "Q5_K_S", summary: "Q5_K, the output in Q6_K", base: .q5K),
    KMixture(
      name: "Q4_K_M", summary: "Q4_K, value and down projections of half the layers and the output in Q6_K",
      base: .q4K, value: [([.moreBits], .q6K)], down: [([.moreBits], .q6K)], attentionOutputOf8Experts: .q5K),
    KMixture(
      name: "Q4_K_S",
      summary: "Q4_K, value and down projections of the first layers in Q5_K, the output in Q6_K",
      base: .q4K, value: [([.first(4)], .q5K)], down: [([.firstFraction(8)], .q5K)],
      attentionOutputOf8Experts: .q5K),
    KMixture(
      name: "Q3_K_L",
      summary: "Q3_K, value, down and attention output projections in Q5_K, the output in Q6_K",
      base: .q3K, value: [([], .q5K)], down: [([], .q5K)], attentionOutput: .q5K,
      attentionOutputOf8Experts: .q3K),
    KMixture(
      name: "Q3_K_M",
      summary: "Q3_K, value, down and attention output projections in Q4_K, the output in Q6_K",
      base: .q3K, value: [([.first(2)], .q5K), ([], .q4K)], down: [([.firstFraction(16)], .q5K), ([], .q4K)],
      attentionOutput: .q4K, attentionOutputOf8Experts: .q5K),
    KMixture(
      name: "Q3_K_S", summary: "Q3_K, the output in Q6_K", base: .q3K, attentionOutputOf8Experts: .q5K),
  ]
}

// MARK: - As rules

/// The names of the tensors that the mixtures single out, in Hugging Face checkpoints and in GGUF files.
private enum Names {
  static let output = globs("lm_head.weight", "*.lm_head.weight", "output.weight")
  static let embedding = globs("*embed_tokens.weight", "token_embd.weight", "per_layer_token_embd.weight")
  static let value = globs(
    "*.v_proj.weight", "*.qkv_proj.weight", "*.kv_b_proj.weight", "*attn_v.weight", "*attn_qkv.weight",
    "*attn_kv_b.weight")
  static let key = globs("*.k_proj.weight", "*attn_k.weight")
  static let attentionOutput = globs("*.self_attn.o_proj.weight", "*attn_output.weight")
  static let down = globs("*.down_proj.weight", "*.down_proj", "*.w2.weight", "*ffn_down*")

  private static func globs(_ texts: String...) -> [NamePattern] { texts.map(NamePattern.glob) }
}

extension KMixture {
  var recipe: Recipe {
    var rules = [Recipe.visionAsItIs]
    func add(
      _ names: [NamePattern], layers: [LayerSelector] = [], experts: Int? = nil, tied: Bool? = nil,
      _ type: ElementType
    ) {
      rules.append(
        RecipeRule(
          layers: layers, names: names, expertCount: experts, hasTiedEmbedding: tied, format: .element(type),
          isOptional: true))
    }
    add(Names.output, .q6K)
    add(Names.embedding, tied: true, .q6K)
    add(Names.value, experts: 8, .q8_0)
    add(Names.key, experts: 8, .q8_0)
    if let type = attentionOutputOf8Experts { add(Names.attentionOutput, experts: 8, type) }
    for step in value { add(Names.value, layers: step.layers, step.type) }
    for step in down { add(Names.down, layers: step.layers, step.type) }
    if let type = attentionOutput { add(Names.attentionOutput, type) }
    rules.append(RecipeRule(format: .element(base)))
    return Recipe(name: name, summary: summary, rules: rules)
  }
}

extension Recipe {
  /// The K mixtures, from the largest to the smallest.
  static let kMixtures: [Recipe] = KMixture.all.map(\.recipe)
}
