internal import JSON
public import TensorFormats

extension Step3Configuration {
  /// Keys by which other models' configurations change the arithmetic, with the values that change nothing. A key that
  /// is missing or null changes nothing either.
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

  /// The members of a description of the rotary embedding that are read, beside ``RopeScaling/parameterNames``.
  private static let ropeKeys: Set<String> = [
    "rope_theta", "rope_type", "type", "factor", "original_max_position_embeddings",
  ]

  /// Further members of it, with the values that change nothing.
  private static let neutralRope: [(key: String, values: [JSONValue])] = [
    ("partial_rotary_factor", [.integer(1)]), ("truncate", [.bool(true)]),
    ("finetuned", [.bool(true), .bool(false)]),
  ]

  /// What a language model's configuration says beyond what is computed.
  static func unread(_ text: JSONObject) throws(CheckpointError) -> [String] {
    func settings(_ object: JSONObject, _ neutral: [(key: String, values: [JSONValue])]) -> [String] {
      neutral.compactMap { key, values in
        guard let value = object.value(key), !values.contains(where: { same($0, value) }) else { return nil }
        return "\(object.place.replacing("config.json: ", with: ""))\(key) is \(value.kind)"
      }
    }
    var found = settings(text, neutral)
    // Some files give a length and say elsewhere that it is not used.
    if text.value("use_sliding_window") == .bool(false) { found.removeAll { $0.contains("sliding_window") } }
    if let kinds = text.value("layer_types"), !isUniform(kinds) {
      found.append("layer_types is \(kinds.kind) of other kinds than full_attention")
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

  /// Makes it an error that the configuration says something which nothing here computes.
  ///
  /// - Parameter path: The file, for the message.
  /// - Throws: `.unsupported` naming each such setting.
  public func requireAllRead(path: String) throws(CheckpointError) {
    guard !unread.isEmpty else { return }
    throw CheckpointError(
      .unsupported, "says of the model what no Step-3 here does: " + unread.joined(separator: ", "),
      path: path,
      remedy: "convert to safetensors, which carries the configuration as it is, or take the setting out")
  }
}
