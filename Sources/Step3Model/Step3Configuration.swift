/// The dimensions of a checkpoint, as stated by its configuration. The modules they apply to are in the
/// ``ModelDescription`` of its ``family``.
public struct Step3Configuration: Hashable, Sendable {
  /// Which member of the family it is.
  public var family: ModelFamily
  /// The language model.
  public var text: Text
  /// The vision side; `nil` for a checkpoint with only the language model.
  public var vision: Vision?
  /// How the linear layers are stored; `nil` for plain BF16.
  public var quantization: Quantization?
  /// The token that starts a text.
  public var bosTokenID: Int?
  /// The tokens that end one.
  public var eosTokenIDs: [Int]
  /// The token that fills a batch.
  public var padTokenID: Int?
  /// Settings in `config.json` that change the arithmetic but are not supported, each with its key and value.
  public var unread: [String] = []

  /// The language model's dimensions.
  public struct Text: Hashable, Sendable {
    /// Length of the residual stream.
    public var hiddenSize = 7168
    /// Intermediate length of a dense FFN.
    public var intermediateSize = 18_432
    /// Number of layers, dense ones included.
    public var layerCount = 61
    /// Query heads.
    public var headCount = 64
    /// Key and value heads; Step-3 shares one among all query heads.
    public var keyValueHeadCount = 1
    /// Elements per head.
    public var headDimension = 256
    /// Length of the low-rank query all heads start from.
    public var sharedQueryDimension = 2048
    /// Rows of the embedding.
    public var vocabularySize = 128_815
    /// The layers with routed experts, ascending.
    public var moeLayers = Array(4...59)
    /// Routed experts per layer.
    public var expertCount = 48
    /// Routed experts per token.
    public var expertsPerToken = 3
    /// Intermediate length of one routed expert.
    public var expertIntermediateSize = 5120
    /// Intermediate length of the shared expert.
    public var sharedExpertIntermediateSize = 5120
    /// Whether the chosen experts' probabilities are scaled to sum to 1.
    public var normalizesExpertWeights = false
    /// Added to the mean square in RMSNorm.
    public var rmsNormEpsilon = 1e-5
    /// Base of the rotary embedding.
    public var ropeTheta = 500_000.0
    /// The scaling of the rotary embedding; `nil` for none.
    public var ropeScaling: RopeScaling?
    /// Longest context, in tokens.
    public var contextLength = 65_536
    /// Layers after the others that predict further tokens.
    public var predictionLayerCount = 0
    /// What differs in layers that see only a window; `nil` if all layers see everything.
    public var sliding: Sliding?
    /// The elements of a head that the rotary embedding rotates, in layers that see everything; `nil` for all.
    public var rotaryDimension: Int?
    /// Whether each head's result is multiplied by its own gate.
    public var hasHeadGates = false
    /// The function that turns the router's logits into probabilities.
    public var routerActivation = RouterActivation.softmax
    /// Whether a bias is added to them for the choice of experts.
    public var hasRouterBias = false
    /// The factor for the weights of chosen experts.
    public var routerScale = 1.0
    /// The largest activation in each layer's routed experts, including prediction layers; 0 for no limit, empty for
    /// none anywhere.
    public var expertLimits: [Double] = []
    /// The same for the shared expert and dense layers.
    public var sharedExpertLimits: [Double] = []
    /// The indexer that chooses the regions that full layers see; `nil` if they see everything.
    public var indexer: Indexer?

    /// The released model's values.
    public init() {}

    /// Whether layer `index` has routed experts. O(log n).
    public func isMoE(layer index: Int) -> Bool {
      var low = 0
      var high = moeLayers.count
      while low < high {
        let middle = (low + high) / 2
        if moeLayers[middle] < index { low = middle + 1 } else { high = middle }
      }
      return low < moeLayers.count && moeLayers[low] == index
    }
  }

  /// Layers that see only the last positions.
  public struct Sliding: Hashable, Sendable {
    /// The layers, ascending, including prediction layers.
    public var layers: [Int]
    /// How many positions they see, their own included.
    public var window: Int
    /// Query heads.
    public var headCount: Int
    /// Key and value heads.
    public var keyValueHeadCount: Int
    /// Base of the rotary embedding, which is never scaled there.
    public var ropeTheta: Double
    /// The elements of a head that it rotates; `nil` for all.
    public var rotaryDimension: Int?

    /// Describes them.
    public init(
      layers: [Int], window: Int, headCount: Int, keyValueHeadCount: Int, ropeTheta: Double,
      rotaryDimension: Int? = nil
    ) {
      self.layers = layers
      self.window = window
      self.headCount = headCount
      self.keyValueHeadCount = keyValueHeadCount
      self.ropeTheta = ropeTheta
      self.rotaryDimension = rotaryDimension
    }
  }

