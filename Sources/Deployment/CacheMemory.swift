public import Step3Model

/// The memory of one sequence's cache, as opposed to what one token reads from it.
public struct CacheMemory: Hashable, Sendable {
  private let layers: [AttentionLayers]
  /// Whether tensor parallelism divides key and value heads; engines keep Step-3's whole on every rank.
  private let dividesHeads: Bool

  /// The cache of a member of the family.
  ///
  /// - Parameter predicting: Whether the layers that predict further tokens are included, with their own cache.
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

  /// The bytes of a sequence's cache on one rank.
  ///
  /// Layers with a window keep only its tokens, as the engines' hybrid cache managers do; engines without one keep all.
  ///
  /// - Parameters:
  ///   - context: Its tokens.
  ///   - tensorParallel: The number of ranks that heads are divided between. With fewer heads than ranks, each has one.
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
  /// - Parameter pieces: The number of ranks that heads are divided between. Latents and summaries are shared by all
  ///   heads, and whole on each rank.
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
