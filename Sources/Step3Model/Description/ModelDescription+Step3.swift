internal import Checkpoint

extension ModelDescription {
  /// Step-3.
  ///
  /// Published names and shapes: StepFun's modeling code. GGUF names reuse llama.cpp's vocabulary
  /// (`gguf-py/gguf/constants.py`: the low-rank query of DeepSeek-2, `clip`'s vision names); it has no names for
  /// two down-sampling convolutions, so they are `mm.down.1` and `mm.down.2`, and the projector is `mm.model.fc`.
  ///
  /// Sides and cuts: Step-3 system report (arXiv 2507.19427), section 7.1 and figure 6; the shared expert and the dense
  /// layers on the FFN side, and the vision side as a part of its own, are inferred from its cost figures. Tensor
  /// parallelism cuts heads in attention, that is rows of `wq` and columns of `o_proj`, while the low-rank query and the
  /// single key and value head stay whole; on the FFN side it cuts the intermediate dimension, that is rows of gate and up
  /// and columns of down, in each expert, in the shared expert and in dense layers (these two across all FFN ranks).
  public static let step3 = ModelDescription(
    family: .step3,
    textLayers: Layers(published: "model.layers.", gguf: "blk.") { $0.text.layerCount },
    visionLayers: Layers(published: "vision_model.transformer.layers.", gguf: "v.blk.") {
      $0.vision?.layerCount ?? 0
    }, visionPrefixes: ["vision_model", "vit_"],
    modules: [
      .once(.tokenEmbedding, "model.embed_tokens", "token_embd", .embedding) {
        [$0.vocabularySize, $0.hiddenSize]
      }
    ] + attention + denseFFN + experts + [
      .once(.outputNorm, "model.norm", "output_norm", .norm) { [$0.hiddenSize] },
      .once(.lmHead, "lm_head", "output", .lmHead) { [$0.vocabularySize, $0.hiddenSize] },
    ] + vision)

  private static let attention: [Module] = [
    .attention(.inputNorm, "input_layernorm", "attn_norm", .norm) { [$0.hiddenSize] },
    .attention(
      .query, "self_attn.q_proj", "attn_q_a", isLinear: true, fusion: .queryKeyValue,
      engineNames: ["self_attn.qkv_proj"]
    ) { [$0.sharedQueryDimension, $0.hiddenSize] },
    .attention(.queryNorm, "self_attn.inter_norm", "attn_q_a_norm") { [$0.sharedQueryDimension] },
    .attention(.queryUp, "self_attn.wq", "attn_q_b", isLinear: true, cut: 0) {
      [$0.headCount * $0.headDimension, $0.sharedQueryDimension]
    },
    .attention(
      .key, "self_attn.k_proj", "attn_k", isLinear: true, fusion: .queryKeyValue,
      engineNames: ["self_attn.qkv_proj"]
    ) { [$0.keyValueHeadCount * $0.headDimension, $0.hiddenSize] },
    .attention(
      .value, "self_attn.v_proj", "attn_v", isLinear: true, fusion: .queryKeyValue,
      engineNames: ["self_attn.qkv_proj"]
    ) { [$0.keyValueHeadCount * $0.headDimension, $0.hiddenSize] },
    .attention(.attentionOutput, "self_attn.o_proj", "attn_output", isLinear: true, cut: 1) {
      [$0.hiddenSize, $0.headCount * $0.headDimension]
    },
    .attention(.postAttentionNorm, "post_attention_layernorm", "ffn_norm", .norm) { [$0.hiddenSize] },
  ]

  /// The feed-forward networks of layers without experts.
  static let denseFFN: [Module] = [
    .ffn(
      .denseGate, "mlp.gate_proj", "ffn_gate", .denseFFN, cut: 0, fusion: .gateUp,
      engineNames: ["mlp.gate_up_proj"]
    ) { $0.isMoE(layer: $1) ? nil : [$0.intermediateSize, $0.hiddenSize] },
    .ffn(
      .denseUp, "mlp.up_proj", "ffn_up", .denseFFN, cut: 0, fusion: .gateUp,
      engineNames: ["mlp.gate_up_proj"]
    ) { $0.isMoE(layer: $1) ? nil : [$0.intermediateSize, $0.hiddenSize] },
    .ffn(.denseDown, "mlp.down_proj", "ffn_down", .denseFFN, cut: 1) {
      $0.isMoE(layer: $1) ? nil : [$0.hiddenSize, $0.intermediateSize]
    },
  ]

