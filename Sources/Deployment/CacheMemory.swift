public import Step3Model

/// What the cache of one sequence takes, as opposed to what one token reads of it.
public struct CacheMemory: Hashable, Sendable {
  private let layers: [AttentionLayers]
  /// Whether tensor parallelism divides heads of keys and values; engines keep Step-3's whole on every rank.
  private let dividesHeads: Bool

  /// The cache of a member of the family.
  ///
  /// - Parameter predicting: Whether the layers that predict further tokens are there and have one too.
  public init(_ configuration: Step3Configuration, predicting: Bool) {
    let text = configuration.text
    let count = text.layerCount + (predicting ? text.predictionLayerCount : 0)
    dividesHeads = configuration.family != .step3
    layers = (0..<count).map { layer in
      var mechanism = DecoderShape.mechanism(text, layer)
      // Layers that predict have no indexer.
      if layer >= text.layerCount, case .selected(let queries, let groups, let dimension, _) = mechanism {
        mechanism = .grouped(queryHeads: queries, keyValueHeads: groups, dimension: dimension)
      }
      return AttentionLayers(count: 1, mechanism, projectionWeights: 0)
    }
  }

  /// Bytes that a sequence takes on one rank.
  ///
  /// Layers with a window keep its tokens and no others, as the engines' hybrid cache managers do; one that has no such
  /// manager keeps all.
  ///
  /// - Parameters:
  ///   - context: Its tokens.
  ///   - tensorParallel: Between how many ranks heads are divided. With fewer heads than ranks each has one.
  public func bytes(context: Int, stored precision: Precision, tensorParallel: Int = 1) -> Double {
    layers.reduce(0) {
      $0
        + $1.cacheBytesHeld(
          context: context, elementBytes: Double(precision.bytes), pieces: dividesHeads ? tensorParallel : 1)
    }
  }
}

extension AttentionLayers {
  /// Bytes that one sequence's cache, or state, takes in one layer.
  ///
  /// - Parameter pieces: Between how many ranks the heads are divided. Latents and summaries are for all heads, and whole
  ///   on each.
  func cacheBytesHeld(context: Int, elementBytes: Double, pieces: Int = 1) -> Double {
    let width = cacheElementBytes ?? elementBytes
    func share(_ heads: Int) -> Double { Double((heads + pieces - 1) / pieces) }
    switch mechanism {
    case .grouped(_, let heads, let dimension, let window):
      return width * 2 * share(heads) * Double(dimension) * Double(min(context, window ?? context))
    case .selected(_, let heads, let dimension, let index):
      return width * 2 * share(heads) * Double(dimension) * Double(context)
        + Double(index.summaries(of: context)) * Double(index.dimension)
    case .latent(_, let dimension): return width * Double(dimension) * Double(context)
    case .recurrent(let heads, let dimension):
      return width * share(heads) * Double(dimension) * Double(dimension)
    }
  }
}
