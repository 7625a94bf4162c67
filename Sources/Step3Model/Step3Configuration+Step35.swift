internal import GGUF
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

extension Step3Configuration {
  /// The metadata of a GGUF file of llama.cpp's architecture `step35`: the keys that its converter writes, in its order
  /// and with its types. Arrays have an entry for each block.
  ///
  /// No `rope.dimension_count`: readers halve the head length themselves. Source: llama.cpp, `conversion/step3.py` and
  /// `src/models/step35.cpp`.
  ///
  /// - Parameter withPrediction: Whether the blocks that predict further tokens are counted.
  func step35Metadata(name: String, fileType: UInt32?, withPrediction: Bool) -> GGUFMetadata {
    var result = GGUFMetadata()
    result.set("general.architecture", .string("step35"))
    result.set("general.type", .string("model"))
    result.set("general.name", .string(name))
    let prediction = withPrediction ? text.predictionLayerCount : 0
    let blocks = 0..<text.layerCount + prediction
    func set(_ key: String, _ value: GGUFValue) { result.set("step35.\(key)", value) }
    func set(_ key: String, _ value: Int) { set(key, .uint32(UInt32(value))) }
    func set(_ key: String, _ value: Double) { set(key, .float32(Float(value))) }
    set("block_count", blocks.count)
    set("context_length", text.contextLength)
    set("embedding_length", text.hiddenSize)
    set("feed_forward_length", text.intermediateSize)
    set("attention.head_count", .array(.int32(blocks.map { Int32(text.headCount(layer: $0)) })))
    set("rope.freq_base", text.ropeTheta)
    if let sliding = text.sliding { set("rope.freq_base_swa", sliding.ropeTheta) }
    set("attention.layer_norm_rms_epsilon", text.rmsNormEpsilon)
    set("expert_gating_func", text.routerActivation == .sigmoid ? 2 : 1)
    set("attention.key_length", text.headDimension)
    set("attention.value_length", text.headDimension)
    result.set("general.file_type", .uint32(fileType ?? 0))
    set("attention.head_count_kv", .array(.int32(blocks.map { Int32(text.keyValueHeadCount(layer: $0)) })))
    set("attention.sliding_window", text.sliding?.window ?? 0)
    set("attention.sliding_window_pattern", .array(.bool(blocks.map(text.isSliding(layer:)))))
    set("expert_count", text.expertCount)
    set("expert_used_count", text.expertsPerToken)
    set("expert_feed_forward_length", text.expertIntermediateSize)
    set("expert_shared_feed_forward_length", text.sharedExpertIntermediateSize)
    set("expert_weights_scale", text.routerScale)
    set("expert_weights_norm", .bool(text.normalizesExpertWeights))
    set("leading_dense_block_count", text.moeLayers.first ?? text.layerCount)
    set("moe_every_n_layers", 1)
    for (key, limits) in [
      ("swiglu_clamp_exp", text.expertLimits), ("swiglu_clamp_shexp", text.sharedExpertLimits),
    ] where !limits.isEmpty {
      set(key, .array(.float32(blocks.map { $0 < limits.count ? Float(limits[$0]) : 0 })))
    }
    if prediction > 0 { set("nextn_predict_layers", prediction) }
    result.set("general.quantization_version", .uint32(2))
    return result
  }

  /// Why a language model cannot be described by those keys; `nil` if it can.
  var step35Obstacle: String? {
    guard let first = text.moeLayers.first else { return "it has no layers with experts" }
    guard text.moeLayers == Array(first..<text.layerCount) else {
      return "GGUF only says how many dense layers come first, but other layers are dense as well"
    }
    guard let sliding = text.sliding else { return "it has no sliding layers" }
    guard sliding.rotaryDimension == nil, text.rotaryDimension == text.headDimension / 2 else {
      return
        "readers rotate half of a head in full layers and all of it in sliding ones, but this model does not"
    }
    guard text.hasHeadGates, text.hasRouterBias else {
      return "it has no head gates or no router bias"
    }
    if let scaling = text.ropeScaling, scaling.kind != .llama3 {
      return
        "readers scale the rotary embedding only by llama3 factors, but this is \(scaling.kind.rawValue)"
    }
    return nil
  }