  /// Router, routed experts and the shared expert.
  static let experts: [Module] = [
    .ffn(.router, "moe.gate", "ffn_gate_inp", .router, isLinear: false) {
      $0.isMoE(layer: $1) ? [$0.expertCount, $0.hiddenSize] : nil
    },
    // vLLM calls the module of all experts `moe.experts`, SGLang `mlp.experts`.
    .ffn(
      .expertGate, "moe.gate_proj", "ffn_gate_exps", .routedExperts, experts: 0, cut: 1, fusion: .gateUp,
      engineNames: ["moe.experts", "mlp.experts"]
    ) { $0.isMoE(layer: $1) ? [$0.expertCount, $0.expertIntermediateSize, $0.hiddenSize] : nil },
    .ffn(
      .expertUp, "moe.up_proj", "ffn_up_exps", .routedExperts, experts: 0, cut: 1, fusion: .gateUp,
      engineNames: ["moe.experts", "mlp.experts"]
    ) { $0.isMoE(layer: $1) ? [$0.expertCount, $0.expertIntermediateSize, $0.hiddenSize] : nil },
    .ffn(
      .expertDown, "moe.down_proj", "ffn_down_exps", .routedExperts, experts: 0, cut: 2,
      engineNames: ["moe.experts", "mlp.experts"]
    ) { $0.isMoE(layer: $1) ? [$0.expertCount, $0.hiddenSize, $0.expertIntermediateSize] : nil },
    .ffn(
      .sharedGate, "share_expert.gate_proj", "ffn_gate_shexp", .sharedExpert, cut: 0, fusion: .gateUp,
      engineNames: ["share_expert.gate_up_proj"]
    ) { $0.isMoE(layer: $1) ? [$0.sharedExpertIntermediateSize, $0.hiddenSize] : nil },
    .ffn(
      .sharedUp, "share_expert.up_proj", "ffn_up_shexp", .sharedExpert, cut: 0, fusion: .gateUp,
      engineNames: ["share_expert.gate_up_proj"]
    ) { $0.isMoE(layer: $1) ? [$0.sharedExpertIntermediateSize, $0.hiddenSize] : nil },
    .ffn(.sharedDown, "share_expert.down_proj", "ffn_down_shexp", .sharedExpert, cut: 1) {
      $0.isMoE(layer: $1) ? [$0.hiddenSize, $0.sharedExpertIntermediateSize] : nil
    },
  ]

  private static let vision: [Module] = [
    .vision(.classEmbedding, "vision_model.embeddings.class_embedding", "v.class_embd", suffix: .none) {
      [1, $0.hiddenSize]
    },
    .vision(.patchEmbedding, "vision_model.embeddings.patch_embedding", "v.patch_embd", hasBias: true) {
      [$0.hiddenSize, $0.channelCount, $0.patchSize, $0.patchSize]
    },
    .vision(.positionEmbedding, "vision_model.embeddings.position_embedding", "v.position_embd") {
      [$0.positionCount, $0.hiddenSize]
    },
    .vision(.visionNorm1, "layer_norm1", "ln1", .visionLayer, hasBias: true) { [$0.hiddenSize] },
    .vision(.visionQKV, "self_attn.qkv_proj", "attn_qkv", .visionLayer, hasBias: true) {
      [3 * $0.hiddenSize, $0.hiddenSize]
    },
    .vision(.visionOutput, "self_attn.out_proj", "attn_out", .visionLayer, hasBias: true) {
      [$0.hiddenSize, $0.hiddenSize]
    },
    .vision(.visionNorm2, "layer_norm2", "ln2", .visionLayer, hasBias: true) { [$0.hiddenSize] },
    .vision(.visionFC1, "mlp.fc1", "ffn_up", .visionLayer, hasBias: true) {
      [$0.intermediateSize, $0.hiddenSize]
    },
    .vision(.visionFC2, "mlp.fc2", "ffn_down", .visionLayer, hasBias: true) {
      [$0.hiddenSize, $0.intermediateSize]
    },
    .vision(.downsampler1, "vit_downsampler", "mm.down.1", hasBias: true) {
      [$0.outputSize, $0.hiddenSize, 2, 2]
    },
    .vision(.downsampler2, "vit_downsampler2", "mm.down.2", hasBias: true) {
      [2 * $0.outputSize, $0.outputSize, 3, 3]
    },
    .visionProjector(),
  ]
}
