internal import Checkpoint
internal import Foundation
internal import GGUF
internal import JSON
internal import Step3Model
internal import TensorFormats
internal import Testing

/// Later members of the family. The numbers are from the published headers and model cards, not from this code.
@Suite("The family") struct FamilyTests {
  private func inventory(_ family: ModelFamily) throws -> Step3Inventory {
    try Step3Inventory(.published(family))
  }

  private func parameters(
    _ inventory: Step3Inventory, where isCounted: (Step3Inventory.Tensor) -> Bool
  ) -> Int {
    inventory.tensors.filter(isCounted).reduce(0) { $0 + $1.shape.elementCount }
  }

  @Test(
    "Step-3.5-Flash has 753 tensors and 196,956,130,368 parameters, and 2.43 billion in prediction layers")
  func flash() throws {
    let inventory = try inventory(.step3p5)
    let trunk = inventory.tensors.filter { ($0.layer ?? 0) < 45 }
    #expect(trunk.count == 753)
    #expect(trunk.reduce(0) { $0 + $1.shape.elementCount } == 196_956_130_368)
    let prediction = inventory.tensors.filter { ($0.layer ?? 0) >= 45 }
    #expect(prediction.count == 3 * 17)
    // Three output heads and three dense layers.
    #expect((prediction.reduce(0) { $0 + $1.shape.elementCount } + 5_000_000) / 10_000_000 == 243)
    #expect(inventory.parameterCount == inventory.tensors.reduce(0) { $0 + $1.shape.elementCount })
    #expect(parameters(inventory) { $0.role == .routedExperts } == 190_253_629_440)
    var shapes: [String: [Int]] = [:]
    for tensor in inventory.tensors { shapes[tensor.publishedName] = tensor.shape.dimensions }
    #expect(shapes["model.layers.4.self_attn.q_proj.weight"] == [8192, 4096])
    #expect(shapes["model.layers.5.self_attn.q_proj.weight"] == [12_288, 4096])
    #expect(shapes["model.layers.45.self_attn.g_proj.weight"] == [96, 4096])
    #expect(shapes["model.layers.3.moe.router_bias"] == [288])
    #expect(shapes["model.layers.2.moe.router_bias"] == nil)
    #expect(shapes["model.layers.47.transformer.shared_head.output.weight"] == [128_896, 4096])
    #expect(shapes["model.layers.44.eh_proj.weight"] == nil)
    let bias = try #require(inventory.tensors.first { $0.publishedName == "model.layers.3.moe.router_bias" })
    #expect(bias.elementType == .f32 && bias.role == .router && bias.name.suffix == .none)
  }

  @Test("Step-3.7-Flash is the same language model with 667 vision tensors")
  func flashWithVision() throws {
    let (text, whole) = (try inventory(.step3p5), try inventory(.step3p7))
    let vision = whole.tensors.filter { $0.publishedName.hasPrefix("vi") }
    #expect(Set(whole.tensors).subtracting(vision) == Set(text.tensors))
    #expect(vision.count == 667)
    #expect(vision.reduce(0) { $0 + $1.shape.elementCount } == 1_981_014_784)
    var shapes: [String: [Int]] = [:]
    for tensor in vision { shapes[tensor.publishedName] = tensor.shape.dimensions }
    #expect(shapes["vision_model.positional_embedding"] == [2704, 1536])
    #expect(shapes["vision_model.transformer.resblocks.46.attn.in_proj_weight"] == [4608, 1536])
    #expect(shapes["vision_model.transformer.resblocks.0.ls_2.gamma"] == [1536])
    #expect(shapes["vision_model.vit_downsampler2.weight"] == [6144, 3072, 3, 3])
    #expect(shapes["vit_large_projector.weight"] == [4096, 6144])
  }

