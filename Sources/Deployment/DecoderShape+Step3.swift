internal import Checkpoint
public import Step3Model

extension DecoderShape {
  /// The shape of a member of the family. Layers that predict further tokens are left out: a token only passes the
  /// others.
  ///
  /// Projections are the matrices of a layer's attention in the family's table, including head gates and
  /// indexers. O(layers x modules).
  public init(_ configuration: Step3Configuration) {
    let text = configuration.text
    var attention: [AttentionLayers] = []
    for layer in 0..<text.layerCount {
      let layers = AttentionLayers(
        count: 1, Self.mechanism(text, layer),
        projectionWeights: Self.projectionWeights(configuration, layer: layer))
      Self.add(layers, to: &attention)
    }
    var feedForward: [FeedForwardLayers] = []
    let sparse = text.moeLayers.count
    if sparse < text.layerCount {
      feedForward.append(FeedForwardLayers(count: text.layerCount - sparse, width: text.intermediateSize))
    }
    if sparse > 0 {
      feedForward.append(
        FeedForwardLayers(
          count: sparse, experts: text.expertCount, chosen: text.expertsPerToken,
          width: text.expertIntermediateSize, shared: text.sharedExpertIntermediateSize))
    }
    self.init(
      name: configuration.family.name, hiddenSize: text.hiddenSize, vocabularySize: text.vocabularySize,
      attention: attention, feedForward: feedForward, contextLength: text.contextLength)
  }

  /// A layer's attention mechanism.
  static func mechanism(_ text: Step3Configuration.Text, _ layer: Int) -> AttentionLayers.Mechanism {
    let (queries, groups) = (text.headCount(layer: layer), text.keyValueHeadCount(layer: layer))
    if let sliding = text.sliding, text.isSliding(layer: layer) {
      return .grouped(
        queryHeads: queries, keyValueHeads: groups, dimension: text.headDimension, window: sliding.window)
    }
    guard let indexer = text.indexer else {
      return .grouped(queryHeads: queries, keyValueHeads: groups, dimension: text.headDimension)
    }
    return .selected(
      queryHeads: queries, keyValueHeads: groups, dimension: text.headDimension,
      by: .init(
        heads: indexer.headCount, dimension: indexer.dimension, regionSize: indexer.regionSize,
        regionCount: indexer.regionCount))
  }

  private static func projectionWeights(_ configuration: Step3Configuration, layer: Int) -> Int {
    configuration.family.model.modules.filter { $0.scope == .textLayer && $0.role == .attention }
      .reduce(0) { sum, module in
        guard let shape = module.shape(configuration, layer: layer), shape.count == 2 else { return sum }
        return sum + shape[0] * shape[1]
      }
  }

  /// Counts a layer with identical ones.
  private static func add(_ layer: AttentionLayers, to layers: inout [AttentionLayers]) {
    for index in layers.indices {
      var alike = layer
      alike.count = layers[index].count
      guard alike == layers[index] else { continue }
      layers[index].count += layer.count
      return
    }
    layers.append(layer)
  }
}
