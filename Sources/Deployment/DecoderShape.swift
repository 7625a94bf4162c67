/// The properties of a decoder that determine the cost of one more token: groups of identical attention and
/// feed-forward layers.
public struct DecoderShape: Hashable, Sendable {
  /// The model's name for users.
  public var name: String
  /// Length of the residual stream.
  public var hiddenSize: Int
  /// Rows of the embedding, and of the output projection.
  public var vocabularySize: Int
  /// The layers' attention.
  public var attention: [AttentionLayers]
  /// The layers' feed-forward networks.
  public var feedForward: [FeedForwardLayers]
  /// Longest context that the model was made for, in tokens; `nil` if not stated.
  public var contextLength: Int?

  /// Describes a model.
  public init(
    name: String, hiddenSize: Int, vocabularySize: Int, attention: [AttentionLayers],
    feedForward: [FeedForwardLayers], contextLength: Int? = nil
  ) {
    self.name = name
    self.hiddenSize = hiddenSize
    self.vocabularySize = vocabularySize
    self.attention = attention
    self.feedForward = feedForward
    self.contextLength = contextLength
  }

  /// The number of layers.
  public var layerCount: Int { attention.reduce(0) { $0 + $1.count } }

  /// Weights of all projections before and after attention.
  public var projectionWeights: Double {
    attention.reduce(0) { $0 + Double($1.count) * Double($1.projectionWeights) }
  }

  /// Weights of embedding and output projection, counted separately.
  public var vocabularyWeights: Double { 2 * Double(vocabularySize) * Double(hiddenSize) }

  /// Weights of all feed-forward networks, including every expert.
  public var feedForwardWeights: Double {
    feedForward.reduce(0) { $0 + $1.weights(ofWidth: $1.totalWidth, hiddenSize) }
  }

  /// The share of a layer's experts that one token uses, counting shared ones in both numbers; 1 for a model without
  /// experts.
  public var sparsity: Double {
    let sparse = feedForward.filter { $0.activeWidth < $0.totalWidth }
    guard !sparse.isEmpty else { return 1 }
    let active = sparse.reduce(0) { $0 + Double($1.count) * Double($1.activeWidth) }
    let total = sparse.reduce(0) { $0 + Double($1.count) * Double($1.totalWidth) }
    return active / total
  }

  /// The work of decoding one token.
  ///
  /// - Parameters:
  ///   - context: The tokens before it.
  ///   - cacheBytes: Bytes of a cached element, unless a layer has its own.
  public func work(context: Int, cacheBytes: Double = 1) -> DecodeWork {
    var work = DecodeWork()
    for layers in attention {
      let count = Double(layers.count)
      work.cacheBytes += count * layers.cacheBytesRead(context: context, elementBytes: cacheBytes)
      work.attentionFLOPs += count * layers.attentionFLOPs(context: context)
    }
    work.projectionFLOPs = 2 * projectionWeights
    work.feedForwardFLOPs =
      2 * feedForward.reduce(0) { $0 + $1.weights(ofWidth: $1.activeWidth, hiddenSize) }
    return work
  }
}

/// The hardware work of decoding one token, without reading weights, which a batch shares.
///
/// Embedding, router, norms and output projection are not counted, as in the report.
public struct DecodeWork: Hashable, Sendable, Encodable {
  /// Bytes of cache, or of state, that are read and written.
  public var cacheBytes = 0.0
  /// Operations of attention itself: scores and sums of values.
  public var attentionFLOPs = 0.0
  /// Operations of the projections before and after it.
  public var projectionFLOPs = 0.0
  /// Operations of the feed-forward networks.
  public var feedForwardFLOPs = 0.0

  /// Operations of attention per byte of cache.
  public var intensity: Double { attentionFLOPs / cacheBytes }
}

// MARK: - Attention

/// Layers with identical attention.
public struct AttentionLayers: Hashable, Sendable {
  /// The attention mechanism.
  public enum Mechanism: Hashable, Sendable {
    /// Keys and values of heads, each shared by a group of query heads; with a window only the last positions.
    case grouped(queryHeads: Int, keyValueHeads: Int, dimension: Int, window: Int? = nil)
    /// The same, over regions that an indexer chooses.
    case selected(queryHeads: Int, keyValueHeads: Int, dimension: Int, by: RegionIndex)
    /// One latent vector for keys and values of all heads, with queries projected into it (MLA, absorbed).
    case latent(heads: Int, dimension: Int)
    /// A square state for each head instead of a cache (lightning attention).
    case recurrent(heads: Int, dimension: Int)
  }