  /// Reads the metadata of such a file.
  ///
  /// - Parameters:
  ///   - vocabularySize: The rows of the embedding; `nil` for the number of the tokenizer's tokens.
  ///   - scaling: The scaling of the rotary embedding, which no key states.
  init(
    step35 metadata: GGUFMetadata, vocabularySize: Int?, scaling: RopeScaling?
  ) throws(CheckpointError) {
    let keys = GGUFKeys(metadata)
    func integer(_ key: String, _ range: ClosedRange<Int> = 1...1_048_576) throws(CheckpointError) -> Int {
      try keys.integer("step35.\(key)", in: range)
    }
    func wrong(_ key: String, _ expected: String) -> CheckpointError {
      CheckpointError(.malformed, "step35.\(key): expected \(expected), found something else")
    }
    var text = Text()
    text.sharedQueryDimension = 0
    let blocks = try integer("block_count", 1...10_000)
    let prediction = try keys.optionalInteger("step35.nextn_predict_layers", in: 0...(blocks - 1)) ?? 0
    (text.layerCount, text.predictionLayerCount) = (blocks - prediction, prediction)
    text.contextLength = try integer("context_length", 1...1_073_741_824)
    text.hiddenSize = try integer("embedding_length")
    text.intermediateSize = try integer("feed_forward_length")
    text.headDimension = try integer("attention.key_length", 4...65_536)
    guard text.headDimension % 4 == 0 else {
      throw wrong("attention.key_length", "a multiple of 4 (full layers rotate pairs in its first half)")
    }
    try keys.expect("step35.attention.value_length", text.headDimension)
    guard metadata["step35.rope.dimension_count"] == nil else {
      throw CheckpointError(
        .unsupported, "step35.rope.dimension_count: expected nothing, because readers halve it themselves")
    }
    guard let pattern = metadata.bools("step35.attention.sliding_window_pattern"), pattern.count >= blocks
    else {
      throw wrong("attention.sliding_window_pattern", "true or false for each of \(blocks) blocks")
    }
    func counts(_ key: String) throws(CheckpointError) -> (full: Int, sliding: Int?) {
      guard let all = metadata.integers("step35.\(key)"), all.count >= blocks,
        all.allSatisfy({ (1...65_536).contains($0) })
      else { throw wrong(key, "a number of heads for each of \(blocks) blocks") }
      var found: [Bool: Int] = [:]
      for block in 0..<blocks {
        guard found[pattern[block], default: all[block]] == all[block] else {
          throw CheckpointError(.unsupported, "step35.\(key): blocks of one kind differ in it")
        }
        found[pattern[block]] = all[block]
      }
      guard let full = found[false] ?? found[true] else { throw wrong(key, "at least one block") }
      return (full, found[true])
    }
    let (heads, groups) = (try counts("attention.head_count"), try counts("attention.head_count_kv"))
    (text.headCount, text.keyValueHeadCount) = (heads.full, groups.full)
    text.hasHeadGates = true
    text.rotaryDimension = text.headDimension / 2
    text.ropeTheta = try keys.positive("step35.rope.freq_base")
    text.ropeScaling = scaling
    if let headCount = heads.sliding, let groupCount = groups.sliding {
      text.sliding = .init(
        layers: (0..<blocks).filter { pattern[$0] },
        window: try integer("attention.sliding_window", 1...1_073_741_824), headCount: headCount,
        keyValueHeadCount: groupCount, ropeTheta: try keys.positive("step35.rope.freq_base_swa"))
    }
    text.rmsNormEpsilon = try keys.positive("step35.attention.layer_norm_rms_epsilon")
    text.expertCount = try integer("expert_count", 1...65_536)
    text.expertsPerToken = try integer("expert_used_count", 1...text.expertCount)
    text.expertIntermediateSize = try integer("expert_feed_forward_length")
    text.sharedExpertIntermediateSize = try integer("expert_shared_feed_forward_length")
    try keys.expect("step35.expert_gating_func", 2)
    try keys.expect("step35.moe_every_n_layers", 1)
    text.routerActivation = .sigmoid
    text.hasRouterBias = true
    text.routerScale = try keys.optionalPositive("step35.expert_weights_scale") ?? 1
    text.normalizesExpertWeights = try keys.flag("step35.expert_weights_norm")
    let dense = try integer("leading_dense_block_count", 0...text.layerCount)
    text.moeLayers = Array(dense..<text.layerCount)
    for (key, path) in [
      ("swiglu_clamp_exp", \Text.expertLimits), ("swiglu_clamp_shexp", \Text.sharedExpertLimits),
    ] where metadata["step35.\(key)"] != nil {
      guard let limits = metadata.floats("step35.\(key)"), limits.count >= blocks,
        limits.allSatisfy({ $0 >= 0 && $0.isFinite })
      else { throw wrong(key, "a limit for each of \(blocks) blocks") }
      text[keyPath: path] = Array(limits.prefix(blocks))
    }
    try self.init(
      family: .step3p5, text: text, vocabularySize: vocabularySize, vision: nil, metadata)
  }

