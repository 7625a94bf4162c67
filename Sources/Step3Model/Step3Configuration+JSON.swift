internal import Checkpoint
package import JSON
public import TensorFormats

extension Step3Configuration {
  /// Which member of the family a `config.json` describes, by `model_type` or `architectures`; `nil` for bytes that are not a
  /// JSON object or describe another model.
  public static func family(configJSON bytes: [UInt8]) -> ModelFamily? {
    (try? JSONValue.parse(bytes, name: "config.json")).flatMap(family)
  }

  /// The same for a parsed document.
  package static func family(_ document: JSONValue) -> ModelFamily? {
    ModelFamily(
      modelType: document["model_type"]?.text, architectures: document["architectures"]?.strings ?? [])
  }

  /// Reads a `config.json`, nested (`text_config`) or flat (`Step3TextForCausalLM`).
  ///
  /// - Throws: `.unsupported` for another model, `.malformed` naming the key, what it should hold and what it holds.
  public init(configJSON bytes: [UInt8]) throws(CheckpointError) {
    try self.init(JSONValue.parse(bytes, name: "config.json"))
  }

  /// Takes a parsed document.
  ///
  /// - Throws: As ``init(configJSON:)``.
  package init(_ document: JSONValue) throws(CheckpointError) {
    let root = try JSONObject(document, place: "config.json: ")
    guard let family = Self.family(document) else {
      throw CheckpointError(
        .unsupported,
        "config.json: model_type: expected one of the Step family, such as 'step3_vl' or 'step3p7', found \(root.value("model_type")?.kind ?? "nothing")"
      )
    }
    var textObject = root
    if let nested = try root.object("text_config") { textObject = nested }
    self.family = family
    let text: Text
    switch family {
    case .step3: text = try Text(textObject)
    case .step3p5, .step3p7, .step5: text = try Text(gated: textObject)
    case .step3VL10B: text = try Text(qwen: textObject)
    }
    self.text = text
    if let object = try root.object("vision_config") {
      vision =
        family == .step3
        ? try Vision(object, root: root, vocabularySize: text.vocabularySize)
        : try Vision(perception: object, root: root, vocabularySize: text.vocabularySize)
    } else {
      vision = nil
    }
    var quantized = try root.object("quantization_config")
    if quantized == nil { quantized = try textObject.object("quantization_config") }
    if let quantized { quantization = try Quantization(quantized) } else { quantization = nil }
    let tokens = 0...(text.vocabularySize - 1)
    func ids(_ key: String) throws(CheckpointError) -> [Int] {
      try (root.value(key) == nil ? textObject : root).tokenIDs(key, in: tokens)
    }
    bosTokenID = try ids("bos_token_id").first
    eosTokenIDs = try ids("eos_token_id")
    padTokenID = try ids("pad_token_id").first
    unread = try Self.unread(textObject, of: family)
  }
}

/// No existing model comes near this; products of three such dimensions still fit an `Int`.
private let dimensions = 1...1_048_576

extension Step3Configuration.Text {
  init(_ object: JSONObject) throws(CheckpointError) {
    hiddenSize = try object.integer("hidden_size", in: dimensions)
    intermediateSize = try object.integer("intermediate_size", in: dimensions)
    layerCount = try object.integer("num_hidden_layers", in: 1...10_000)
    headCount = try object.integer("num_attention_heads", in: 1...65_536)
    keyValueHeadCount = try object.integer("num_attention_groups", in: 1...headCount, default: 1)
    headDimension = try object.integer("head_dim", in: 1...65_536)
    guard headDimension % 2 == 0 else {
      throw object.mismatch(
        "head_dim", "an even number (the rotary embedding rotates pairs)", .integer(headDimension))
    }
    sharedQueryDimension = try object.integer("share_q_dim", in: dimensions)
    vocabularySize = try object.integer("vocab_size", in: 1...16_777_216)
    moeLayers = try Self.moeLayers(object, key: "moe_layers_enum", layerCount: layerCount)
    // A model with only dense layers need not mention experts.
    let fallback: Int? = moeLayers.isEmpty ? 1 : nil
    expertCount = try object.integer("moe_num_experts", in: 1...65_536, default: fallback)
    expertsPerToken = try object.integer("moe_top_k", in: 1...expertCount, default: fallback)
    expertIntermediateSize = try object.integer("moe_intermediate_size", in: dimensions, default: fallback)
    sharedExpertIntermediateSize = try object.integer(
      "share_expert_dim", in: dimensions, default: expertIntermediateSize)
    normalizesExpertWeights = try object.bool("norm_expert_weight", default: false)
    rmsNormEpsilon = try object.positive("rms_norm_eps", default: 1e-5)
    let rope = try Step3Configuration.RopeDescription(object)
    ropeTheta = rope.base
    ropeScaling = rope.scaling
    contextLength = try Self.contextLength(object)
  }