  @Test("Step-5-Preview has 2,449 tensors and 600,991,912,512 parameters without the vision side")
  func preview() throws {
    let inventory = try inventory(.step5)
    #expect(inventory.tensors.count == 2449)
    #expect(inventory.parameterCount == 602_972_927_296)
    #expect(
      parameters(inventory) { !$0.publishedName.hasPrefix("vi") } == 600_991_912_512)
    let indexers = inventory.tensors.filter {
      $0.publishedName.contains("sparse_indexer") || $0.publishedName.hasSuffix("ssmax_s")
    }
    #expect(indexers.count == 8 * 23)
    #expect(Set(indexers.compactMap(\.layer)) == Set((0..<23).map { 4 * $0 + 3 }))
    for tensor in inventory.tensors where tensor.role == .norm && !tensor.publishedName.hasPrefix("vi") {
      #expect(tensor.elementType == .f32, "\(tensor.publishedName)")
    }
    // The index states 1,206 GB.
    #expect(inventory.byteCount / 1_000_000_000 == 1205 || inventory.byteCount / 1_000_000_000 == 1206)
  }

  @Test("Step3-VL-10B is Qwen3-8B with a vision side")
  func visionLanguage() throws {
    let inventory = try inventory(.step3VL10B)
    // Qwen3-8B has 8,190,735,360 parameters.
    #expect(inventory.parameterCount == 8_190_735_360 + 1_981_014_784)
    #expect(inventory.tensors.count == 399 + 667)
  }

  @Test("names are a bijection in both formats", arguments: ModelFamily.allCases)
  func names(family: ModelFamily) throws {
    let model = family.model
    var gguf: Set<String> = []
    for tensor in try inventory(family).tensors {
      #expect(model.tensor(published: tensor.publishedName) == tensor.name)
      if let name = tensor.ggufName {
        #expect(model.tensor(gguf: name) == tensor.name)
        #expect(gguf.insert(name).inserted)
      }
      // The name alone gives the same role.
      let described = TensorDescription(name: tensor.publishedName)
      #expect(described.role == tensor.role && described.layer == tensor.layer, "\(tensor.publishedName)")
    }
  }

  // MARK: Configurations

  @Test("a written configuration is read back", arguments: ModelFamily.allCases)
  func roundTrip(family: ModelFamily) throws {
    let published = Step3Configuration.published(family)
    let read = try Step3Configuration(configJSON: published.configJSON())
    #expect(read == published)
    #expect(read.unread.isEmpty)
  }

  /// The language model's configuration of Step-3.7-Flash as saved by transformers 5.24.
  private static let newer = """
    {"model_type": "step3p5", "architectures": ["Step3p5ForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
     "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128,
     "rms_norm_eps": 1e-05, "max_position_embeddings": 512, "sliding_window": 8,
     "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "sliding_attention"],
     "mtp_layer_types": ["sliding_attention"], "num_nextn_predict_layers": 1, "num_sliding_attention_heads": 6,
     "per_layer_config": {"1": {"num_attention_heads": 6}, "2": {"num_attention_heads": 6}, "3": {"num_attention_heads": 6}},
     "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"], "mtp_mlp_layer_types": ["dense"],
     "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "share_expert_dim": 48,
     "moe_router_scaling_factor": 3.0, "swiglu_limits": [null, 0.0, 7.0, null], "query_pre_attn_scalar": 16,
     "rope_parameters": {
       "full_attention": {"rope_type": "llama3", "rope_theta": 5000000.0, "partial_rotary_factor": 0.5, "factor": 2.0,
         "original_max_position_embeddings": 131072, "low_freq_factor": 1.0, "high_freq_factor": 32.0},
       "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}}}
    """

  /// The same in StepFun's spelling.
  private static let older = """
    {"model_type": "step3p5", "architectures": ["Step3p5ForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
     "num_hidden_layers": 4, "num_attention_heads": 4, "num_attention_groups": 2, "head_dim": 16, "vocab_size": 128,
     "rms_norm_eps": 1e-05, "max_position_embeddings": 512, "sliding_window": 8, "num_nextn_predict_layers": 1,
     "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention"],
     "attention_other_setting": {"attention_type": "sliding_attention", "num_attention_heads": 6,
       "num_attention_groups": 2, "head_dim": 16},
     "rope_theta": [5000000.0, 10000.0, 10000.0, 10000.0, 10000.0], "partial_rotary_factors": [0.5, 1.0, 1.0, 1.0, 1.0],
     "rope_scaling": {"rope_type": "llama3", "factor": 2.0, "original_max_position_embeddings": 131072,
       "low_freq_factor": 1.0, "high_freq_factor": 32.0},
     "yarn_only_types": ["full_attention"], "use_head_wise_attn_gate": true, "att_impl_type": "GQA", "use_moe": true,
     "moe_layers_enum": "1,2,3", "moe_num_experts": 8, "moe_top_k": 2, "moe_intermediate_size": 32,
     "share_expert_dim": 48, "moe_router_activation": "sigmoid", "use_moe_router_bias": true,
     "moe_router_scaling_factor": 3.0, "norm_expert_weight": true, "need_fp32_gate": true,
     "swiglu_limits": [0.0, 0.0, 7.0, 0.0, 0.0], "sink": false, "tie_word_embeddings": false}
    """

  @Test("both spellings give the same configuration")
  func spellings() throws {
    let older = try Step3Configuration(configJSON: Array(Self.older.utf8))
    let newer = try Step3Configuration(configJSON: Array(Self.newer.utf8))
    #expect(older.text == newer.text)
    #expect(older.unread.isEmpty && newer.unread.isEmpty, "\(older.unread) \(newer.unread)")
    let text = older.text
    #expect(
      text.sliding?.layers == [1, 2, 3, 4] && text.headCount(layer: 0) == 4 && text.headCount(layer: 4) == 6)
    #expect(text.rotaryDimension(layer: 0) == 8 && text.rotaryDimension(layer: 3) == 16)
    #expect(
      text.expertLimit(layer: 2) == 7 && text.expertLimit(layer: 1) == nil
        && text.expertLimit(layer: 4) == nil)
    #expect(text.sharedExpertLimit(layer: 2) == nil && text.moeLayers == [1, 2, 3])
  }

  @Test(
    "contradictory or incomplete spellings are refused",
    arguments: [
      ("\"sliding_attention\"]", "\"chunked_attention\"]", "layer_types"),
      ("[5000000.0, 10000.0, 10000.0,", "[5000000.0, 10000.0, 20000.0,", "rope_theta"),
      ("[0.5, 1.0,", "[0.3, 1.0,", "partial_rotary_factors"),
      ("\"moe_layers_enum\": \"1,2,3\"", "\"moe_layers_enum\": \"1,2,4\"", "moe_layers_enum"),
      ("\"moe_layers_enum\": \"1,2,3\"", "\"moe_layers_enum\": null", "moe_layers_enum"),
      (
        "\"num_attention_groups\": 2, \"head_dim\": 16}", "\"num_attention_groups\": 2, \"head_dim\": 32}",
        "elements"
      ),
      ("\"sliding_window\": 8", "\"sliding_window\": null", "sliding_window"),
      (
        "\"num_attention_groups\": 2, \"head_dim\": 16, ",
        "\"num_attention_groups\": 2, \"num_key_value_heads\": 4, \"head_dim\": 16, ", "num_key_value_heads"
      ),
      ("\"swiglu_limits\": [0.0, 0.0,", "\"swiglu_limits\": [-1.0, 0.0,", "swiglu_limits"),
    ])
  func refused(old: String, new: String, key: String) throws {
    let text = Self.older.replacingOccurrences(of: old, with: new)
    try #require(text != Self.older)
    let error = #expect(throws: CheckpointError.self) { try Step3Configuration(configJSON: Array(text.utf8)) }
    #expect(error?.message.contains(key) == true, "\(String(describing: error))")
  }

  @Test(
    "unsupported settings that change the arithmetic are noted",
    arguments: [
      ("\"sink\": false", "\"sink\": true", "sink"),
      (
        "\"moe_router_activation\": \"sigmoid\"", "\"moe_router_activation\": \"softmax\"",
        "moe_router_activation"
      ),
      ("\"yarn_only_types\": [\"full_attention\"],", "", "yarn_only_types"),
      ("\"low_freq_factor\"", "\"low_frequency\": 3, \"low_freq_factor\"", "low_frequency"),
      ("\"tie_word_embeddings\": false", "\"final_logit_softcapping\": 30.0", "final_logit_softcapping"),
    ])
  func unread(old: String, new: String, key: String) throws {
    let text = Self.older.replacingOccurrences(of: old, with: new)
    try #require(text != Self.older)
    let configuration = try Step3Configuration(configJSON: Array(text.utf8))
    #expect(
      configuration.unread.count == 1 && configuration.unread[0].contains(key), "\(configuration.unread)")
  }

  @Test("vLLM's names for Step-5 are equivalent to those of its copies")
  func previewNames() throws {
    let published = Step3Configuration.published(.step5)
    var text = String(decoding: try published.configJSON(), as: UTF8.self)
    for (old, new) in [
      ("MMGPTStepRoboticsForCausalLM", "Step5ForConditionalGeneration"), ("step3p5v", "step5_vl"),
      ("Step4ForCausalLM", "Step5ForCausalLM"), ("\"step4\"", "\"step5\""),
    ] {
      try #require(text.contains(old))
      text = text.replacingOccurrences(of: old, with: new)
    }
    #expect(try Step3Configuration(configJSON: Array(text.utf8)) == published)
  }

  @Test("the vision side is read in transformers' spelling")
  func perception() throws {
    let published = Step3Configuration.published(.step3p7)
    var text = String(decoding: try published.configJSON(), as: UTF8.self)
    for (old, new) in [
      ("\"width\"", "\"hidden_size\""), ("\"layers\"", "\"num_hidden_layers\""),
      ("\"heads\"", "\"num_attention_heads\""),
    ] {
      let parts = text.components(separatedBy: "\"vision_config\"")
      try #require(parts.count == 2 && parts[1].contains(old))
      text = parts[0] + "\"vision_config\"" + parts[1].replacingOccurrences(of: old, with: new)
    }
    #expect(try Step3Configuration(configJSON: Array(text.utf8)).vision == published.vision)
    let classToken = text.replacingOccurrences(
      of: "\"use_cls_token\" : false", with: "\"use_cls_token\" : true")
    try #require(classToken != text)
    #expect(throws: CheckpointError.self) { try Step3Configuration(configJSON: Array(classToken.utf8)) }
  }

  @Test("the heads that ranks divide are common to all kinds of layers")
  func divided() {
    let flash = Step3Configuration.published(.step3p5)
    #expect(flash.text.dividedHeads(of: .step3p5) == 8)
    #expect(Step3Configuration.published(.step5).text.dividedHeads(of: .step5) == 4)
    #expect(Step3Configuration.published.text.dividedHeads(of: .step3) == 64)
  }

  // MARK: GGUF

  /// Metadata with enough tokens for a published vocabulary.
  private func metadata(_ configuration: Step3Configuration, withPrediction: Bool = true) -> GGUFMetadata {
    var metadata = configuration.ggufMetadata(name: "x", fileType: 32, withPrediction: withPrediction)
    metadata.set(
      "tokenizer.ggml.tokens", .array(.string((0..<configuration.text.vocabularySize).map(String.init))))
    return metadata
  }

  @Test("GGUF keys give the same configuration")
  func metadata() throws {
    let published = Step3Configuration.published(.step3p5)
    var expected = published.text
    // A tensor shows it.
    expected.ropeScaling = nil
    let whole = metadata(published)
    #expect(try Step3Configuration(ggufMetadata: whole).text == expected)
    #expect(whole.integers("step35.attention.head_count") == (0..<48).map { $0 % 4 == 0 ? 64 : 96 })
    #expect(whole["step35.rope.dimension_count"] == nil && whole["step35.nextn_predict_layers"] == .uint32(3))
    let trunk = metadata(published, withPrediction: false)
    #expect(trunk["step35.block_count"] == .uint32(45) && trunk["step35.nextn_predict_layers"] == nil)
    #expect(trunk.bools("step35.attention.sliding_window_pattern")?.count == 45)
    let read = try Step3Configuration(ggufMetadata: trunk).text
    #expect(
      read.predictionLayerCount == 0 && read.sliding?.layers == expected.sliding?.layers.filter { $0 < 45 })
  }

  @Test(
    "invalid GGUF keys are refused",
    arguments: [
      ("step35.attention.sliding_window_pattern", GGUFValue.array(.bool([true, false]))),
      ("step35.attention.head_count", .array(.int32((0..<48).map { Int32($0 + 1) }))),
      ("step35.rope.dimension_count", .uint32(64)), ("step35.expert_gating_func", .uint32(1)),
      ("step35.swiglu_clamp_exp", .array(.float32([-1]))), ("step35.nextn_predict_layers", .uint32(48)),
    ])
  func malformed(key: String, value: GGUFValue) throws {
    var broken = metadata(.published(.step3p5))
    broken.set(key, value)
    let error = #expect(throws: CheckpointError.self) { try Step3Configuration(ggufMetadata: broken) }
    #expect(error?.message.contains(key) == true, "\(String(describing: error))")
  }

  @Test("settings that GGUF cannot express are obstacles")
  func obstacles() {
    func obstacle(_ change: (inout Step3Configuration) -> Void) -> String? {
      var configuration = Step3Configuration.published(.step3p7)
      change(&configuration)
      return configuration.ggufObstacle
    }
    #expect(obstacle { _ in } == nil)
    #expect(obstacle { $0.text.moeLayers.removeLast() } != nil)
    #expect(obstacle { $0.text.rotaryDimension = nil } != nil)
    #expect(obstacle { $0.text.sliding?.rotaryDimension = 64 } != nil)
    #expect(obstacle { $0.text.sliding = nil } != nil)
    #expect(obstacle { $0.text.hasRouterBias = false } != nil)
    #expect(obstacle { $0.text.ropeScaling?.kind = .yarn } != nil)
    #expect(obstacle { $0.vision?.projectorBias = true } != nil)
    #expect(Step3Configuration.published(.step5).ggufObstacle != nil)
    #expect(Step3Configuration.published(.step3VL10B).ggufObstacle == nil)
  }
}