  /// Combines what was read from a text model's file.
  init(
    family: ModelFamily, text: Text, vocabularySize: Int?, vision: Vision?, _ metadata: GGUFMetadata
  ) throws(CheckpointError) {
    var text = text
    guard let size = vocabularySize ?? metadata.strings("tokenizer.ggml.tokens")?.count,
      (1...16_777_216).contains(size)
    else {
      throw CheckpointError(
        .malformed, "tokenizer.ggml.tokens: expected the tokens, because nothing else gives their number"
      )
    }
    text.vocabularySize = size
    let (keys, ids) = (GGUFKeys(metadata), 0...(size - 1))
    self.init(
      family: family, text: text, vision: vision,
      bosTokenID: try keys.tokenID("tokenizer.ggml.bos_token_id", in: ids),
      eosTokenIDs: try keys.endTokenIDs(in: ids),
      padTokenID: try keys.tokenID("tokenizer.ggml.padding_token_id", in: ids))
  }
}

// MARK: - Factors of the rotary embedding

extension Step3Configuration.Text {
  /// The divisors of the frequencies of full layers, padded with 1 to half of a head, as in the tensor of llama.cpp's
  /// `step35`; `nil` without scaling.
  ///
  /// Frequencies are rounded to F32 in between, as the converter does. Source: llama.cpp, `conversion/step3.py`; the
  /// rule is Llama 3's.
  package var rotaryFactors: [Float]? {
    guard let scaling = ropeScaling, scaling.kind == .llama3 else { return nil }
    let turned = rotaryDimension ?? headDimension
    let length = Double(scaling.originalContextLength ?? 8192)
    let low = scaling.parameters["low_freq_factor"] ?? 1
    let high = scaling.parameters["high_freq_factor"] ?? 4
    var factors = stride(from: 0, to: turned, by: 2).map { index -> Float in
      let exponent = Float(index) / Float(turned)
      let frequency = 1 / Float(pow(ropeTheta, Double(exponent)))
      let wavelength = 2 * Double.pi / Double(frequency)
      if wavelength < length / high { return 1 }
      if wavelength > length / low { return Float(scaling.factor) }
      let smooth = (length / wavelength - low) / (high - low)
      return Float(1 / ((1 - smooth) / scaling.factor + smooth))
    }
    factors += Array(repeating: 1, count: max(0, headDimension / 2 - factors.count))
    return factors
  }
}
