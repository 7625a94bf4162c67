internal import JSON
internal import TensorFormats

/// No existing model comes near this; products of three such dimensions still fit an `Int`.
private let dimensions = 1...1_048_576

extension Step3Configuration.Text {
  /// Reads the language model of a later member in either of its spellings: StepFun's, where lists have an entry for
  /// each layer, and that of transformers, which goes by kinds of layers.
  ///
  /// | what | StepFun | transformers | |---|---|---| | kinds of layers | `layer_types`, layers of prediction
  /// behind the others | those in `mtp_layer_types` | | base | `rope_theta`, a list | `rope_parameters`, by
  /// kind | | rotated share of a head | `partial_rotary_factors` | `partial_rotary_factor`, by kind | |
  /// scaling | `rope_scaling` with `yarn_only_types` | beside the base of full layers | | heads of sliding
  /// layers | `attention_other_setting` | `num_sliding_attention_heads` | | layers with experts |
  /// `moe_layers_enum` | `mlp_layer_types` |
  ///
  /// If both are present they have to agree.
  init(gated object: JSONObject) throws(CheckpointError) {
    self.init()
    hiddenSize = try object.integer("hidden_size", in: dimensions)
    intermediateSize = try object.integer("intermediate_size", in: dimensions)
    layerCount = try object.integer("num_hidden_layers", in: 1...10_000)
    predictionLayerCount = try object.integer("num_nextn_predict_layers", in: 0...1000, default: 0)
    headCount = try object.integer("num_attention_heads", in: 1...65_536)
    keyValueHeadCount = try object.integer(
      ["num_attention_groups", "num_key_value_heads"], in: 1...headCount)
    headDimension = try object.integer("head_dim", in: 1...65_536)
    sharedQueryDimension = 0
    vocabularySize = try object.integer("vocab_size", in: 1...16_777_216)
    hasHeadGates = try object.bool("use_head_wise_attn_gate", default: true)
    rmsNormEpsilon = try object.positive("rms_norm_eps", default: 1e-5)
    contextLength = try object.integer(
      ["max_position_embeddings", "max_position_embedding", "max_seq_len"], in: 1...1_073_741_824)
    let kinds = try Step3Configuration.LayerKinds(
      object, layers: layerCount, prediction: predictionLayerCount)
    try setExperts(object)
    try setAttention(object, kinds)
    expertLimits = try limits("swiglu_limits", object)
    sharedExpertLimits = try limits("swiglu_limits_shared", object)
    indexer = try object.object("sparse_config").flatMap(Step3Configuration.Indexer.init)
  }

  /// Checks that every head divides evenly where it has to.
  private mutating func setAttention(_ object: JSONObject, _ kinds: Step3Configuration.LayerKinds)
    throws(CheckpointError)
  {
    let rotary = try Step3Configuration.RotarySettings(object, kinds)
    ropeTheta = rotary.full.base
    ropeScaling = rotary.scaling
    rotaryDimension = try turned(rotary.full.factor, object)
    guard !kinds.sliding.isEmpty else { return }
    let other = try object.object("attention_other_setting")
    let heads = try object.agreeing(
      "num_sliding_attention_heads", other, "num_attention_heads", in: 1...65_536, default: headCount)
    let groups = try object.agreeing(
      "num_attention_groups_sliding_attention", other, "num_attention_groups", in: 1...heads,
      default: keyValueHeadCount)
    let dimension = try object.agreeing(
      "head_dim_sliding_attention", other, "head_dim", in: 1...65_536, default: headDimension)
    guard dimension == headDimension else {
      throw CheckpointError(
        .unsupported,
        "config.json: heads of sliding layers have \(dimension) elements and others \(headDimension); only one size is supported"
      )
    }
    sliding = .init(
      layers: kinds.sliding, window: try object.integer("sliding_window", in: 1...1_073_741_824),
      headCount: heads, keyValueHeadCount: groups, ropeTheta: rotary.sliding.base,
      rotaryDimension: try turned(rotary.sliding.factor, object))
  }

  /// The number of elements in a share of a head; `nil` for all.
  private func turned(_ factor: Double, _ object: JSONObject) throws(CheckpointError) -> Int? {
    let count = Double(headDimension) * factor
    guard (0...1).contains(factor), abs(count - count.rounded()) < 1e-6, Int(count.rounded()) % 2 == 0,
      count.rounded() > 0
    else {
      throw object.mismatch(
        "partial_rotary_factors", "shares of head_dim (\(headDimension)) that are even numbers",
        .number(.init(factor)))
    }
    return Int(count.rounded()) == headDimension ? nil : Int(count.rounded())
  }