  /// The function that turns a router's logits into probabilities.
  public enum RouterActivation: String, Hashable, Sendable {
    case softmax, sigmoid
  }

  /// The indexer that chooses the regions of the context that a layer sees.
  public struct Indexer: Hashable, Sendable {
    /// Heads of its queries.
    public var headCount: Int
    /// Elements of each, and of its keys.
    public var dimension: Int
    /// Tokens of a region.
    public var regionSize: Int
    /// Regions that are chosen.
    public var regionCount: Int

    /// Describes it.
    public init(headCount: Int, dimension: Int, regionSize: Int, regionCount: Int) {
      self.headCount = headCount
      self.dimension = dimension
      self.regionSize = regionSize
      self.regionCount = regionCount
    }
  }

  /// The vision tower's and projector's dimensions.
  public struct Vision: Hashable, Sendable {
    /// Side of the square picture the stored positions are for, in pixels.
    public var imageSize = 728
    /// Side of a patch, in pixels.
    public var patchSize = 14
    /// Colour channels.
    public var channelCount = 3
    /// Length of a patch's vector.
    public var hiddenSize = 1792
    /// Intermediate length of the MLP.
    public var intermediateSize = 15_360
    /// Number of layers.
    public var layerCount = 63
    /// Attention heads.
    public var headCount = 16
    /// Channels after the first down-sampler; the second doubles them.
    public var outputSize = 4096
    /// Stride of the first down-sampler (`understand_projector_stride`).
    public var projectorStride = 2
    /// Whether the projector adds a bias.
    public var projectorBias = false
    /// The token whose embeddings the picture replaces.
    public var imageTokenID = 128_001
    /// Whether a class token comes before the patches.
    public var hasClassToken = true
    /// As in the file; Step-3's published code uses ``computedLayerNormEpsilon`` regardless.
    public var layerNormEpsilon = 1e-5

    /// The epsilon the published forward pass uses whatever the configuration says.
    public static let computedLayerNormEpsilon = 1e-6

    /// The released model's values.
    public init() {}

    /// Rows of the position embedding: the patches, and one for the class token if there is one.
    public var positionCount: Int {
      (imageSize / patchSize) * (imageSize / patchSize) + (hasClassToken ? 1 : 0)
    }
  }

  /// Scaling of the rotary embedding for contexts longer than those trained on.
  public struct RopeScaling: Hashable, Sendable {
    /// The published methods.
    public enum Kind: String, Hashable, Sendable {
      case linear, yarn, llama3
    }
    /// The method.
    public var kind: Kind
    /// How many times longer the context becomes.
    public var factor: Double
    /// Context length before scaling, in tokens.
    public var originalContextLength: Int?
    /// Further numbers under their names in `config.json` (`beta_fast`, `low_freq_factor`, ...).
    public var parameters: [String: Double]

    /// Makes a description.
    public init(
      kind: Kind, factor: Double, originalContextLength: Int? = nil, parameters: [String: Double] = [:]
    ) {
      self.kind = kind
      self.factor = factor
      self.originalContextLength = originalContextLength
      self.parameters = parameters
    }
  }

  /// What `quantization_config` says.
  public struct Quantization: Hashable, Sendable {
    /// `fp8`, `compressed-tensors`, ...
    public var method: String
    /// `e4m3` for block-FP8.
    public var format: String?
    /// `dynamic` or `static`.
    public var activationScheme: String?
    /// Rows and columns that share a scale.
    public var blockSize: [Int]?

    /// Makes a description.
    public init(
      method: String, format: String? = nil, activationScheme: String? = nil, blockSize: [Int]? = nil
    ) {
      self.method = method
      self.format = format
      self.activationScheme = activationScheme
      self.blockSize = blockSize
    }

    /// That of the released FP8 version: one scale per 128 x 128 tile.
    public static let blockFP8 = Quantization(
      method: "fp8", format: "e4m3", activationScheme: "dynamic", blockSize: [128, 128])
  }

  /// Makes a configuration.
  public init(
    family: ModelFamily = .step3, text: Text = Text(), vision: Vision? = Vision(),
    quantization: Quantization? = nil, bosTokenID: Int? = 0,
    eosTokenIDs: [Int] = [1], padTokenID: Int? = nil
  ) {
    self.family = family
    self.text = text
    self.vision = vision
    self.quantization = quantization
    self.bosTokenID = bosTokenID
    self.eosTokenIDs = eosTokenIDs
    self.padTokenID = padTokenID
  }

  /// The released model (arXiv 2507.19427), in BF16 and without a projector bias.
  public static let published = Step3Configuration()
}
