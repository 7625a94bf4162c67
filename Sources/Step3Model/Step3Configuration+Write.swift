internal import JSON
public import TensorFormats

extension Step3Configuration {
  /// The `config.json` of this configuration: nested like the published one, or flat without a vision side. Reading
  /// it gives an equal configuration.
  ///
  /// `moe_layers_enum` is written as a comma-separated string, because the published loaders split it.
  public func configJSON() throws(CheckpointError) -> [UInt8] {
    var root: JSONMembers = ["torch_dtype": .string("bfloat16"), "tie_word_embeddings": .bool(false)]
    if let bosTokenID { root["bos_token_id"] = .integer(bosTokenID) }
    if let padTokenID { root["pad_token_id"] = .integer(padTokenID) }
    switch eosTokenIDs.count {
    case 0: break
    case 1: root["eos_token_id"] = .integer(eosTokenIDs[0])
    default: root["eos_token_id"] = .array(eosTokenIDs.map { .integer($0) })
    }
    if let quantization { root["quantization_config"] = quantization.json }
    let names = Self.names(of: family)
    var textObject: JSONMembers
    switch family {
    case .step3: textObject = text.json
    case .step3p5, .step3p7, .step5: textObject = text.gatedJSON
    case .step3VL10B: textObject = text.qwenJSON
    }
    textObject["model_type"] = .string(names.text.type)
    textObject["architectures"] = .array([.string(names.text.architecture)])
    guard let vision else {
      for (key, value) in textObject { root[key] = value }
      return try JSONText.file(.object(root))
    }
    root["architectures"] = .array([.string(names.whole.architecture)])
    root["model_type"] = .string(names.whole.type)
    root["text_config"] = .object(textObject)
    root["vision_config"] = family == .step3 ? vision.json : vision.perceptionJSON
    root["understand_projector_stride"] = .integer(vision.projectorStride)
    root["projector_bias"] = .bool(vision.projectorBias)
    root["image_token_id"] = .integer(vision.imageTokenID)
    return try JSONText.file(.object(root))
  }
}

extension Step3Configuration {
  private typealias Name = (type: String, architecture: String)

  /// The names of a family's models, and of their language side, in the published configurations.
  private static func names(of family: ModelFamily) -> (whole: Name, text: Name) {
    let flash: Name = ("step3p5", "Step3p5ForCausalLM")
    return switch family {
    case .step3: (("step3_vl", "Step3VLForConditionalGeneration"), ("step3_text", "Step3TextForCausalLM"))
    case .step3p5: (flash, flash)
    case .step3p7: (("step3p7", "Step3p7ForConditionalGeneration"), flash)
    case .step5: (("step3p5v", "MMGPTStepRoboticsForCausalLM"), ("step4", "Step4ForCausalLM"))
    case .step3VL10B: (("step_robotics", "StepVLForConditionalGeneration"), ("qwen3", "Qwen3ForCausalLM"))
    }
  }
}

extension Step3Configuration.Text {
  fileprivate var json: JSONMembers {
    [
      "hidden_size": .integer(hiddenSize), "intermediate_size": .integer(intermediateSize),
      "num_hidden_layers": .integer(layerCount), "num_attention_heads": .integer(headCount),
      "num_attention_groups": .integer(keyValueHeadCount), "head_dim": .integer(headDimension),
      "share_q_dim": .integer(sharedQueryDimension), "vocab_size": .integer(vocabularySize),
      "moe_layers_enum": .string(moeLayers.map(String.init).joined(separator: ",")),
      "moe_num_experts": .integer(expertCount), "moe_top_k": .integer(expertsPerToken),
      "moe_intermediate_size": .integer(expertIntermediateSize),
      "share_expert_dim": .integer(sharedExpertIntermediateSize),
      "norm_expert_weight": .bool(normalizesExpertWeights), "rms_norm_eps": .shortest(rmsNormEpsilon),
      "rope_theta": .shortest(ropeTheta), "rope_scaling": ropeScaling?.json ?? .null,
      "max_seq_len": .integer(contextLength), "max_position_embedding": .integer(contextLength),
      "torch_dtype": .string("bfloat16"),
    ]
  }
}

extension Step3Configuration.Vision {
  fileprivate var json: JSONValue {
    .object([
      "model_type": .string("step3_vision_encoder"), "image_size": .integer(imageSize),
      "patch_size": .integer(patchSize), "num_channels": .integer(channelCount),
      "hidden_size": .integer(hiddenSize), "intermediate_size": .integer(intermediateSize),
      "num_hidden_layers": .integer(layerCount), "num_attention_heads": .integer(headCount),
      "output_hidden_size": .integer(outputSize), "hidden_act": .string("quick_gelu"),
      "layer_norm_eps": .shortest(layerNormEpsilon),
    ])
  }
}

extension Step3Configuration.RopeScaling {
  var json: JSONValue {
    var object = JSONMembers(parameters.map { ($0.key, .shortest($0.value)) })
    object["rope_type"] = .string(kind.rawValue)
    object["factor"] = .shortest(factor)
    if let originalContextLength {
      object["original_max_position_embeddings"] = .integer(originalContextLength)
    }
    return .object(object)
  }
}

extension Step3Configuration.Quantization {
  fileprivate var json: JSONValue {
    var object: JSONMembers = ["quant_method": .string(method)]
    if let format { object["fmt"] = .string(format) }
    if let activationScheme { object["activation_scheme"] = .string(activationScheme) }
    if let blockSize { object["weight_block_size"] = .array(blockSize.map { .integer($0) }) }
    return .object(object)
  }
}

extension JSONValue {
  /// A number in the style of configurations: whole ones without a decimal point.
  static func shortest(_ value: Double) -> JSONValue {
    let number = JSONNumber(value)
    return number.text.hasSuffix(".0") ? JSONValue(number: String(number.text.dropLast(2))) : .number(number)
  }
}
