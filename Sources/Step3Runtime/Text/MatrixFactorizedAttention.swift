internal import Checkpoint
internal import StoredWeights
internal import Step3Model
internal import TensorFormats

/// The attention half of each layer.
protocol AttentionNetwork: Sendable {
  /// Attention's contribution to the residual stream.
  ///
  /// - Parameters:
  ///   - input: `[tokens, hidden]`, normalised.
  ///   - cache: Holds earlier keys and values of the sequences, and receives those of this batch; `nil` where the batch is
  ///     all there is.
  /// - Returns: `[tokens, hidden]`.
  func output(
    layer: Int, _ input: Activations, _ batch: TokenBatch, cache: KeyValueCache?
  ) throws -> Activations
}

/// Step-3's Multi-matrix Factorization Attention: the query is projected to a low rank, normalised and expanded to all
/// heads; one key and one value head serve all of them.
///
/// Source: Step-3 system report (arXiv 2507.19427) and StepFun's published modeling code.
struct MatrixFactorizedAttention: AttentionNetwork {
  private let weights: ModelWeights
  private let text: Step3Configuration.Text
  private let products: Products
  private let observer: (any ForwardObserver)?
  private let rotary: RotaryEmbedding
  private let mixing: Attention

  /// - Throws: `.unsupported` if heads cannot be grouped evenly.
  init(
    _ weights: ModelWeights, _ text: Step3Configuration.Text, _ products: Products,
    observer: (any ForwardObserver)?
  ) throws(CheckpointError) {
    guard text.headCount % text.keyValueHeadCount == 0 else {
      throw CheckpointError(
        .unsupported,
        "\(text.headCount) query heads cannot share \(text.keyValueHeadCount) key and value heads evenly",
        path: weights.checkpoint.path)
    }
    self.weights = weights
    self.text = text
    self.products = products
    self.observer = observer
    rotary = RotaryEmbedding(text)
    mixing = Attention(text, threads: products.threads)
  }

  func output(
    layer: Int, _ input: Activations, _ batch: TokenBatch, cache: KeyValueCache?
  ) throws -> Activations {
    func matrix(_ module: Step3Module, _ rows: Int, _ columns: Int) throws(CheckpointError) -> MatrixReader {
      try weights.matrix(Step3TensorName(module, layer: layer), [rows, columns])
    }
    let heads = text.headCount * text.headDimension
    let keyWidth = text.keyValueHeadCount * text.headDimension
    let (hiddenSize, rank) = (text.hiddenSize, text.sharedQueryDimension)

    try observer?.note(entering: [.query, .key, .value], layer: layer, input)
    let shared = Elementwise.rmsNorm(
      try products.multiply(input, matrix(.query, rank, hiddenSize)),
      weight: try weights.norm(Step3TensorName(.queryNorm, layer: layer), rank),
      epsilon: text.rmsNormEpsilon)
    observer?.note(.sharedQuery, layer: layer, shared)
    try observer?.note(entering: [.queryUp], layer: layer, shared)
    let query = try products.multiply(shared, matrix(.queryUp, heads, rank))
    let key = try products.multiply(input, matrix(.key, keyWidth, hiddenSize))
    let value = try products.multiply(input, matrix(.value, keyWidth, hiddenSize))
    try rotary.apply(to: query, positions: batch.positions, threads: products.threads)
    try rotary.apply(to: key, positions: batch.positions, threads: products.threads)
    observer?.note(.query, layer: layer, query)
    observer?.note(.key, layer: layer, key)
    observer?.note(.value, layer: layer, value)

    let mixed = Activations(rows: input.rows, columns: heads)
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
    observer?.note(.heads, layer: layer, mixed)
    try observer?.note(entering: [.attentionOutput], layer: layer, mixed)
    let output = try products.multiply(mixed, matrix(.attentionOutput, hiddenSize, heads))
    observer?.note(.attentionOutput, layer: layer, output)
    return output
  }
}
