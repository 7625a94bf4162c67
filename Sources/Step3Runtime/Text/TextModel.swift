internal import Checkpoint
public import StoredWeights
public import Step3Model
public import TensorFormats

/// A language model, layer by layer, in F32: what all members of the family have in common, combined with the member's
/// own layer halves.
///
/// Weights are read, used and dropped in layer order; for routed experts, only those with tokens. Nothing here
/// depends on how they are stored.
public struct TextModel: Sendable {
  /// The dimensions.
  public let text: Step3Configuration.Text
  /// The weights of everything but the feed-forward networks.
  public let weights: ModelWeights
  /// The feed-forward networks.
  public let feedForward: any FeedForward
  /// Matrix products.
  public let products: Products
  /// The observer, if any.
  public let observer: (any ForwardObserver)?
  /// Whether the router's weights are on this side.
  public let routesHere: Bool

  /// The modules of its family.
  public let description: ModelDescription

  private let attention: any AttentionNetwork

  /// Prepares the model of a checkpoint.
  ///
  /// - Parameters:
  ///   - weights: All weights, or those of the attention side.
  ///   - products: Multiplies with weights, within the budget of threads and memory.
  ///   - feedForward: The other half of each layer; `nil` for one with the same weights.
  ///   - routesHere: Whether tokens are routed on this side.
  ///   - observer: Sees what each layer makes; `nil` for none.
  /// - Throws: `.unsupported` if the checkpoint is of an unknown family.
  public init(
    _ weights: ModelWeights, products: Products, feedForward: (any FeedForward)? = nil,
    routesHere: Bool = true,
    observer: (any ForwardObserver)? = nil
  ) throws(CheckpointError) {
    guard let configuration = weights.configuration else {
      throw CheckpointError(
        .unsupported,
        "\(weights.checkpoint.architecture ?? "this model") is not a model of the Step family, and only those can be run",
        path: weights.checkpoint.path)
    }
    let checkpoint = weights.checkpoint
    try configuration.requireAllRead(path: checkpoint.configurationDocument?.path ?? checkpoint.path)
    text = configuration.text
    description = configuration.family.model
    self.weights = weights
    self.products = products
    self.observer = observer
    self.routesHere = routesHere
    switch configuration.family {
    case .step3:
      attention = try MatrixFactorizedAttention(weights, text, products, observer: observer)
    case .step3p5, .step3p7, .step5, .step3VL10B:
      attention = try GroupedQueryAttention(weights, text, products, observer: observer)
    }
    self.feedForward = feedForward ?? LocalFeedForward(weights, text, products, observer: observer)
  }
}

extension TextModel {
  /// The same model, with an observer.
  ///
  /// - Throws: Nothing that preparing the model would not have thrown.
  func observed(by observer: any ForwardObserver) throws(CheckpointError) -> TextModel {
    // Only a local network can be observed.
    let local = feedForward is LocalFeedForward ? nil : feedForward
    return try TextModel(
      weights, products: products, feedForward: local, routesHere: routesHere, observer: observer)
  }
}

// MARK: - Forward pass

extension TextModel {
  /// The embedded tokens: `[tokens, hidden]`.
  ///
  /// - Throws: `.invalidRequest` for a token that the vocabulary does not have.
  public func embed(_ batch: TokenBatch) throws -> Activations {
    let table = try weights.matrix(
      Step3TensorName(.tokenEmbedding), [text.vocabularySize, text.hiddenSize])
    let result = Activations(rows: batch.tokens.count, columns: text.hiddenSize)
    var scratch = MatrixReader.Scratch()
    for (row, token) in batch.tokens.enumerated() {
      guard (0..<text.vocabularySize).contains(token) else {
        throw CheckpointError(
          .invalidRequest, "token \(token) is not in the vocabulary of \(text.vocabularySize)")
      }
      try result.update(row) { span throws(CheckpointError) in
        try table.read(token..<token + 1, into: &span, &scratch)
      }
    }
    return result
  }