  /// The layers with experts, ascending; without the key, all but the first.
  static func moeLayers(_ object: JSONObject, key: String, layerCount: Int) throws(CheckpointError) -> [Int] {
    var layers: [Int] = []
    switch object.value(key) {
    case nil: layers = Array(1..<max(1, layerCount))
    case .string(let list)?:
      for part in list.split(separator: ",") {
        guard let layer = Int(part.filter { $0 != " " }) else {
          throw object.mismatch(key, "layer numbers separated by commas", .string(list))
        }
        layers.append(layer)
      }
    case .array?: layers = try object.integers(key, in: 0...(layerCount - 1))
    case let other?: throw object.mismatch(key, "a string or list of layer numbers", other)
    }
    for layer in layers where !(0..<layerCount).contains(layer) {
      throw object.mismatch(key, "layers from 0 to \(layerCount - 1)", .integer(layer))
    }
    guard Set(layers).count == layers.count else {
      throw object.mismatch(key, "every layer once", object.value(key))
    }
    return layers.sorted()
  }

  private static func contextLength(_ object: JSONObject) throws(CheckpointError) -> Int {
    for key in ["max_position_embedding", "max_position_embeddings", "max_seq_len"]
    where object.value(key) != nil {
      return try object.integer(key, in: 1...1_073_741_824)
    }
    return 65_536
  }
}

extension Step3Configuration.Vision {
  init(_ object: JSONObject, root: JSONObject, vocabularySize: Int) throws(CheckpointError) {
    imageSize = try object.integer("image_size", in: 1...65_536)
    patchSize = try object.integer("patch_size", in: 1...imageSize)
    guard imageSize % patchSize == 0 else {
      throw object.mismatch("image_size", "a multiple of patch_size (\(patchSize))", .integer(imageSize))
    }
    channelCount = try object.integer("num_channels", in: 1...1024, default: 3)
    hiddenSize = try object.integer("hidden_size", in: dimensions)
    intermediateSize = try object.integer("intermediate_size", in: dimensions)
    layerCount = try object.integer("num_hidden_layers", in: 1...10_000)
    headCount = try object.integer("num_attention_heads", in: 1...hiddenSize)
    guard hiddenSize % headCount == 0 else {
      throw object.mismatch(
        "num_attention_heads", "a divisor of hidden_size (\(hiddenSize))", .integer(headCount))
    }
    outputSize = try object.integer("output_hidden_size", in: dimensions)
    projectorStride = try root.integer("understand_projector_stride", in: 1...1024, default: 1)
    projectorBias = try root.bool("projector_bias", default: false)
    imageTokenID = try root.integer(
      "image_token_id", in: 0...(vocabularySize - 1), default: min(128_001, vocabularySize - 1))
    layerNormEpsilon = try object.positive("layer_norm_eps", default: 1e-5)
  }
}

