internal import Checkpoint
internal import TensorFormats

extension ModelDescription {
  /// Step-3.5-Flash.
  ///
  /// Published names and shapes: StepFun's modeling and training code, and headers of the published files. GGUF names:
  /// llama.cpp's `step35` (`conversion/step3.py`, `gguf-py/gguf/constants.py`). Sides and cuts are Step-3's, extended
  /// to new modules: head gates and norms belong to attention, the router's bias to the router, and of the layers that
  /// predict further tokens only the network is on the FFN side.
  public static let step3p5 = ModelDescription(
    family: .step3p5, textLayers: predictingLayers, visionLayers: perceptionLayers,
    visionPrefixes: visionNames,
    modules: gated(norms: .bf16))

  /// Step-3.7-Flash: the same language model, and a vision side.
  public static let step3p7 = ModelDescription(
    family: .step3p7, textLayers: predictingLayers, visionLayers: perceptionLayers,
    visionPrefixes: visionNames,
    modules: gated(norms: .bf16) + perception)

  /// Step-5-Preview: further layers, norms in F32, and an indexer in full layers.
  ///
  /// Names, shapes and types: headers of its BF16 copies.
  public static let step5 = ModelDescription(
    family: .step5, textLayers: predictingLayers, visionLayers: perceptionLayers, visionPrefixes: visionNames,
    modules: gated(norms: .f32, indexer) + perception)

  static let predictingLayers = Layers(published: "model.layers.", gguf: "blk.") {
    $0.text.layerCount + $0.text.predictionLayerCount
  }

  /// The language model: norms are stored around zero.
  private static func gated(norms type: ElementType, _ further: [Module] = []) -> [Module] {
    var modules: [Module] = [
      Module(
        module: .rotaryFactors, scope: .global, publishedName: "rope_freqs", ggufName: "rope_freqs",
        role: .other,
        side: .attention, tensors: [(.weight, { _, _ in nil })]),
      .once(.tokenEmbedding, "model.embed_tokens", "token_embd", .embedding) {
        [$0.vocabularySize, $0.hiddenSize]
      },
    ]
    modules += prediction(norms: type)
    modules.append(
      .layer(.inputNorm, "input_layernorm", "attn_norm", .norm, offset: 1, type: type) { text, _ in
        [text.hiddenSize]
      })
    modules += headAttention
    for (module, name, gguf) in [
      (Step3Module.queryHeadNorm, "self_attn.q_norm", "attn_q_norm"),
      (.keyHeadNorm, "self_attn.k_norm", "attn_k_norm"),
    ] {
      modules.append(
        .layer(module, name, gguf, .attention, offset: 1, type: type) { text, _ in [text.headDimension] })
    }
    modules.append(
      .layer(.headGate, "self_attn.g_proj", "attn_gate", .attention, cut: 0) { text, layer in
        text.hasHeadGates ? [text.headCount(layer: layer), text.hiddenSize] : nil
      })
    modules += further
    modules.append(
      .layer(.postAttentionNorm, "post_attention_layernorm", "ffn_norm", .norm, offset: 1, type: type) {
        text, _ in [text.hiddenSize]
      })
    modules += denseFFN + experts
    modules.append(
      .layer(.routerBias, "moe.router_bias", "exp_probs_b.bias", .router, suffix: .none, type: .f32) {
        text, layer in
        text.isMoE(layer: layer) && text.hasRouterBias ? [text.expertCount] : nil
      })
    modules += [
      .once(.outputNorm, "model.norm", "output_norm", .norm, offset: 1, type: type) { [$0.hiddenSize] },
      .once(.lmHead, "lm_head", "output", .lmHead) { [$0.vocabularySize, $0.hiddenSize] },
    ]
    return modules
  }