  /// The indexer that chooses regions of the context.
  public struct RegionIndex: Hashable, Sendable {
    /// Heads of its queries.
    public var heads: Int
    /// Elements of each, and of a region's summary.
    public var dimension: Int
    /// Tokens of a region.
    public var regionSize: Int
    /// Chosen regions, not counting the current one.
    public var regionCount: Int

    /// Describes it.
    public init(heads: Int, dimension: Int, regionSize: Int, regionCount: Int) {
      self.heads = heads
      self.dimension = dimension
      self.regionSize = regionSize
      self.regionCount = regionCount
    }

    /// How many tokens of a context are seen.
    func seen(of context: Int) -> Int { min(context, regionSize * (regionCount + 1)) }

    /// Summaries that are read and kept, one byte per element (F8_E4M3 in vLLM 0.33).
    func summaries(of context: Int) -> Int { context / regionSize }
  }

  /// The number of layers.
  public var count: Int
  /// Their attention mechanism.
  public var mechanism: Mechanism
  /// Weights of one layer's projections.
  public var projectionWeights: Int
  /// Bytes of a cached element in these layers, if fixed; `nil` if the deployment chooses.
  public var cacheElementBytes: Double?

  /// Describes layers.
  public init(
    count: Int, _ mechanism: Mechanism, projectionWeights: Int, cacheElementBytes: Double? = nil
  ) {
    self.count = count
    self.mechanism = mechanism
    self.projectionWeights = projectionWeights
    self.cacheElementBytes = cacheElementBytes
  }

  /// Bytes that one token reads, and writes, in one layer.
  func cacheBytesRead(context: Int, elementBytes: Double) -> Double {
    let width = cacheElementBytes ?? elementBytes
    switch mechanism {
    case .grouped(_, let heads, let dimension, let window):
      return width * 2 * Double(heads) * Double(dimension) * Double(min(context, window ?? context))
    case .selected(_, let heads, let dimension, let index):
      return width * 2 * Double(heads) * Double(dimension) * Double(index.seen(of: context))
        + Double(index.summaries(of: context)) * Double(index.dimension)
    case .latent(_, let dimension): return width * Double(dimension) * Double(context)
    case .recurrent(let heads, let dimension):
      // Read and written.
      return width * 2 * Double(heads) * Double(dimension) * Double(dimension)
    }
  }

  /// Operations of one token in one layer: queries times keys and probabilities times values, two per product.
  func attentionFLOPs(context: Int) -> Double {
    switch mechanism {
    case .grouped(let heads, _, let dimension, let window):
      return 4 * Double(heads) * Double(dimension) * Double(min(context, window ?? context))
    case .selected(let heads, _, let dimension, let index):
      return 4 * Double(heads) * Double(dimension) * Double(index.seen(of: context))
        + 2 * Double(index.heads) * Double(index.dimension) * Double(index.summaries(of: context))
    case .latent(let heads, let dimension):
      // The report counts the values at the latent's full length too, including the rotary part.
      return 4 * Double(heads) * Double(dimension) * Double(context)
    case .recurrent(let heads, let dimension):
      // Ten for each element of the state: this matches the report's figures, which are not explained there.
      return 10 * Double(heads) * Double(dimension) * Double(dimension)
    }
  }
}

// MARK: - Feed-forward networks

/// Layers with identical gated feed-forward networks: three matrices between the residual stream and a width.
public struct FeedForwardLayers: Hashable, Sendable {
  /// The number of layers.
  public var count: Int
  /// The total intermediate length that one token uses, over chosen and shared experts.
  public var activeWidth: Int
  /// The total intermediate length of all experts.
  public var totalWidth: Int

  /// Dense layers.
  public init(count: Int, width: Int) {
    self.count = count
    activeWidth = width
    totalWidth = width
  }

  /// Layers of experts.
  ///
  /// - Parameter shared: The intermediate length of the shared experts.
  public init(count: Int, experts: Int, chosen: Int, width: Int, shared: Int = 0) {
    self.count = count
    activeWidth = chosen * width + shared
    totalWidth = experts * width + shared
  }

  /// The weights of all these layers for that much of their width.
  func weights(ofWidth width: Int, _ hiddenSize: Int) -> Double {
    3 * Double(count) * Double(width) * Double(hiddenSize)
  }
}
