internal import Step3Model

extension Bisection {
  /// Differences in settings that change what is computed.
  static func differences(
    _ reference: Step3Configuration.Text, _ candidate: Step3Configuration.Text
  ) -> [String] {
    var differences: [String] = []
    func compare<Value: Equatable>(_ name: String, _ path: KeyPath<Step3Configuration.Text, Value>) {
      let (a, b) = (reference[keyPath: path], candidate[keyPath: path])
      if a != b { differences.append("\(name): \(a) in the reference, \(b) in the candidate") }
    }
    /// GGUF keeps such numbers in 32 bits.
    func compareNumber(_ name: String, _ path: KeyPath<Step3Configuration.Text, Double>) {
      let (a, b) = (reference[keyPath: path], candidate[keyPath: path])
      if Float(a) != Float(b) { differences.append("\(name): \(a) in the reference, \(b) in the candidate") }
    }
    compare("hidden_size", \.hiddenSize)
    compare("num_hidden_layers", \.layerCount)
    compare("num_attention_heads", \.headCount)
    compare("num_attention_groups", \.keyValueHeadCount)
    compare("head_dim", \.headDimension)
    compare("share_q_dim", \.sharedQueryDimension)
    compare("vocab_size", \.vocabularySize)
    compare("moe_layers_enum", \.moeLayers)
    compare("moe_num_experts", \.expertCount)
    compare("moe_top_k", \.expertsPerToken)
    compare("norm_expert_weight", \.normalizesExpertWeights)
    compareNumber("rms_norm_eps", \.rmsNormEpsilon)
    compareNumber("rope_theta", \.ropeTheta)
    if reference.ropeScaling?.rounded != candidate.ropeScaling?.rounded {
      differences.append("rope_scaling differs")
    }
    return differences
  }
}

extension Step3Configuration.Text {
  /// Whether hidden states of both can be compared layer by layer.
  func hasSameShape(as other: Self) -> Bool {
    hiddenSize == other.hiddenSize && layerCount == other.layerCount && moeLayers == other.moeLayers
      && expertCount == other.expertCount && vocabularySize == other.vocabularySize
  }
}

extension Step3Configuration.RopeScaling {
  /// The same with its numbers in 32 bits, as GGUF keeps them.
  fileprivate var rounded: Self {
    Self(
      kind: kind, factor: Double(Float(factor)), originalContextLength: originalContextLength,
      parameters: parameters.mapValues { Double(Float($0)) })
  }
}