extension Step3Configuration.Vision {
  /// Reads the vision side of Step3-VL-10B and its successors, with StepFun's keys or those of transformers.
  init(perception object: JSONObject, root: JSONObject, vocabularySize: Int) throws(CheckpointError) {
    func dimension(_ key: String, _ newer: String, most: Int = 1_048_576) throws(CheckpointError) -> Int {
      try object.integer(object.value(key) == nil ? newer : key, in: 1...most)
    }
    imageSize = try object.integer("image_size", in: 1...65_536)
    patchSize = try object.integer("patch_size", in: 1...imageSize)
    guard imageSize % patchSize == 0 else {
      throw object.mismatch("image_size", "a multiple of patch_size (\(patchSize))", .integer(imageSize))
    }
    channelCount = try object.integer("num_channels", in: 1...1024, default: 3)
    hiddenSize = try dimension("width", "hidden_size")
    layerCount = try dimension("layers", "num_hidden_layers", most: 10_000)
    headCount = try dimension("heads", "num_attention_heads", most: hiddenSize)
    guard hiddenSize % headCount == 0 else {
      throw object.mismatch("heads", "a divisor of the width (\(hiddenSize))", .integer(headCount))
    }
    // As in the released models; a stated ratio takes precedence over a stated size.
    if object.value("mlp_ratio") == nil, object.value("intermediate_size") != nil {
      intermediateSize = try object.integer("intermediate_size", in: dimensions)
    } else {
      let ratio = try object.positive("mlp_ratio", default: 8960.0 / 1536.0)
      let size = (Double(hiddenSize) * ratio).rounded()
      guard size >= 1, size <= 1_048_576 else {
        throw object.mismatch(
          "mlp_ratio", "a ratio that gives a size up to 1048576", object.value("mlp_ratio"))
      }
      intermediateSize = Int(size)
    }
    for key in ["use_cls_token", "ues_cls_token", "use_ln_post"] where try object.bool(key, default: false) {
      throw CheckpointError(.unsupported, "\(object.place)\(key): expected false, found true")
    }
    if let activation = try object.string("hidden_act"), activation != "quick_gelu" {
      throw CheckpointError(
        .unsupported, "\(object.place)hidden_act: expected quick_gelu, found \(activation.printable)")
    }
    hasClassToken = false
    outputSize = 2 * hiddenSize
    projectorStride = try root.integer("understand_projector_stride", in: 1...1024, default: 2)
    guard projectorStride == 2 else {
      throw root.mismatch("understand_projector_stride", "2", .integer(projectorStride))
    }
    projectorBias = try root.bool("projector_bias", default: false)
    imageTokenID = try root.integer(
      "image_token_id", in: 0...(vocabularySize - 1), default: min(128_001, vocabularySize - 1))
    layerNormEpsilon = try object.positive("layer_norm_eps", default: 1e-5)
  }
}

extension Step3Configuration.RopeScaling {
  init?(_ object: JSONObject) throws(CheckpointError) {
    let key = object.value("rope_type") == nil ? "type" : "rope_type"
    // A base alone means no scaling.
    if object.value(key) == nil, object.value("factor") == nil { return nil }
    guard let name = try object.string(key) else { throw object.mismatch(key, "linear, yarn or llama3", nil) }
    if name == "default" { return nil }
    guard let kind = Kind(rawValue: name) else {
      throw object.mismatch(key, "linear, yarn or llama3", .string(name))
    }
    self.kind = kind
    factor = try object.positive("factor")
    originalContextLength =
      object.value("original_max_position_embeddings") == nil
      ? nil : try object.integer("original_max_position_embeddings", in: 1...1_073_741_824)
    parameters = [:]
    for name in Self.parameterNames where object.value(name) != nil {
      parameters[name] = try object.positive(name)
    }
  }

  static let parameterNames = [
    "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor", "mscale",
    "mscale_all_dim",
  ]
}

extension Step3Configuration.Quantization {
  init?(_ object: JSONObject) throws(CheckpointError) {
    guard let method = try object.string("quant_method") else {
      throw object.mismatch("quant_method", "a string", nil)
    }
    self.method = method
    format = method == "fp8" ? try object.string("fmt") : nil
    activationScheme = method == "fp8" ? try object.string("activation_scheme") : nil
    let block = try object.integers("weight_block_size", in: dimensions)
    guard block.isEmpty || block.count == 2 else {
      throw object.mismatch("weight_block_size", "two numbers", object.value("weight_block_size"))
    }
    blockSize = block.isEmpty ? nil : block
  }
}
