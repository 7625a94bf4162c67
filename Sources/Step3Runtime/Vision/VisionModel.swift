internal import Checkpoint
public import StoredWeights
public import Step3Model
public import TensorFormats

/// Step-3's vision side, run in F32 from its stored weights: pictures become vectors that replace token
/// embeddings.
///
/// A transformer over patches of 14 x 14 pixels with norms after attention and MLP, on the branch (published size: 63
/// layers of 1792, 16 heads), two convolutions and a linear layer. All pictures and crops of a prompt go through a
/// layer together, whatever their sizes; their memory is 9 vectors per patch and a bounded piece of the MLP.
///
/// Source: StepFun's published modeling code.
public struct VisionModel: Sendable {
  /// The dimensions.
  public let vision: Step3Configuration.Vision
  /// Length of the vectors that come out: the language model's residual stream.
  public let hiddenSize: Int
  /// All weights, or those of the vision side.
  public let weights: ModelWeights
  /// Matrix products.
  public let products: Products
  /// The observer, if any.
  public let observer: (any VisionObserver)?

  /// Prepares the vision side of a checkpoint.
  ///
  /// - Throws: `.unsupported` if the checkpoint is not a Step-3, or has only the language model.
  public init(
    _ weights: ModelWeights, products: Products, observer: (any VisionObserver)? = nil
  ) throws(CheckpointError) {
    guard let configuration = weights.configuration else {
      throw CheckpointError(
        .unsupported,
        "\(weights.checkpoint.architecture ?? "this model") is not a model of the Step family, and only those can be run",
        path: weights.checkpoint.path)
    }
    guard let vision = configuration.vision else {
      throw CheckpointError(
        .unsupported, "is only the language model; it cannot see pictures", path: weights.checkpoint.path,
        remedy: "a GGUF's vision side is in an mmproj file beside it")
    }
    switch configuration.family {
    case .step3: self.vision = vision
    case .step3p5, .step3p7, .step5, .step3VL10B:
      throw CheckpointError(
        .unsupported, "pictures are not computed for \(configuration.family.name)",
        path: weights.checkpoint.path)
    }
    hiddenSize = configuration.text.hiddenSize
    self.weights = weights
    self.products = products
    self.observer = observer
  }

  /// How many vectors a square picture of that side becomes.
  ///
  /// - Throws: `.invalidRequest` if it is not a whole number of patches, or too small.
  public func featureCount(side: Int) throws(CheckpointError) -> Int {
    guard side % vision.patchSize == 0, side / vision.patchSize >= 2 else {
      throw CheckpointError(
        .invalidRequest,
        "pictures of \(side) pixels are not at least two whole patches of \(vision.patchSize) pixels along each side"
      )
    }
    return FeatureProjector.featureCount(side / vision.patchSize, vision)
  }

  /// The vectors of all pictures of a prompt, in the prompt's order: the crops of each, then the whole of it.
  ///
  /// - Throws: `.invalidRequest` for pictures of a size or number of channels that the model does not take, `.notFound`
  ///   and `.malformed` for weights that are missing or of another shape, `.nonFinite` if a layer's output is not
  ///   finite, what reading throws, and `CancellationError`.
  public func features(of pixels: PixelValues) throws -> ImageFeatures {
    guard pixels.images.channels == vision.channelCount else {
      throw CheckpointError(
        .invalidRequest, "pictures have \(pixels.images.channels) channels, the model \(vision.channelCount)")
    }
    let whole = try featureCount(side: pixels.images.side)
    let crop = try pixels.crops.map { crops throws(CheckpointError) in try featureCount(side: crops.side) }
    let batch = ImageBatch(pixels, patchSize: vision.patchSize)
    let encoded = try encode(batch)
    let projector = FeatureProjector(
      vision: vision, hiddenSize: hiddenSize, weights: weights, products: products)
    let values = try projector.project(encoded, grids: batch.grids)
    observer?.note(.features, layer: nil, values)
    return ImageFeatures(values, counts: pixels.cropCounts.map { $0 * (crop ?? 0) + whole })
  }

  /// - Returns: `[patches of all pictures, width]`.
  private func encode(_ batch: ImageBatch) throws -> Activations {
    let hidden = try PatchEmbedding(vision: vision, weights: weights, products: products).embed(batch)
    observer?.note(.embedding, layer: nil, hidden)
    let layers = VisionLayers(vision: vision, weights: weights, products: products)
    for layer in 0..<vision.layerCount {
      try Task.checkCancellation()
      try layers.run(layer, hidden, batch)
      try checkFinite(hidden, layer: layer)
      observer?.note(.layerOutput, layer: layer, hidden)
    }
    let encoded = hidden.gather(batch.images.flatMap(\.patches))
    observer?.note(.encoded, layer: nil, encoded)
    return encoded
  }

  private func checkFinite(_ hidden: Activations, layer: Int) throws(CheckpointError) {
    let values = hidden.values
    for index in values.indices where !values[index].isFinite {
      throw CheckpointError(
        .nonFinite,
        "layer \(layer) of the vision tower produces \(values[index]) in row \(index / hidden.columns), "
          + "element \(index % hidden.columns)", path: weights.checkpoint.path,
        remedy: "a weight of this layer is broken, or a scale is missing; step3-inspect stats shows which")
    }
  }
}
