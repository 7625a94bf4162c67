internal import Checkpoint
public import ModelWeights
public import Step3Model
public import TensorFormats

/// Step-3's language model, layer by layer, in F32: Multi-matrix Factorization Attention, dense and MoE layers.
///
/// Weights are read, used and forgotten in the order of the layers; of routed experts only those that a token chose.
/// Nothing here knows how they are stored.
///
/// Source: Step-3 system report (arXiv 2507.19427) and StepFun's published modeling code.
public struct TextModel: Sendable {
  /// The dimensions.
  public let text: Step3Configuration.Text
  /// The weights of everything but the feed-forward networks.
  public let weights: ModelWeights
  /// The feed-forward networks.
  public let feedForward: any FeedForward
  /// Matrix products.
  public let products: Products
  /// Who looks at the values on their way, if anyone.
  public let observer: (any ForwardObserver)?
  /// Whether the router's weights are on this side.
  public let routesHere: Bool

  private let rotary: RotaryEmbedding
  private let mixing: Attention

  /// Prepares the model of a checkpoint.
  ///
  /// - Parameters:
  ///   - weights: All weights, or those of the attention side.
  ///   - feedForward: The other half of each layer; `nil` for one that has the same weights.
  ///   - routesHere: Whether tokens are routed on this side.
  /// - Throws: `.unsupported` if the checkpoint is no Step-3.
  public init(
    _ weights: ModelWeights, products: Products, feedForward: (any FeedForward)? = nil,
    routesHere: Bool = true,
    observer: (any ForwardObserver)? = nil
  ) throws(CheckpointError) {
    guard let configuration = weights.configuration else {
      throw CheckpointError(
        .unsupported,
        "\(weights.checkpoint.architecture ?? "this model") is not a Step-3, and only that can be run",
        path: weights.checkpoint.path)
    }
    let checkpoint = weights.checkpoint
    try configuration.requireAllRead(path: checkpoint.configurationDocument?.path ?? checkpoint.path)
    text = configuration.text
    guard text.headCount % text.keyValueHeadCount == 0 else {
      throw CheckpointError(
        .unsupported,
        "\(text.headCount) query heads cannot share \(text.keyValueHeadCount) key and value heads evenly",
        path: weights.checkpoint.path)
    }
    self.weights = weights
    self.products = products
    self.observer = observer
    self.routesHere = routesHere
    self.feedForward =
      feedForward ?? LocalFeedForward(weights, configuration.text, products, observer: observer)
    rotary = RotaryEmbedding(configuration.text)
    mixing = Attention(configuration.text, threads: products.threads)
  }
}

extension TextModel {
  /// The same model, looked at by an observer.
  ///
  /// - Throws: Nothing that preparing the model has not thrown already.
  func observed(by observer: any ForwardObserver) throws(CheckpointError) -> TextModel {
    // Only a network that is here can be looked into.
    let local = feedForward is LocalFeedForward ? nil : feedForward
    return try TextModel(
      weights, products: products, feedForward: local, routesHere: routesHere, observer: observer)
  }
}

