internal import JSON
public import TensorFormats

extension Step3Configuration {
  /// Keys that change the arithmetic in other models' configurations, with their neutral values. A missing or null key
  /// is neutral too.
  private static let neutral: [(key: String, values: [JSONValue])] = [
    ("hidden_act", [.string("silu"), .string("swish")]), ("attention_bias", [.bool(false)]),
    ("qkv_bias", [.bool(false)]), ("mlp_bias", [.bool(false)]), ("use_bias", [.bool(false)]),
    ("sliding_window", [.integer(0)]), ("use_sliding_window", [.bool(false)]),
    ("partial_rotary_factor", [.integer(1)]), ("rotary_pct", [.integer(1)]),
    ("attn_logit_softcapping", [.integer(0)]), ("final_logit_softcapping", [.integer(0)]),
    ("router_logit_softcapping", [.integer(0)]), ("logit_scale", [.integer(1)]),
    ("logits_scaling", [.integer(1)]),
    ("embedding_multiplier", [.integer(1)]), ("residual_multiplier", [.integer(1)]),
    ("routed_scaling_factor", [.integer(1)]), ("moe_router_scaling_factor", [.integer(1)]),
    ("scoring_func", [.string("softmax")]), ("moe_router_activation", [.string("softmax")]),
    ("use_moe_router_bias", [.bool(false)]), ("n_group", [.integer(0), .integer(1)]),
    ("topk_group", [.integer(0), .integer(1)]), ("use_qk_norm", [.bool(false)]),
    ("use_head_wise_attn_gate", [.bool(false)]), ("zero_centered", [.bool(false)]),
    ("swiglu_limit", [.integer(0)]),
    ("attention_sink", [.bool(false)]), ("use_alibi", [.bool(false)]), ("alibi", [.bool(false)]),
  ]

  /// The values allowed in later members' configurations: those that are read, and those common to all of them.
  private static let gated: [(key: String, values: [JSONValue])] = [
    ("use_qk_norm", [.bool(true)]), ("zero_centered", [.bool(true)]), ("sink", [.bool(false)]),
    ("att_impl_type", [.string("GQA")]), ("moe_router_activation", [.string("sigmoid")]),
    ("scoring_func", [.string("sigmoid")]), ("yarn_only_types", [.array([.string("full_attention")])]),
    ("query_pre_attn_scalar", []), ("moe_every_n_layer", [.integer(1)]),
  ]

  /// The keys of ``neutral`` that are read for them.
  private static let readOfGated: Set<String> = [
    "sliding_window", "use_sliding_window", "partial_rotary_factor", "moe_router_scaling_factor",
    "use_moe_router_bias", "use_head_wise_attn_gate",
  ]

  /// The members of a rotary embedding description that are read, besides ``RopeScaling/parameterNames``.
  private static let ropeKeys: Set<String> = [
    "rope_theta", "rope_type", "type", "factor", "original_max_position_embeddings",
  ]

  /// Further members of it, with their neutral values.
  private static let neutralRope: [(key: String, values: [JSONValue])] = [
    ("partial_rotary_factor", [.integer(1)]), ("truncate", [.bool(true)]),
    ("finetuned", [.bool(true), .bool(false)]),
  ]

  /// Settings in a language model's configuration that are not supported.
  static func unread(_ text: JSONObject, of family: ModelFamily) throws(CheckpointError) -> [String] {
    switch family {
    case .step3, .step3VL10B: try unread(uniform: text)
    case .step3p5, .step3p7, .step5: try unread(gated: text)
    }
  }

  private static func settings(
    _ object: JSONObject, _ neutral: [(key: String, values: [JSONValue])]
  ) -> [String] {
    neutral.compactMap { key, values in
      guard let value = object.value(key), !values.contains(where: { same($0, value) }) else { return nil }
      return "\(object.place.replacing("config.json: ", with: ""))\(key) is \(value.kind)"
    }
  }