  private mutating func setExperts(_ object: JSONObject) throws(CheckpointError) {
    guard try object.bool("use_moe", default: true) else { return setDense() }
    moeLayers = try gatedMoELayers(object)
    guard !moeLayers.isEmpty else { return setDense() }
    expertCount = try object.integer(
      ["moe_num_experts", "n_routed_experts", "num_local_experts"], in: 1...65_536)
    expertsPerToken = try object.integer(["moe_top_k", "num_experts_per_tok"], in: 1...expertCount)
    expertIntermediateSize = try object.integer("moe_intermediate_size", in: dimensions)
    sharedExpertIntermediateSize = try object.integer(
      ["share_expert_dim", "share_expert_dims"], in: dimensions)
    normalizesExpertWeights = try object.bool("norm_expert_weight", default: true)
    routerActivation = .sigmoid
    hasRouterBias = try object.bool("use_moe_router_bias", default: true)
    routerScale = try object.positive("moe_router_scaling_factor", default: 1)
  }

  private func gatedMoELayers(_ object: JSONObject) throws(CheckpointError) -> [Int] {
    let newer = try object.strings("mlp_layer_types")
    var listed: [Int]?
    if let newer {
      guard newer.count >= layerCount, newer.allSatisfy({ ["sparse", "dense"].contains($0) }) else {
        throw object.mismatch(
          "mlp_layer_types", "'sparse' or 'dense' for each of \(layerCount) layers",
          object.value("mlp_layer_types"))
      }
      listed = (0..<layerCount).filter { newer[$0] == "sparse" }
    }
    for key in ["moe_layers_enum", "moe_layers", "moe_layer_list"] where object.value(key) != nil {
      let layers = try Self.moeLayers(object, key: key, layerCount: layerCount)
      guard listed == nil || listed == layers else {
        throw object.mismatch(key, "the layers that another key says have experts", object.value(key))
      }
      listed = layers
    }
    guard let listed else {
      // The published loaders disagree about what this would mean.
      throw object.mismatch("moe_layers_enum", "the layers with experts", nil)
    }
    return listed
  }

  private func limits(_ key: String, _ object: JSONObject) throws(CheckpointError) -> [Double] {
    guard let numbers = try object.numbersOrNull(key) else { return [] }
    guard numbers.count >= layerCount, numbers.allSatisfy({ $0 >= 0 && Float($0).isFinite }) else {
      throw object.mismatch(key, "a limit or null for each of \(layerCount) layers", object.value(key))
    }
    let count = layerCount + predictionLayerCount
    return Array(numbers.prefix(count)) + Array(repeating: 0, count: max(0, count - numbers.count))
  }

  /// Reads the language model of Step3-VL-10B: Qwen3's.
  init(qwen object: JSONObject) throws(CheckpointError) {
    self.init()
    hiddenSize = try object.integer("hidden_size", in: dimensions)
    intermediateSize = try object.integer("intermediate_size", in: dimensions)
    layerCount = try object.integer("num_hidden_layers", in: 1...10_000)
    headCount = try object.integer("num_attention_heads", in: 1...65_536)
    keyValueHeadCount = try object.integer(
      ["num_key_value_heads", "num_attention_groups"], in: 1...headCount)
    headDimension = try object.integer("head_dim", in: 1...65_536)
    guard headDimension % 2 == 0 else {
      throw object.mismatch(
        "head_dim", "an even number (the rotary embedding rotates pairs)", .integer(headDimension))
    }
    sharedQueryDimension = 0
    vocabularySize = try object.integer("vocab_size", in: 1...16_777_216)
    setDense()
    rmsNormEpsilon = try object.positive("rms_norm_eps")
    let rope = try Step3Configuration.RopeDescription(object)
    guard let base = rope.statedBase else { throw object.mismatch("rope_theta", "a number above 0", nil) }
    ropeTheta = base
    ropeScaling = rope.scaling
    contextLength = try object.integer("max_position_embeddings", in: 1...1_073_741_824)
  }
}

extension Step3Configuration.Indexer {
  init?(_ object: JSONObject) throws(CheckpointError) {
    guard try object.bool("enabled", default: true) else { return nil }
    headCount = try object.integer("sparse_indexer_num_heads", in: 1...65_536)
    dimension = try object.integer("proxy_dim", in: 1...65_536)
    regionSize = try object.integer("region_block_size", in: 1...65_536)
    regionCount = try object.integer("topk", in: 1...65_536)
  }
}

// MARK: - Kinds of layers

extension Step3Configuration {
  /// Which layers see everything, and which only a window.
  struct LayerKinds {
    /// The values of `layer_types`.
    static let (full, window) = ("full_attention", "sliding_attention")
    /// The sliding layers, ascending; prediction layers after the others.
    let sliding: [Int]
    /// A layer of each kind, if any, outside the prediction layers.
    let example: (full: Int?, sliding: Int?)
    let count: Int

    init(_ object: JSONObject, layers: Int, prediction: Int) throws(CheckpointError) {
      count = layers
      var kinds = try object.strings("layer_types") ?? []
      if !kinds.isEmpty, kinds.count < layers {
        throw object.mismatch(
          "layer_types", "a kind for each of \(layers) layers", object.value("layer_types"))
      }
      if kinds.count == layers { kinds += try object.strings("mtp_layer_types") ?? [] }
      // Unlisted layers see everything, in all published loaders.
      kinds += Array(repeating: Self.full, count: max(0, layers + prediction - kinds.count))
      kinds = Array(kinds.prefix(layers + prediction))
      for kind in kinds where kind != Self.full && kind != Self.window {
        throw object.mismatch("layer_types", "full_attention or sliding_attention", .string(kind))
      }
      sliding = kinds.indices.filter { kinds[$0] == Self.window }
      example = (kinds.prefix(layers).firstIndex(of: Self.full), kinds.firstIndex(of: Self.window))
    }
  }

