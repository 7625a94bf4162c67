internal import Checkpoint

extension ModelDescription {
  /// Step3-VL-10B.
  ///
  /// The language model is Qwen3's, whose names and shapes transformers has; the vision side is that of Step-3.7-Flash.
  public static let step3VL10B = ModelDescription(
    family: .step3VL10B,
    textLayers: Layers(published: "model.layers.", gguf: "blk.") { $0.text.layerCount },
    // SGLang 0.5.23 (`step3_vl_10b.py`) joins the names with one dot too many.
    visionLayers: visionLayers(engines: ["vision_model..transformer.resblocks."]),
    visionPrefixes: visionNames,
    modules: [
      .once(.tokenEmbedding, "model.embed_tokens", "token_embd", .embedding) {
        [$0.vocabularySize, $0.hiddenSize]
      },
      .layer(.inputNorm, "input_layernorm", "attn_norm", .norm) { text, _ in [text.hiddenSize] },
    ] + headAttention + [
      .layer(.queryHeadNorm, "self_attn.q_norm", "attn_q_norm", .attention) { text, _ in [text.headDimension]
      },
      .layer(.keyHeadNorm, "self_attn.k_norm", "attn_k_norm", .attention) { text, _ in [text.headDimension] },
      .layer(.postAttentionNorm, "post_attention_layernorm", "ffn_norm", .norm) { text, _ in [text.hiddenSize]
      },
    ] + denseFFN + [
      .once(.outputNorm, "model.norm", "output_norm", .norm) { [$0.hiddenSize] },
      .once(.lmHead, "lm_head", "output", .lmHead) { [$0.vocabularySize, $0.hiddenSize] },
    ] + perception)

  static let visionNames = ["vision_model", "vit_"]

  static let perceptionLayers = visionLayers()

  /// - Parameter engines: As ``Layers/engines``.
  private static func visionLayers(engines: [String] = []) -> Layers {
    Layers(published: "vision_model.transformer.resblocks.", gguf: "v.blk.", engines: engines) {
      $0.vision?.layerCount ?? 0
    }
  }

  /// The vision side of Step3-VL-10B and its successors: a tower without a class token whose layers scale what they add,
  /// two convolutions of stride 2, and a projector.
  ///
  /// Names and shapes: transformers (`conversion_mapping.py`) and headers of the published files. GGUF names:
  /// llama.cpp's `clip` with the projector `step3vl` (`conversion/step3.py`). Queries, keys and values are bare
  /// parameters there, so their bias is a module of its own.
  ///
  /// Engines load them as linear layers, and quantise them unless listed as ignored: vLLM 0.33 (`step_vl.py`), SGLang
  /// 0.5.23 (`step3_vl_10b.py`).
  static let perception: [Module] = [
    .vision(.patchEmbedding, "vision_model.conv1", "v.patch_embd") {
      [$0.hiddenSize, $0.channelCount, $0.patchSize, $0.patchSize]
    },
    .vision(
      .positionEmbedding, "vision_model.positional_embedding", "v.position_embd.weight", suffix: .none
    ) { [$0.positionCount, $0.hiddenSize] },
    .vision(.visionInputNorm, "vision_model.ln_pre", "v.pre_ln", hasBias: true) { [$0.hiddenSize] },
    .vision(.visionNorm1, "ln_1", "ln1", .visionLayer, hasBias: true) { [$0.hiddenSize] },
    .vision(
      .visionQKV, "attn.in_proj_weight", "attn_qkv.weight", .visionLayer, suffix: .none,
      engineNames: ["attn.qkv_proj"]
    ) {
      [3 * $0.hiddenSize, $0.hiddenSize]
    },
    .vision(.visionQKVBias, "attn.in_proj_bias", "attn_qkv.bias", .visionLayer, suffix: .none) {
      [3 * $0.hiddenSize]
    },
    .vision(
      .visionOutput, "attn.out_proj", "attn_out", .visionLayer, hasBias: true,
      engineNames: ["attn.out_proj", "attn.proj"]
    ) {
      [$0.hiddenSize, $0.hiddenSize]
    },
    .vision(.layerScale1, "ls_1.gamma", "ls1.weight", .visionLayer, suffix: .none) { [$0.hiddenSize] },
    .vision(.visionNorm2, "ln_2", "ln2", .visionLayer, hasBias: true) { [$0.hiddenSize] },
    .vision(.visionFC1, "mlp.c_fc", "ffn_up", .visionLayer, hasBias: true, engineNames: ["mlp.fc1"]) {
      [$0.intermediateSize, $0.hiddenSize]
    },
    .vision(.visionFC2, "mlp.c_proj", "ffn_down", .visionLayer, hasBias: true, engineNames: ["mlp.fc2"]) {
      [$0.hiddenSize, $0.intermediateSize]
    },
    .vision(.layerScale2, "ls_2.gamma", "ls2.weight", .visionLayer, suffix: .none) { [$0.hiddenSize] },
    .vision(.downsampler1, "vision_model.vit_downsampler1", "mm.0", role: .projector, hasBias: true) {
      [$0.outputSize, $0.hiddenSize, 3, 3]
    },
    .vision(.downsampler2, "vision_model.vit_downsampler2", "mm.1", role: .projector, hasBias: true) {
      [2 * $0.outputSize, $0.outputSize, 3, 3]
    },
    .visionProjector(engineNames: ["vit_large_projector"]),
  ]
}
