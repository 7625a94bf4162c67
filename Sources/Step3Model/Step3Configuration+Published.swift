extension Step3Configuration {
  /// The configuration of the released model in BF16.
  ///
  /// Sources: the published configurations. Of Step-5-Preview those of its BF16 copies; of Step3-VL-10B's language model
  /// those of Qwen3-8B, which it is built on.
  public static func published(_ family: ModelFamily) -> Step3Configuration {
    switch family {
    case .step3: .published
    case .step3p5:
      Step3Configuration(family: family, text: .flash, vision: nil, eosTokenIDs: [1, 2, 128_007])
    case .step3p7:
      Step3Configuration(family: family, text: .flash, vision: .perception, eosTokenIDs: [1, 2, 128_007])
    case .step5:
      Step3Configuration(family: family, text: .preview, vision: .perception, eosTokenIDs: [1, 2, 128_007])
    case .step3VL10B:
      Step3Configuration(
        family: family, text: .qwen, vision: .perception, bosTokenID: nil, eosTokenIDs: [151_643, 151_645])
    }
  }
}

extension Step3Configuration.Text {
  /// Step-3.5-Flash's and Step-3.7-Flash's: every fourth layer sees everything, starting with the first.
  fileprivate static var flash: Self {
    var text = Self()
    text.hiddenSize = 4096
    text.intermediateSize = 11_264
    text.layerCount = 45
    text.predictionLayerCount = 3
    text.headCount = 64
    text.keyValueHeadCount = 8
    text.headDimension = 128
    text.rotaryDimension = 64
    text.sharedQueryDimension = 0
    text.vocabularySize = 128_896
    text.moeLayers = Array(3..<45)
    text.expertCount = 288
    text.expertsPerToken = 8
    text.expertIntermediateSize = 1280
    text.sharedExpertIntermediateSize = 1280
    text.setRouting(scale: 3)
    text.ropeTheta = 5_000_000
    text.ropeScaling = .init(
      kind: .llama3, factor: 2, originalContextLength: 131_072,
      parameters: ["low_freq_factor": 1, "high_freq_factor": 32])
    text.contextLength = 262_144
    text.sliding = .init(
      layers: (0..<48).filter { $0 % 4 != 0 }, window: 512, headCount: 96, keyValueHeadCount: 8,
      ropeTheta: 10_000)
    text.expertLimits = (0..<48).map { (43...44).contains($0) ? 7 : 0 }
    text.sharedExpertLimits = (0..<48).map { (43...44).contains($0) ? 16 : 0 }
    return text
  }

  /// Step-5-Preview's: every fourth layer sees everything, starting with the fourth.
  fileprivate static var preview: Self {
    var text = Self()
    text.hiddenSize = 4096
    text.intermediateSize = 13_824
    text.layerCount = 92
    text.predictionLayerCount = 3
    text.headCount = 64
    text.keyValueHeadCount = 4
    text.headDimension = 192
    text.rotaryDimension = 64
    text.sharedQueryDimension = 0
    text.vocabularySize = 128_896
    text.moeLayers = Array(3...90)
    text.expertCount = 352
    text.expertsPerToken = 8
    text.expertIntermediateSize = 1536
    text.sharedExpertIntermediateSize = 1536
    text.setRouting(scale: 3)
    text.ropeTheta = 10_000_000
    text.ropeScaling = .init(
      kind: .llama3, factor: 1, originalContextLength: 1_048_576,
      parameters: ["low_freq_factor": 1, "high_freq_factor": 32])
    text.contextLength = 1_048_576
    text.sliding = .init(
      layers: (0..<95).filter { $0 % 4 != 3 || $0 > 91 }, window: 512, headCount: 64, keyValueHeadCount: 4,
      ropeTheta: 10_000)
    text.expertLimits = (0..<95).map { $0 < 92 ? 7 : 0 }
    text.sharedExpertLimits = text.expertLimits
    text.indexer = .init(headCount: 16, dimension: 256, regionSize: 8, regionCount: 512)
    return text
  }

  /// Qwen3-8B's.
  fileprivate static var qwen: Self {
    var text = Self()
    text.hiddenSize = 4096
    text.intermediateSize = 12_288
    text.layerCount = 36
    text.headCount = 32
    text.keyValueHeadCount = 8
    text.headDimension = 128
    text.sharedQueryDimension = 0
    text.vocabularySize = 151_936
    text.setDense()
    text.rmsNormEpsilon = 1e-6
    text.ropeTheta = 1_000_000
    text.contextLength = 40_960
    return text
  }

  /// The routing of all later members.
  private mutating func setRouting(scale: Double) {
    hasHeadGates = true
    routerActivation = .sigmoid
    hasRouterBias = true
    routerScale = scale
    normalizesExpertWeights = true
  }

  /// Leaves no layer with experts.
  mutating func setDense() {
    moeLayers = []
    (expertCount, expertsPerToken, expertIntermediateSize, sharedExpertIntermediateSize) = (1, 1, 1, 1)
  }
}

extension Step3Configuration.Vision {
  /// That of Step3-VL-10B and its successors.
  fileprivate static var perception: Self {
    var vision = Self()
    vision.hiddenSize = 1536
    vision.intermediateSize = 8960
    vision.layerCount = 47
    vision.outputSize = 3072
    vision.hasClassToken = false
    return vision
  }
}
