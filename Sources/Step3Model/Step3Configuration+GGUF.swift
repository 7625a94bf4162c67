public import GGUF
public import TensorFormats

extension Step3Configuration {
  /// The metadata of the language model's GGUF file: `general.*` and those of its architecture.
  ///
  /// - Parameters:
  ///   - name: `general.name`.
  ///   - fileType: `general.file_type`, which says what most tensors are stored as.
  ///   - alignment: `general.alignment`, a power of two.
  ///   - withPrediction: Whether the file has the layers that predict further tokens.
  /// - Precondition: There is no ``ggufObstacle``.
  public func ggufMetadata(
    name: String, fileType: UInt32?, alignment: UInt32 = 32, withPrediction: Bool = true
  ) -> GGUFMetadata {
    switch family {
    case .step3, .step5: step3Metadata(name: name, fileType: fileType, alignment: alignment)
    case .step3p5, .step3p7: step35Metadata(name: name, fileType: fileType, withPrediction: withPrediction)
    case .step3VL10B: qwen3Metadata(name: name, fileType: fileType)
    }
  }

  /// Why the model cannot be written as GGUF; `nil` if it can.
  public var ggufObstacle: String? {
    if family != .step3, vision?.projectorBias == true {
      return "GGUF readers do not support a projector bias"
    }
    switch family {
    case .step3: return nil
    case .step5: return "no GGUF reader computes its sparse attention"
    case .step3p5, .step3p7: return step35Obstacle
    case .step3VL10B:
      return text.ropeScaling == nil ? nil : "its scaled rotary embedding cannot be written"
    }
  }

  private func step3Metadata(name: String, fileType: UInt32?, alignment: UInt32) -> GGUFMetadata {
    var result = GGUFMetadata()
    result.set("general.architecture", .string("step3"))
    result.set("general.type", .string("model"))
    result.set("general.name", .string(name))
    if let fileType { result.set("general.file_type", .uint32(fileType)) }
    result.set("general.quantization_version", .uint32(2))
    result.set("general.alignment", .uint32(alignment))
    func set(_ key: String, _ value: Int) { result.set("step3.\(key)", .uint32(UInt32(value))) }
    set("block_count", text.layerCount)
    set("context_length", text.contextLength)
    set("embedding_length", text.hiddenSize)
    set("feed_forward_length", text.intermediateSize)
    set("attention.head_count", text.headCount)
    set("attention.head_count_kv", text.keyValueHeadCount)
    set("attention.key_length", text.headDimension)
    set("attention.value_length", text.headDimension)
    set("attention.q_lora_rank", text.sharedQueryDimension)
    result.set("step3.attention.layer_norm_rms_epsilon", .float32(Float(text.rmsNormEpsilon)))
    result.set("step3.rope.freq_base", .float32(Float(text.ropeTheta)))
    set("rope.dimension_count", text.headDimension)
    if let scaling = text.ropeScaling {
      result.set("step3.rope.scaling.type", .string(scaling.kind.rawValue))
      result.set("step3.rope.scaling.factor", .float32(Float(scaling.factor)))
      if let length = scaling.originalContextLength { set("rope.scaling.original_context_length", length) }
      for (key, value) in scaling.parameters.sorted(by: { $0.key < $1.key }) {
        result.set("step3.rope.scaling.\(key)", .float32(Float(value)))
      }
    }
    set("expert_count", text.expertCount)
    set("expert_used_count", text.expertsPerToken)
    set("expert_feed_forward_length", text.expertIntermediateSize)
    set("expert_shared_count", 1)
    set("expert_shared_feed_forward_length", text.sharedExpertIntermediateSize)
    result.set("step3.expert_weights_norm", .bool(text.normalizesExpertWeights))
    set("expert_gating_func", 1)
    set("leading_dense_block_count", text.moeLayers.first ?? text.layerCount)
    set("vocab_size", text.vocabularySize)
    // Authoritative: dense layers may follow those with experts.
    result.set("step3.moe_layers", .array(.uint32(text.moeLayers.map { UInt32($0) })))
    return result
  }

  /// Reads the language model's configuration back from a GGUF file; the vision side is in a separate file.
  ///
  /// - Throws: `.unsupported` for another architecture, `.malformed` naming the key.
  public init(ggufMetadata metadata: GGUFMetadata) throws(CheckpointError) {
    try self.init(ggufMetadata: metadata, projector: nil, vocabularySize: nil, scaling: nil)
  }

