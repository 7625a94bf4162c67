public import Checkpoint

/// One named part of the model: what a tensor's name says apart from its layer and its suffix.
public enum Step3Module: Hashable, Sendable, CaseIterable {
  case tokenEmbedding, outputNorm, lmHead
  case inputNorm, query, queryNorm, queryUp, key, value, attentionOutput, postAttentionNorm
  case denseGate, denseUp, denseDown
  case router, expertGate, expertUp, expertDown, sharedGate, sharedUp, sharedDown
  case classEmbedding, patchEmbedding, positionEmbedding
  case visionNorm1, visionNorm2, visionQKV, visionOutput, visionFC1, visionFC2
  case downsampler1, downsampler2, projector

  /// Where the module occurs.
  public enum Scope: Hashable, Sendable {
    /// Once.
    case global
    /// In layers of the language model.
    case textLayer
    /// In layers of the vision tower.
    case visionLayer
  }

  struct Spelling {
    let scope: Scope
    let huggingFace: String
    let gguf: String
    let role: TensorRole
  }

  /// The two names and the role. GGUF names reuse llama.cpp's vocabulary (`gguf-py/gguf/constants.py`: the
  /// low-rank query of DeepSeek-2, `clip`'s vision names). It has no word for two down-sampling convolutions, so they
  /// are `mm.down.1` and `mm.down.2`, and the projector is `mm.model.fc`.
  var spelling: Spelling {
    func global(_ hf: String, _ gguf: String, _ role: TensorRole) -> Spelling {
      Spelling(scope: .global, huggingFace: hf, gguf: gguf, role: role)
    }
    func layer(_ hf: String, _ gguf: String, _ role: TensorRole) -> Spelling {
      Spelling(scope: .textLayer, huggingFace: hf, gguf: gguf, role: role)
    }
    func vision(_ hf: String, _ gguf: String) -> Spelling {
      Spelling(scope: .visionLayer, huggingFace: hf, gguf: gguf, role: .vision)
    }
    return switch self {
    case .tokenEmbedding: global("model.embed_tokens", "token_embd", .embedding)
    case .outputNorm: global("model.norm", "output_norm", .norm)
    case .lmHead: global("lm_head", "output", .lmHead)
    case .inputNorm: layer("input_layernorm", "attn_norm", .norm)
    case .query: layer("self_attn.q_proj", "attn_q_a", .attention)
    case .queryNorm: layer("self_attn.inter_norm", "attn_q_a_norm", .attention)
    case .queryUp: layer("self_attn.wq", "attn_q_b", .attention)
    case .key: layer("self_attn.k_proj", "attn_k", .attention)
    case .value: layer("self_attn.v_proj", "attn_v", .attention)
    case .attentionOutput: layer("self_attn.o_proj", "attn_output", .attention)
    case .postAttentionNorm: layer("post_attention_layernorm", "ffn_norm", .norm)
    case .denseGate: layer("mlp.gate_proj", "ffn_gate", .denseFFN)
    case .denseUp: layer("mlp.up_proj", "ffn_up", .denseFFN)
    case .denseDown: layer("mlp.down_proj", "ffn_down", .denseFFN)
    case .router: layer("moe.gate", "ffn_gate_inp", .router)
    case .expertGate: layer("moe.gate_proj", "ffn_gate_exps", .routedExperts)
    case .expertUp: layer("moe.up_proj", "ffn_up_exps", .routedExperts)
    case .expertDown: layer("moe.down_proj", "ffn_down_exps", .routedExperts)
    case .sharedGate: layer("share_expert.gate_proj", "ffn_gate_shexp", .sharedExpert)
    case .sharedUp: layer("share_expert.up_proj", "ffn_up_shexp", .sharedExpert)
    case .sharedDown: layer("share_expert.down_proj", "ffn_down_shexp", .sharedExpert)
    case .classEmbedding: global("vision_model.embeddings.class_embedding", "v.class_embd", .vision)
    case .patchEmbedding: global("vision_model.embeddings.patch_embedding", "v.patch_embd", .vision)
    case .positionEmbedding: global("vision_model.embeddings.position_embedding", "v.position_embd", .vision)
    case .visionNorm1: vision("layer_norm1", "ln1")
    case .visionNorm2: vision("layer_norm2", "ln2")
    case .visionQKV: vision("self_attn.qkv_proj", "attn_qkv")
    case .visionOutput: vision("self_attn.out_proj", "attn_out")
    case .visionFC1: vision("mlp.fc1", "ffn_up")
    case .visionFC2: vision("mlp.fc2", "ffn_down")
    case .downsampler1: global("vit_downsampler", "mm.down.1", .vision)
    case .downsampler2: global("vit_downsampler2", "mm.down.2", .vision)
    case .projector: global("vit_large_projector", "mm.model.fc", .projector)
    }
  }

  /// Where the module occurs.
  public var scope: Scope { spelling.scope }

  /// What its weights are for.
  public var role: TensorRole { spelling.role }

  /// Whether it belongs to the vision tower, the down-samplers or the projector, which GGUF keeps in a second file.
  public var isVision: Bool { role == .vision || role == .projector }

  /// Whether it is a matrix product of the language model's layers, which block-FP8 quantises.
  public var isQuantizableLinear: Bool {
    switch role {
    case .attention: self != .queryNorm
    case .denseFFN, .sharedExpert, .routedExperts: true
    default: false
    }
  }
}