  private static func unread(gated text: JSONObject) throws(CheckpointError) -> [String] {
    let own = Set(gated.map(\.key)).union(readOfGated)
    var rules = neutral.filter { !own.contains($0.key) } + gated
    // The scale of scores must be that of the heads.
    if let dimension = text.value("head_dim") {
      rules.removeAll { $0.key == "query_pre_attn_scalar" }
      rules.append(("query_pre_attn_scalar", [dimension]))
    }
    var found = settings(text, rules)
    if text.value("use_sliding_window") == .bool(false) { found.append("use_sliding_window is false") }
    // Without this key the published loaders disagree about which layers are scaled.
    if text.value("rope_scaling") != nil, text.value("yarn_only_types") == nil,
      text.value("rope_theta") != nil
    {
      found.append("rope_scaling is present without yarn_only_types")
    }
    if let layers = try text.object("per_layer_config") {
      let heads = try text.integer("num_sliding_attention_heads", in: 1...65_536, default: 1)
      for (layer, value) in layers.values
      where value["num_attention_heads"]?.whole != heads || value.members?.count != 1 {
        found.append("per_layer_config of layer \(layer.printable) is \(value.kind)")
      }
    }
    var ropes = [try text.object("rope_scaling")]
    if let kinds = try text.object("rope_parameters") {
      for kind in [LayerKinds.full, LayerKinds.window] { ropes.append(try kinds.object(kind)) }
    }
    let read = ropeKeys.union(RopeScaling.parameterNames).union(["partial_rotary_factor"])
    for rope in ropes.compactMap(\.self) {
      for key in rope.values.keys.sorted() where !read.contains(key) && rope.value(key) != nil {
        found.append(
          "\(rope.place.replacing("config.json: ", with: ""))\(key.printable) is \(rope.values[key]?.kind ?? "null")"
        )
      }
    }
    if let sparse = try text.object("sparse_config") {
      found += settings(sparse, indexing)
    }
    return found
  }

  /// How the indexer works in all known checkpoints.
  ///
  /// Source: the configuration of the BF16 copies of Step-5-Preview; vLLM 0.33 supports no other compression.
  private static let indexing: [(key: String, values: [JSONValue])] = [
    ("sparse_indexer_num_k_heads", [.integer(1)]), ("sparse_indexer_q_norm_type", [.string("rmsnorm")]),
    ("sparse_indexer_k_norm_type", [.string("layernorm")]),
    ("sparse_indexer_csa_z_norm_type", [.string("none")]),
    ("sparse_indexer_use_rope", [.bool(true)]), ("compression_method", [.string("csa_block_compress")]),
    ("apply_to_layer_types", [.array([.string("full_attention")])]),
  ]

  private static func unread(uniform text: JSONObject) throws(CheckpointError) -> [String] {
    var found = settings(text, neutral)
    // Some files give a window and say elsewhere that it is not used.
    if text.value("use_sliding_window") == .bool(false) { found.removeAll { $0.contains("sliding_window") } }
    if let kinds = text.value("layer_types"), !isUniform(kinds) {
      found.append("layer_types is \(kinds.kind) of kinds other than full_attention")
    }
    if let rope = try RopeDescription(text).object {
      found += settings(rope, neutralRope)
      let known = ropeKeys.union(RopeScaling.parameterNames).union(neutralRope.map(\.key))
      for key in rope.values.keys.sorted() where !known.contains(key) && rope.value(key) != nil {
        found.append(
          "\(rope.place.replacing("config.json: ", with: ""))\(key.printable) is \(rope.values[key]?.kind ?? "null")"
        )
      }
    }
    return found
  }

  private static func isUniform(_ kinds: JSONValue) -> Bool {
    guard case .array(let kinds) = kinds else { return false }
    return kinds.allSatisfy { $0 == .string("full_attention") }
  }

  private static func same(_ neutral: JSONValue, _ value: JSONValue) -> Bool {
    if let wanted = neutral.double { return value.double == wanted }
    return neutral == value
  }

  /// Throws if the configuration has settings that are not supported.
  ///
  /// - Parameter path: The file, for the message.
  /// - Throws: `.unsupported` naming each such setting.
  public func requireAllRead(path: String) throws(CheckpointError) {
    guard !unread.isEmpty else { return }
    throw CheckpointError(
      .unsupported,
      "has settings that no supported model of the family has: " + unread.joined(separator: ", "),
      path: path,
      remedy: "convert to safetensors, which keeps the configuration as it is, or remove the setting")
  }
}