  /// Queries, keys and values of heads, without low-rank factors.
  static let headAttention: [Module] = [
    .layer(
      .query, "self_attn.q_proj", "attn_q", .attention, isLinear: true, cut: 0, fusion: .queryKeyValue,
      engineNames: ["self_attn.qkv_proj"]
    ) { text, layer in [text.headCount(layer: layer) * text.headDimension, text.hiddenSize] },
    .layer(
      .key, "self_attn.k_proj", "attn_k", .attention, isLinear: true, cut: 0, fusion: .queryKeyValue,
      engineNames: ["self_attn.qkv_proj"]
    ) { text, layer in [text.keyValueHeadCount(layer: layer) * text.headDimension, text.hiddenSize] },
    .layer(
      .value, "self_attn.v_proj", "attn_v", .attention, isLinear: true, cut: 0, fusion: .queryKeyValue,
      engineNames: ["self_attn.qkv_proj"]
    ) { text, layer in [text.keyValueHeadCount(layer: layer) * text.headDimension, text.hiddenSize] },
    .layer(.attentionOutput, "self_attn.o_proj", "attn_output", .attention, isLinear: true, cut: 1) {
      text, layer in
      [text.hiddenSize, text.headCount(layer: layer) * text.headDimension]
    },
  ]

  /// The additional modules of prediction layers: `eh_proj` takes the next token's embedding and the hidden state, each
  /// after a norm, and there is a separate output head.
  private static func prediction(norms type: ElementType) -> [Module] {
    func norm(_ module: Step3Module, _ name: String, _ gguf: String) -> Module {
      .layer(module, name, gguf, .norm, offset: 1, type: type) { text, layer in
        layer < text.layerCount ? nil : [text.hiddenSize]
      }
    }
    return [
      norm(.predictionEmbeddingNorm, "enorm", "nextn.enorm"),
      norm(.predictionHiddenNorm, "hnorm", "nextn.hnorm"),
      .layer(.predictionProjection, "eh_proj", "nextn.eh_proj", .other) { text, layer in
        layer < text.layerCount ? nil : [text.hiddenSize, 2 * text.hiddenSize]
      },
      norm(.predictionHeadNorm, "transformer.shared_head.norm", "nextn.shared_head_norm"),
      .layer(.predictionHead, "transformer.shared_head.output", "nextn.shared_head_head", .other) {
        text, layer in
        layer < text.layerCount ? nil : [text.vocabularySize, text.hiddenSize]
      },
    ]
  }

  /// The modules that choose the regions that full layers see. GGUF has no names for them.
  private static let indexer: [Module] = {
    func part(
      _ module: Step3Module, _ name: String, suffix: Step3TensorName.Suffix = .weight, hasBias: Bool = false,
      offset: Float = 0, type: ElementType = .bf16,
      _ shape: @escaping @Sendable (Step3Configuration.Indexer, Step3Configuration.Text) -> [Int]
    ) -> Module {
      .layer(
        module, "self_attn.\(name)", nil, .attention, suffix: suffix, hasBias: hasBias, offset: offset,
        type: type
      ) { text, layer in
        guard let indexer = text.indexer, layer < text.layerCount, !text.isSliding(layer: layer) else {
          return nil
        }
        return shape(indexer, text)
      }
    }
    return [
      part(.indexerQuery, "sparse_indexer_q") { [$0.headCount * $0.dimension, $1.hiddenSize] },
      part(.indexerQueryNorm, "sparse_indexer_q_norm", offset: 1, type: .f32) { indexer, _ in
        [indexer.dimension]
      },
      part(.indexerKey, "sparse_indexer_k") { [$0.dimension, $1.hiddenSize] },
      part(.indexerKeyNorm, "sparse_indexer_k_norm", hasBias: true, type: .f32) { indexer, _ in
        [indexer.dimension]
      },
      part(.indexerCompression, "sparse_indexer_z") { [$0.dimension, $1.hiddenSize] },
      part(.indexerWeights, "sparse_indexer_w", type: .f32) { [$0.headCount, $1.hiddenSize] },
      part(.softmaxScale, "ssmax_s", suffix: .none, type: .f32) { _, text in [text.headCount] },
    ]
  }()
}
