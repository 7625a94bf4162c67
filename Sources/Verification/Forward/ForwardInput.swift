public import Step3Runtime
internal import TensorFormats

/// The input of a forward pass: prompts, and their pictures.
public struct ForwardInput: Sendable {
  /// The prompts.
  public let batch: TokenBatch
  /// The pictures of all prompts, in order; `nil` for text alone.
  public let pixels: PixelValues?

  /// Combines prompts and pictures.
  public init(_ prompts: [[Int]], pixels: PixelValues? = nil) {
    batch = TokenBatch(prompts)
    self.pixels = pixels
  }

  /// The first hidden states in a model: its embeddings, and its own vision side's features.
  ///
  /// - Throws: `.invalidRequest` for tokens and pictures that do not match, and what the model throws.
  public func embedded(in runner: ModelRunner) throws -> Activations {
    guard let pixels else { return try runner.model.embed(batch) }
    let features = try VisionModel(runner.visionWeights, products: runner.model.products).features(of: pixels)
    return try runner.model.embed(batch, features)
  }
}
