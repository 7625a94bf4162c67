internal import Checkpoint
internal import StoredWeights
internal import Step3Model
internal import TensorFormats

/// The attention of all members of the family but Step-3: groups of query heads share a key and value head, queries and
/// keys go through a per-head norm, and with head gates each head's output is multiplied by its own.
///
/// Layers differ: some see only the last positions, with their own head counts and rotary embedding. Sources: StepFun's
/// modeling code and transformers (`step3p7`), llama.cpp (`src/models/step35.cpp`); for Step3-VL-10B, transformers
/// (`qwen3`). Step-5-Preview's full layers see what an indexer chooses: everything, as long as the context is no longer
/// than that.
struct GroupedQueryAttention: AttentionNetwork {
  private let weights: ModelWeights
  private let text: Step3Configuration.Text
  private let products: Products
  private let observer: (any ForwardObserver)?
  private let fullRotary: RotaryEmbedding
  private let slidingRotary: RotaryEmbedding

  /// - Throws: `.unsupported` if heads cannot be grouped evenly.
  init(
    _ weights: ModelWeights, _ text: Step3Configuration.Text, _ products: Products,
    observer: (any ForwardObserver)?
  ) throws(CheckpointError) {
    for layer in 0..<text.layerCount {
      let (heads, groups) = (text.headCount(layer: layer), text.keyValueHeadCount(layer: layer))
      guard heads % groups == 0 else {
        throw CheckpointError(
          .unsupported, "\(heads) query heads cannot share \(groups) key and value heads evenly",
          path: weights.checkpoint.path)
      }
    }
    self.weights = weights
    self.text = text
    self.products = products
    self.observer = observer
    fullRotary = RotaryEmbedding(text)
    slidingRotary =
      text.sliding.map {
        RotaryEmbedding(
          turning: $0.rotaryDimension ?? text.headDimension, of: text.headDimension, base: $0.ropeTheta)
      } ?? fullRotary
  }

  func output(
    layer: Int, _ input: Activations, _ batch: TokenBatch, cache: KeyValueCache?
  ) throws -> Activations {
    func matrix(_ module: Step3Module, _ rows: Int, _ columns: Int) throws(CheckpointError) -> MatrixReader {
      try weights.matrix(Step3TensorName(module, layer: layer), [rows, columns])
    }
    let (headCount, groupCount) = (text.headCount(layer: layer), text.keyValueHeadCount(layer: layer))
    let (dimension, hiddenSize) = (text.headDimension, text.hiddenSize)
    let isSliding = text.isSliding(layer: layer)

    try observer?.note(
      entering: [.query, .key, .value] + (text.hasHeadGates ? [.headGate] : []), layer: layer, input)
    let query = try products.multiply(input, matrix(.query, headCount * dimension, hiddenSize))
    let key = try products.multiply(input, matrix(.key, groupCount * dimension, hiddenSize))
    let value = try products.multiply(input, matrix(.value, groupCount * dimension, hiddenSize))
    for (values, module) in [(query, Step3Module.queryHeadNorm), (key, .keyHeadNorm)] {
      try Elementwise.rmsNormHeads(
        values, weight: weights.norm(Step3TensorName(module, layer: layer), dimension),
        epsilon: text.rmsNormEpsilon, threads: products.threads)
      try (isSliding ? slidingRotary : fullRotary).apply(
        to: values, positions: batch.positions, threads: products.threads)
    }
    observer?.note(.query, layer: layer, query)
    observer?.note(.key, layer: layer, key)
    observer?.note(.value, layer: layer, value)

    let mixing = Attention(
      headCount: headCount, keyValueHeadCount: groupCount, headDimension: dimension,
      window: isSliding ? text.sliding?.window : nil, threads: products.threads)
    let mixed = Activations(rows: input.rows, columns: headCount * dimension)
    for (sequence, range) in batch.ranges.enumerated() where !range.isEmpty {
      var keys = key.copy(rows: range).array
      var values = value.copy(rows: range).array
      if let cache {
        cache.append(keys, values, layer: layer, sequence: sequence)
        let entry = cache.entry(layer: layer, sequence: sequence)
        (keys, values) = (entry.keys, entry.values)
      }
      if !isSliding { try check(length: keys.count / (groupCount * dimension)) }
      try mixing.mix(query, rows: range, keys: keys, values: values, into: mixed)
    }
    if text.hasHeadGates {
      let gates = try products.multiply(input, matrix(.headGate, headCount, hiddenSize))
      try Elementwise.gateHeads(mixed, gates, threads: products.threads)
    }
    observer?.note(.heads, layer: layer, mixed)
    try observer?.note(entering: [.attentionOutput], layer: layer, mixed)
    let output = try products.multiply(mixed, matrix(.attentionOutput, hiddenSize, headCount * dimension))
    observer?.note(.attentionOutput, layer: layer, output)
    return output
  }

  /// Refuses a text long enough for the indexer to leave something out: its choice is not supported.
  private func check(length: Int) throws(CheckpointError) {
    guard let indexer = text.indexer else { return }
    let most = indexer.regionSize * (indexer.regionCount + 1)
    guard length <= most else {
      throw CheckpointError(
        .unsupported,
        "full layers see \(indexer.regionCount) regions of \(indexer.regionSize) tokens and the current one, but which of "
          + "\(length) tokens these are is not supported", path: weights.checkpoint.path,
        remedy: "give texts of up to \(most) tokens")
    }
  }
}