// MARK: - The way through

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
  ///   - hidden: `[tokens, hidden]`.
  ///   - cache: Holds earlier keys and values of the sequences, and receives those of this batch; `nil` where the
  ///     batch is all there is.
  ///   - routing: The experts to go through, whatever this model's router says; `nil` for those it says.
  /// - Throws: `.notFound` and `.malformed` for weights that are missing or of another shape, `.nonFinite` if the layer
  ///   makes something that is no number, and what reading throws.
  public func run(
    layer: Int, _ hidden: Activations, _ batch: TokenBatch, cache: KeyValueCache? = nil,
    routing forced: Routing? = nil
  ) throws {
    hidden.add(try attention(layer: layer, hidden, batch, cache: cache))
    let normalised = Elementwise.rmsNorm(
      hidden, weight: try norm(.postAttentionNorm, layer: layer), epsilon: text.rmsNormEpsilon)
    note(.feedForwardInput, layer, normalised)
    // The router is asked in any case, so that an observer sees what it says.
    let own = try routing(layer: layer, normalised)
    let output = try feedForward.output(layer: layer, normalised, forced ?? own)
    note(.feedForwardOutput, layer, output)
    hidden.add(output)
    try checkFinite(hidden, layer: layer)
    note(.layerOutput, layer, hidden)
  }

  /// The residual stream after the last norm.
  public func finalNorm(_ hidden: Activations) throws -> Activations {
    let weight = try weights.vector(Step3TensorName(.outputNorm), text.hiddenSize)
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
    // A model without an output matrix uses the embedding for it.
    let name =
      weights[Step3TensorName(.lmHead)] == nil ? Step3TensorName(.tokenEmbedding) : Step3TensorName(.lmHead)
    return try products.multiply(normalised, weights.matrix(name, shape))
  }

  func note(_ stage: ForwardStage, _ layer: Int?, _ values: Activations) {
    observer?.note(stage, layer: layer, values)
  }

  private func norm(_ module: Step3Module, layer: Int) throws(CheckpointError) -> [Float] {
    try weights.vector(Step3TensorName(module, layer: layer), text.hiddenSize)
  }

  private func checkFinite(_ hidden: Activations, layer: Int) throws(CheckpointError) {
    let values = hidden.values
    for index in values.indices where !values[index].isFinite {
      throw CheckpointError(
        .nonFinite,
        "layer \(layer) makes \(values[index]) of token \(index / hidden.columns), element \(index % hidden.columns)",
        path: weights.checkpoint.path,
        remedy: "a weight of this layer is broken, or a scale is missing; step3-inspect stats shows which")
    }
  }
}

// MARK: - The halves of a layer

extension TextModel {
  /// What attention adds to the residual stream.
  ///
  /// The query goes down to a low rank, through a norm and up to all heads (MFA); one key and one value head serve all
  /// of them.
  func attention(
    layer: Int, _ hidden: Activations, _ batch: TokenBatch, cache: KeyValueCache?
  ) throws -> Activations {
    func matrix(_ module: Step3Module, _ rows: Int, _ columns: Int) throws(CheckpointError) -> MatrixReader {
      try weights.matrix(Step3TensorName(module, layer: layer), [rows, columns])
    }
    let heads = text.headCount * text.headDimension
    let keyWidth = text.keyValueHeadCount * text.headDimension
    let (hiddenSize, rank) = (text.hiddenSize, text.sharedQueryDimension)

    let input = Elementwise.rmsNorm(
      hidden, weight: try norm(.inputNorm, layer: layer), epsilon: text.rmsNormEpsilon)
    note(.attentionInput, layer, input)
    let shared = Elementwise.rmsNorm(
      try products.multiply(input, matrix(.query, rank, hiddenSize)),
      weight: try weights.vector(Step3TensorName(.queryNorm, layer: layer), rank),
      epsilon: text.rmsNormEpsilon)
    note(.sharedQuery, layer, shared)
    let query = try products.multiply(shared, matrix(.queryUp, heads, rank))
    let key = try products.multiply(input, matrix(.key, keyWidth, hiddenSize))
    let value = try products.multiply(input, matrix(.value, keyWidth, hiddenSize))
    try rotary.apply(to: query, positions: batch.positions, threads: products.threads)
    try rotary.apply(to: key, positions: batch.positions, threads: products.threads)
    note(.query, layer, query)
    note(.key, layer, key)
    note(.value, layer, value)

    let mixed = Activations(rows: hidden.rows, columns: heads)
    for (sequence, range) in batch.ranges.enumerated() where !range.isEmpty {
      var keys = key.copy(rows: range).array
      var values = value.copy(rows: range).array
      if let cache {
        cache.append(keys, values, layer: layer, sequence: sequence)
        let entry = cache.entry(layer: layer, sequence: sequence)
        (keys, values) = (entry.keys, entry.values)
      }
      try mixing.mix(query, rows: range, keys: keys, values: values, into: mixed)
    }
    note(.heads, layer, mixed)
    let output = try products.multiply(mixed, matrix(.attentionOutput, hiddenSize, heads))
    note(.attentionOutput, layer, output)
    return output
  }

  private func routing(layer: Int, _ normalised: Activations) throws -> Routing? {
    guard routesHere, text.isMoE(layer: layer) else { return nil }
    return try Routing(of: normalised, layer: layer, weights, text, products, observer: observer)
  }
}