  /// The same, with what only the tensors and the companion file say.
  ///
  /// - Parameters:
  ///   - projector: As ``ModelFamily/init(ggufArchitecture:projector:)``.
  ///   - vocabularySize: The rows of the embedding.
  ///   - scaling: The scaling of the rotary embedding, if a tensor has its factors.
  init(
    ggufMetadata metadata: GGUFMetadata, projector: String?, vocabularySize: Int?, scaling: RopeScaling?
  ) throws(CheckpointError) {
    let architecture = metadata.string("general.architecture")
    guard let family = ModelFamily(ggufArchitecture: architecture, projector: projector) else {
      throw CheckpointError(.unsupported, "general.architecture: expected 'step3' or 'step35', found another")
    }
    switch family {
    case .step3, .step5: try self.init(step3: metadata)
    case .step3p5, .step3p7:
      try self.init(step35: metadata, vocabularySize: vocabularySize, scaling: scaling)
      self.family = family
    case .step3VL10B: try self.init(qwen3: metadata, vocabularySize: vocabularySize)
    }
  }

  private init(step3 metadata: GGUFMetadata) throws(CheckpointError) {
    let keys = GGUFKeys(metadata)
    func integer(_ key: String) throws(CheckpointError) -> Int { try keys.integer("step3.\(key)") }
    var text = Text()
    text.layerCount = try keys.integer("step3.block_count", in: 1...10_000)
    text.contextLength = try integer("context_length")
    text.hiddenSize = try keys.integer("step3.embedding_length", in: 1...1_048_576)
    text.intermediateSize = try keys.integer("step3.feed_forward_length", in: 1...1_048_576)
    text.headCount = try keys.integer("step3.attention.head_count", in: 1...65_536)
    text.keyValueHeadCount = try keys.integer("step3.attention.head_count_kv", in: 1...text.headCount)
    text.headDimension = try keys.integer("step3.attention.key_length", in: 2...65_536)
    guard text.headDimension % 2 == 0 else {
      throw CheckpointError(
        .malformed,
        "step3.attention.key_length: expected an even number (the rotary embedding rotates pairs), found \(text.headDimension)"
      )
    }
    try keys.expect("step3.attention.value_length", text.headDimension)
    try keys.expect("step3.rope.dimension_count", text.headDimension)
    text.sharedQueryDimension = try keys.integer("step3.attention.q_lora_rank", in: 1...1_048_576)
    text.rmsNormEpsilon = try keys.positive("step3.attention.layer_norm_rms_epsilon")
    text.ropeTheta = try keys.positive("step3.rope.freq_base")
    text.expertCount = try keys.integer("step3.expert_count", in: 1...65_536)
    text.expertsPerToken = try keys.integer("step3.expert_used_count", in: 1...text.expertCount)
    text.expertIntermediateSize = try keys.integer("step3.expert_feed_forward_length", in: 1...1_048_576)
    text.sharedExpertIntermediateSize = try keys.integer(
      "step3.expert_shared_feed_forward_length", in: 1...1_048_576)
    text.normalizesExpertWeights = try keys.flag("step3.expert_weights_norm")
    // 1 is softmax, the only one the model was trained with.
    try keys.expect("step3.expert_gating_func", 1)
    try keys.expect("step3.expert_shared_count", 1)
    text.vocabularySize = try keys.integer("step3.vocab_size", in: 1...16_777_216)
    text.moeLayers = try Self.moeLayers(metadata, layerCount: text.layerCount)
    if case .string(let name)? = metadata["step3.rope.scaling.type"], name != "none" {
      guard let kind = RopeScaling.Kind(rawValue: name) else {
        throw CheckpointError(
          .malformed, "step3.rope.scaling.type: expected linear, yarn or llama3, found '\(name.printable)'")
      }
      var parameters: [String: Double] = [:]
      for key in RopeScaling.parameterNames {
        if let value = try keys.optionalPositive("step3.rope.scaling.\(key)") { parameters[key] = value }
      }
      text.ropeScaling = RopeScaling(
        kind: kind, factor: try keys.positive("step3.rope.scaling.factor"),
        originalContextLength: try keys.optionalInteger(
          "step3.rope.scaling.original_context_length", in: 1...1_073_741_824), parameters: parameters)
    }
    let ids = 0...(text.vocabularySize - 1)
    self.init(
      family: .step3, text: text, vision: nil,
      bosTokenID: try keys.tokenID("tokenizer.ggml.bos_token_id", in: ids),
      eosTokenIDs: try keys.endTokenIDs(in: ids),
      padTokenID: try keys.tokenID("tokenizer.ggml.padding_token_id", in: ids))
  }

