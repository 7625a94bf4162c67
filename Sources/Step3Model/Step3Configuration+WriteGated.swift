internal import JSON

extension Step3Configuration.Text {
  /// A later member's language model, with StepFun's keys: lists have an entry for each layer.
  var gatedJSON: JSONMembers {
    let layers = 0..<layerCount + predictionLayerCount
    func share(_ layer: Int) -> Double { Double(rotaryDimension(layer: layer)) / Double(headDimension) }
    func perLayer(_ value: (Int) -> JSONValue) -> JSONValue { .array(layers.map(value)) }
    var object: JSONMembers = [
      "hidden_size": .integer(hiddenSize), "intermediate_size": .integer(intermediateSize),
      "num_hidden_layers": .integer(layerCount), "num_nextn_predict_layers": .integer(predictionLayerCount),
      "num_attention_heads": .integer(headCount), "num_attention_groups": .integer(keyValueHeadCount),
      "head_dim": .integer(headDimension), "vocab_size": .integer(vocabularySize),
      "rms_norm_eps": .shortest(rmsNormEpsilon), "max_position_embeddings": .integer(contextLength),
      "max_seq_len": .integer(contextLength), "att_impl_type": .string("GQA"),
      "use_head_wise_attn_gate": .bool(hasHeadGates),
      "layer_types": perLayer {
        .string(
          isSliding(layer: $0) ? Step3Configuration.LayerKinds.window : Step3Configuration.LayerKinds.full)
      },
      "rope_theta": perLayer {
        .shortest(isSliding(layer: $0) ? sliding?.ropeTheta ?? ropeTheta : ropeTheta)
      },
      "partial_rotary_factors": perLayer { .shortest(share($0)) },
      "rope_scaling": ropeScaling?.json ?? .null, "sink": .bool(false), "use_qk_norm": .bool(true),
      "use_moe": .bool(!moeLayers.isEmpty), "need_fp32_gate": .bool(true), "torch_dtype": .string("bfloat16"),
    ]
    if ropeScaling != nil {
      object["yarn_only_types"] = .array([.string(Step3Configuration.LayerKinds.full)])
    }
    if let sliding {
      object["sliding_window"] = .integer(sliding.window)
      object["attention_other_setting"] = .object([
        "attention_type": .string(Step3Configuration.LayerKinds.window),
        "num_attention_heads": .integer(sliding.headCount),
        "num_attention_groups": .integer(sliding.keyValueHeadCount), "head_dim": .integer(headDimension),
      ])
    }
    if !moeLayers.isEmpty {
      object["moe_layers_enum"] = .string(moeLayers.map(String.init).joined(separator: ","))
      object["moe_num_experts"] = .integer(expertCount)
      object["moe_top_k"] = .integer(expertsPerToken)
      object["moe_intermediate_size"] = .integer(expertIntermediateSize)
      object["share_expert_dim"] = .integer(sharedExpertIntermediateSize)
      object["moe_router_activation"] = .string(routerActivation.rawValue)
      object["use_moe_router_bias"] = .bool(hasRouterBias)
      object["moe_router_scaling_factor"] = .shortest(routerScale)
      object["norm_expert_weight"] = .bool(normalizesExpertWeights)
    }
    if !expertLimits.isEmpty { object["swiglu_limits"] = .array(expertLimits.map { .shortest($0) }) }
    if !sharedExpertLimits.isEmpty {
      object["swiglu_limits_shared"] = .array(sharedExpertLimits.map { .shortest($0) })
    }
    if let indexer {
      object["sparse_config"] = .object([
        "enabled": .bool(true), "sparse_indexer_num_heads": .integer(indexer.headCount),
        "proxy_dim": .integer(indexer.dimension), "region_block_size": .integer(indexer.regionSize),
        "topk": .integer(indexer.regionCount),
      ])
    }
    return object
  }

  /// Step3-VL-10B's language model, with the keys of transformers.
  var qwenJSON: JSONMembers {
    [
      "hidden_size": .integer(hiddenSize), "intermediate_size": .integer(intermediateSize),
      "num_hidden_layers": .integer(layerCount), "num_attention_heads": .integer(headCount),
      "num_key_value_heads": .integer(keyValueHeadCount), "head_dim": .integer(headDimension),
      "vocab_size": .integer(vocabularySize), "rms_norm_eps": .shortest(rmsNormEpsilon),
      "rope_theta": .shortest(ropeTheta), "rope_scaling": ropeScaling?.json ?? .null,
      "max_position_embeddings": .integer(contextLength), "hidden_act": .string("silu"),
      "attention_bias": .bool(false), "use_sliding_window": .bool(false), "torch_dtype": .string("bfloat16"),
    ]
  }
}

extension Step3Configuration.Vision {
  /// The vision side of Step3-VL-10B and its successors, with StepFun's keys.
  var perceptionJSON: JSONValue {
    .object([
      "model_type": .string("perception_encoder"), "image_size": .integer(imageSize),
      "patch_size": .integer(patchSize), "num_channels": .integer(channelCount),
      "width": .integer(hiddenSize),
      "layers": .integer(layerCount), "heads": .integer(headCount),
      "mlp_ratio": .shortest(Double(intermediateSize) / Double(hiddenSize)),
      "hidden_act": .string("quick_gelu"),
      "use_cls_token": .bool(false), "use_ln_post": .bool(false),
      "layer_norm_eps": .shortest(layerNormEpsilon),
    ])
  }
}