  /// The rotary embedding of both kinds of layers.
  struct RotarySettings {
    typealias Kind = (base: Double, factor: Double)
    let full: Kind
    let sliding: Kind
    /// Of full layers.
    let scaling: RopeScaling?

    init(_ object: JSONObject, _ kinds: LayerKinds) throws(CheckpointError) {
      if let parameters = try object.object("rope_parameters"), object.value("rope_theta") == nil {
        func kind(_ name: String) throws(CheckpointError) -> (Kind, JSONObject)? {
          guard let own = try parameters.object(name) else { return nil }
          return (
            (try own.positive("rope_theta"), try own.positive("partial_rotary_factor", default: 1)), own
          )
        }
        guard let (full, own) = try kind(LayerKinds.full) else {
          throw parameters.mismatch(LayerKinds.full, "the rotary embedding of such layers", nil)
        }
        let window = try kind(LayerKinds.window)
        guard window != nil || kinds.sliding.isEmpty else {
          throw parameters.mismatch(LayerKinds.window, "the rotary embedding of such layers", nil)
        }
        if let window, try RopeScaling(window.1) != nil {
          throw parameters.mismatch(
            LayerKinds.window, "rope_type default", parameters.value(LayerKinds.window))
        }
        (self.full, sliding, scaling) = (full, window?.0 ?? full, try RopeScaling(own))
        return
      }
      func both(_ key: String, default fallback: Double?) throws(CheckpointError) -> (Double, Double) {
        guard case .array? = object.value(key) else {
          let one = try object.positive(key, default: fallback)
          return (one, one)
        }
        let numbers = try object.numbersOrNull(key) ?? []
        guard numbers.count >= kinds.count, numbers.allSatisfy({ $0 > 0 && Float($0).isFinite }) else {
          throw object.mismatch(key, "a number above 0 for each of \(kinds.count) layers", object.value(key))
        }
        // Layers of one kind must be alike; GGUF has no place for more.
        for layer in 0..<min(numbers.count, kinds.count) {
          let example = kinds.sliding.contains(layer) ? kinds.example.sliding : kinds.example.full
          guard numbers[layer] == numbers[example ?? layer] else {
            throw CheckpointError(
              .unsupported,
              "config.json: \(key) differs between layers of one kind (\(example ?? layer) and \(layer))")
          }
        }
        let first = numbers[0]
        return (
          kinds.example.full.map { numbers[$0] } ?? first,
          kinds.example.sliding.map { $0 < numbers.count ? numbers[$0] : first } ?? first
        )
      }
      let base = try both("rope_theta", default: nil)
      let factor = try both("partial_rotary_factors", default: 1)
      (full, sliding) = ((base.0, factor.0), (base.1, factor.1))
      scaling = try object.object("rope_scaling").flatMap(RopeScaling.init)
    }
  }
}

// MARK: - Keys with two spellings

extension JSONObject {
  /// A whole number under the first present of several names; all present ones have to agree.
  fileprivate func integer(_ keys: [String], in range: ClosedRange<Int>) throws(CheckpointError) -> Int {
    let stated = keys.filter { value($0) != nil }
    let number = try integer(stated.first ?? keys[0], in: range)
    for other in stated.dropFirst() where value(other)?.whole != number {
      throw mismatch(other, "the same as \(stated[0]) (\(number))", value(other))
    }
    return number
  }

  /// A whole number here or under another name in another object; if both are present they have to agree.
  fileprivate func agreeing(
    _ key: String, _ other: JSONObject?, _ otherKey: String, in range: ClosedRange<Int>, default fallback: Int
  ) throws(CheckpointError) -> Int {
    let inside = try other?.integer(otherKey, in: range, default: fallback)
    let number = try integer(key, in: range, default: inside ?? fallback)
    if let other, other.value(otherKey) != nil, inside != number {
      throw other.mismatch(otherKey, "the same as \(key) (\(number))", other.value(otherKey))
    }
    return number
  }

  /// A list of strings; `nil` where the key is absent.
  fileprivate func strings(_ key: String) throws(CheckpointError) -> [String]? {
    guard let value = value(key) else { return nil }
    guard let strings = value.strings, case .array(let items) = value, items.count == strings.count else {
      throw mismatch(key, "a list of strings", value)
    }
    return strings
  }

  /// A list of numbers, null among them meaning 0; `nil` where the key is absent.
  fileprivate func numbersOrNull(_ key: String) throws(CheckpointError) -> [Double]? {
    guard let value = value(key) else { return nil }
    guard case .array(let items) = value, !items.isEmpty else {
      throw mismatch(key, "a list of numbers", value)
    }
    var numbers: [Double] = []
    for item in items {
      guard let number = item == .null ? 0 : item.double else { throw mismatch(key, "numbers or null", item) }
      numbers.append(number)
    }
    return numbers
  }
}