  /// Runs one layer: the residual stream in `hidden` is changed in place.
  ///
  /// - Parameters:
  ///   - layer: The layer's number, from 0.
  ///   - hidden: `[tokens, hidden]`.
  ///   - batch: The tokens that the hidden states belong to.
  ///   - cache: Holds earlier keys and values of the sequences, and receives those of this batch; `nil` where the
  ///     batch is all there is.
  ///   - forced: The experts to use instead of the router's choice; `nil` for the router's.
  /// - Throws: `.notFound` and `.malformed` for weights that are missing or of another shape, `.nonFinite` if the
  ///   layer's output is not finite, and what reading throws.
  public func run(
    layer: Int, _ hidden: Activations, _ batch: TokenBatch, cache: KeyValueCache? = nil,
    routing forced: Routing? = nil
  ) throws {
    // The router always runs, so that an observer sees its choice.
    let (normalised, own) = try attend(layer: layer, hidden, batch, cache: cache)
    let output = try feedForward.output(layer: layer, normalised, forced ?? own)
    note(.feedForwardOutput, layer, output)
    hidden.add(output)
    try checkFinite(hidden, layer: layer)
    note(.layerOutput, layer, hidden)
  }

  /// Runs the first half of a layer: adds attention's contribution to the residual stream in `hidden`.
  ///
  /// - Returns: The normalised input of the feed-forward network, `[tokens, hidden]`, and the router's choice of
  ///   experts; `nil` for a dense layer, and if the router is elsewhere.
  /// - Throws: As ``run(layer:_:_:cache:routing:)``.
  package func attend(
    layer: Int, _ hidden: Activations, _ batch: TokenBatch, cache: KeyValueCache? = nil
  ) throws -> (normalised: Activations, routing: Routing?) {
    let input = Elementwise.rmsNorm(
      hidden, weight: try norm(.inputNorm, layer: layer), epsilon: text.rmsNormEpsilon)
    note(.attentionInput, layer, input)
    hidden.add(try attention.output(layer: layer, input, batch, cache: cache))
    let normalised = Elementwise.rmsNorm(
      hidden, weight: try norm(.postAttentionNorm, layer: layer), epsilon: text.rmsNormEpsilon)
    note(.feedForwardInput, layer, normalised)
    return (normalised, try routing(layer: layer, normalised))
  }

  /// The residual stream after the last norm.
  public func finalNorm(_ hidden: Activations) throws -> Activations {
    let weight = try norm(.outputNorm)
    let result = Elementwise.rmsNorm(hidden, weight: weight, epsilon: text.rmsNormEpsilon)
    note(.finalNorm, nil, result)
    return result
  }

  /// The logits of some tokens.
  ///
  /// - Parameter normalised: What ``finalNorm(_:)`` gave, `[tokens, hidden]`.
  /// - Returns: `[tokens, vocabulary]`.
  public func logits(_ normalised: Activations) throws -> Activations {
    let shape = [text.vocabularySize, text.hiddenSize]
    // A model without an output matrix uses the embedding instead.
    let name =
      weights[Step3TensorName(.lmHead)] == nil ? Step3TensorName(.tokenEmbedding) : Step3TensorName(.lmHead)
    return try products.multiply(normalised, weights.matrix(name, shape))
  }

  func note(_ stage: ForwardStage, _ layer: Int?, _ values: Activations) {
    observer?.note(stage, layer: layer, values)
  }

  private func norm(_ module: Step3Module, layer: Int? = nil) throws(CheckpointError) -> [Float] {
    try weights.norm(Step3TensorName(module, layer: layer), text.hiddenSize)
  }

  /// - Throws: `.nonFinite` if the residual stream after a layer is not finite.
  package func checkFinite(_ hidden: Activations, layer: Int) throws(CheckpointError) {
    let values = hidden.values
    for index in values.indices where !values[index].isFinite {
      throw CheckpointError(
        .nonFinite,
        "layer \(layer) produces \(values[index]) for token \(index / hidden.columns), element \(index % hidden.columns)",
        path: weights.checkpoint.path,
        remedy: "a weight of this layer is broken, or a scale is missing; step3-inspect stats shows which")
    }
  }

  private func routing(layer: Int, _ normalised: Activations) throws -> Routing? {
    guard routesHere, text.isMoE(layer: layer) else { return nil }
    return try Routing(of: normalised, layer: layer, weights, text, products, observer: observer)
  }
}