  private static func moeLayers(_ metadata: GGUFMetadata, layerCount: Int) throws(CheckpointError) -> [Int] {
    let key = "step3.moe_layers"
    guard let layers = metadata.integers(key) else {
      throw CheckpointError(.malformed, "\(key): expected a list of layer numbers, found none")
    }
    for layer in layers where !(0..<layerCount).contains(layer) {
      throw CheckpointError(.malformed, "\(key): expected layers from 0 to \(layerCount - 1), found \(layer)")
    }
    guard Set(layers).count == layers.count else {
      throw CheckpointError(.malformed, "\(key): expected every layer once, found one twice")
    }
    return layers.sorted()
  }

  /// The metadata of the vision side's GGUF file, `nil` without one.
  ///
  /// The keys are those of llama.cpp's `clip`; it has none for the strides and the picture's token, which are under
  /// `clip.vision.projector.*`. Mean and deviation are those of OpenAI's CLIP.
  public func visionGGUFMetadata(name: String, fileType: UInt32?, alignment: UInt32 = 32) -> GGUFMetadata? {
    guard let vision else { return nil }
    guard family == .step3 else { return perceptionMetadata(name: name, fileType: fileType) }
    var result = GGUFMetadata()
    result.set("general.architecture", .string("clip"))
    result.set("general.type", .string("mmproj"))
    result.set("general.name", .string(name))
    if let fileType { result.set("general.file_type", .uint32(fileType)) }
    result.set("general.quantization_version", .uint32(2))
    result.set("general.alignment", .uint32(alignment))
    result.set("clip.has_vision_encoder", .bool(true))
    result.set("clip.projector_type", .string("step3"))
    result.set("clip.use_gelu", .bool(false))
    result.set("clip.use_silu", .bool(false))
    func set(_ key: String, _ value: Int) { result.set("clip.vision.\(key)", .uint32(UInt32(value))) }
    set("image_size", vision.imageSize)
    set("patch_size", vision.patchSize)
    set("embedding_length", vision.hiddenSize)
    set("feed_forward_length", vision.intermediateSize)
    set("block_count", vision.layerCount)
    set("attention.head_count", vision.headCount)
    result.set(
      "clip.vision.attention.layer_norm_epsilon", .float32(Float(Vision.computedLayerNormEpsilon)))
    set("projection_dim", text.hiddenSize)
    result.set("clip.vision.image_mean", .array(.float32([0.48145466, 0.4578275, 0.40821073])))
    result.set("clip.vision.image_std", .array(.float32([0.26862954, 0.26130258, 0.27577711])))
    set("num_channels", vision.channelCount)
    set("projector.output_length", vision.outputSize)
    set("projector.stride", vision.projectorStride)
    set("projector.image_token_id", vision.imageTokenID)
    result.set("clip.vision.projector.bias", .bool(vision.projectorBias))
    return result
  }
}

extension Step3Configuration.Vision {
  /// Reads the vision side back from the metadata of its GGUF file.
  public init(ggufMetadata metadata: GGUFMetadata) throws(CheckpointError) {
    if metadata["clip.projector_type"] == .string(ModelFamily.perceptionProjector) {
      try self.init(perception: metadata)
    } else {
      try self.init(step3: metadata)
    }
  }

  private init(step3 metadata: GGUFMetadata) throws(CheckpointError) {
    guard metadata["clip.projector_type"] == .string("step3") else {
      throw CheckpointError(.unsupported, "clip.projector_type: expected 'step3', found another")
    }
    let keys = GGUFKeys(metadata)
    imageSize = try keys.integer("clip.vision.image_size", in: 1...65_536)
    patchSize = try keys.integer("clip.vision.patch_size", in: 1...imageSize)
    guard imageSize % patchSize == 0 else {
      throw CheckpointError(
        .malformed,
        "clip.vision.image_size: expected a multiple of patch_size (\(patchSize)), found \(imageSize)")
    }
    hiddenSize = try keys.integer("clip.vision.embedding_length", in: 1...1_048_576)
    intermediateSize = try keys.integer("clip.vision.feed_forward_length", in: 1...1_048_576)
    layerCount = try keys.integer("clip.vision.block_count", in: 1...10_000)
    headCount = try keys.integer("clip.vision.attention.head_count", in: 1...hiddenSize)
    guard hiddenSize % headCount == 0 else {
      throw CheckpointError(
        .malformed,
        "clip.vision.attention.head_count: expected a divisor of embedding_length (\(hiddenSize)), found \(headCount)"
      )
    }
    channelCount = try keys.optionalInteger("clip.vision.num_channels", in: 1...1024) ?? 3
    outputSize = try keys.integer("clip.vision.projector.output_length", in: 1...1_048_576)
    projectorStride = try keys.integer("clip.vision.projector.stride", in: 1...1024)
    imageTokenID = try keys.integer("clip.vision.projector.image_token_id", in: 0...16_777_215)
    projectorBias = try keys.flag("clip.vision.projector.bias")
  }
}
