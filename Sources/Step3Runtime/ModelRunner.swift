internal import Checkpoint
public import StoredWeights
internal import Step3Model
public import TensorFormats

/// Takes prompts through a language model, from tokens to logits, within a memory budget.
public struct ModelRunner: Sendable {
  /// The model.
  public let model: TextModel
  /// The limits.
  public let options: RuntimeOptions
  /// The weights of the vision side, which may be a separate part.
  public let visionWeights: ModelWeights

  /// Prepares to run a model.
  ///
  /// - Parameters:
  ///   - model: The text side.
  ///   - options: Threads and memory.
  ///   - visionWeights: The vision side, if not in the model's own weights.
  public init(_ model: TextModel, options: RuntimeOptions, visionWeights: ModelWeights? = nil) {
    self.model = model
    self.options = options
    self.visionWeights = visionWeights ?? model.weights
  }

  /// Prepares to run the whole model of a checkpoint in this process.
  ///
  /// - Throws: `.unsupported` if the checkpoint is not a Step-3.
  public init(
    _ weights: ModelWeights, options: RuntimeOptions, observer: (any ForwardObserver)? = nil
  ) throws(CheckpointError) {
    self.init(
      try TextModel(weights, products: Products(threads: options.threads), observer: observer),
      options: options)
  }

  /// The same model, with an observer.
  ///
  /// - Throws: Nothing that preparing the model would not have thrown.
  public func observed(by observer: any ForwardObserver) throws(CheckpointError) -> ModelRunner {
    ModelRunner(try model.observed(by: observer), options: options, visionWeights: visionWeights)
  }

  /// The progress of a run.
  public enum Progress: Sendable {
    /// A layer is done, along with this many of the estimated bytes.
    case layer(Int, of: Int, bytes: Int)
    /// Some logits are done.
    case logits(bytes: Int)
  }

  /// Runs all layers and the last norm.
  ///
  /// - Parameters:
  ///   - batch: The tokens.
  ///   - embedded: The embeddings to start with, if not just those of the tokens: with image features merged in.
  ///   - cache: For generation.
  ///   - progress: Called after each layer.
  /// - Returns: `[tokens, hidden]`, what ``TextModel/logits(_:)`` takes.
  /// - Throws: `.invalidRequest` if the batch needs more memory than allowed, and what the model throws.
  public func run(
    _ batch: TokenBatch, embedded: Activations? = nil, cache: KeyValueCache? = nil,
    progress: (Progress) -> Void = { _ in }
  ) throws -> Activations {
    try MemoryNeed(model.text, threads: options.threads).check(batch, budget: options.memory)
    let hidden = try embedded ?? model.embed(batch)
    precondition(hidden.rows == batch.tokens.count)
    model.note(.embedding, nil, hidden)
    let count = model.text.layerCount
    for layer in 0..<count {
      try Task.checkCancellation()
      try model.run(layer: layer, hidden, batch, cache: cache)
      progress(.layer(layer, of: count, bytes: estimatedBytes(layer: layer, tokens: batch.tokens.count)))
    }
    return try model.finalNorm(hidden)
  }

  /// Checks that a batch fits the budget, along with copies of the residual stream that the caller keeps.
  ///
  /// - Throws: `.invalidRequest` with what would fit.
  public func checkMemory(_ batch: TokenBatch, extraStreams: Int) throws(CheckpointError) {
    try MemoryNeed(model.text, threads: options.threads, extraStreams: extraStreams).check(
      batch, budget: options.memory)
  }

  /// The bytes of weights that computing logits of some tokens reads.
  public var bytesPerLogitChunk: Int { outputBytes }

  /// Computes logits for as many tokens at a time as the budget allows.
  ///
  /// - Parameters:
  ///   - normalised: What ``run(_:embedded:cache:progress:)`` gave.
  ///   - batch: The tokens.
  ///   - progress: Called after each layer.
  ///   - body: Receives the indices of some tokens and their logits, `[tokens, vocabulary]`, in order.
  public func logits(
    _ normalised: Activations, of batch: TokenBatch, progress: (Progress) -> Void = { _ in },
    _ body: (_ tokens: Range<Int>, _ logits: Activations) throws -> Void
  ) throws {
    for tokens in logitChunks(batch, sides: 1) {
      try body(tokens, try model.logits(normalised.copy(rows: tokens)))
      progress(.logits(bytes: outputBytes))
    }
  }

  /// The ranges of tokens whose logits fit the budget, with `sides` of them at a time.
  public func logitChunks(_ batch: TokenBatch, sides: Int) -> [Range<Int>] {
    let rows = MemoryNeed(model.text, threads: options.threads).logitRows(
      batch, budget: options.memory, sides: sides)
    return stride(from: 0, to: batch.tokens.count, by: rows).map {
      $0..<min($0 + rows, batch.tokens.count)
    }
  }
}

// MARK: - Generating

extension ModelRunner {
  /// Continues each prompt greedily: always with the top-1 token, the lowest id on ties.
  ///
  /// - Parameters:
  ///   - prompts: The token ids of each prompt.
  ///   - count: Tokens per prompt.
  ///   - stop: Tokens that end a continuation; they are part of it.
  ///   - embedded: As for ``run(_:embedded:cache:progress:)``, for all prompts one after the other.
  ///   - step: Called after each step with the tokens chosen, `nil` for prompts that have ended.
  /// - Returns: The continuations.
  public func generate(
    _ prompts: [[Int]], count: Int, stop: Set<Int> = [], embedded: Activations? = nil,
    step: ([Int?]) -> Void = { _ in }
  ) throws -> [[Int]] {
    let cache = KeyValueCache(layerCount: model.text.layerCount, sequenceCount: prompts.count)
    var continuations = [[Int]](repeating: [], count: prompts.count)
    var batch = TokenBatch(prompts)
    var start = embedded
    // Prompts that have ended contribute no tokens.
    var running = Array(prompts.indices).filter { !prompts[$0].isEmpty }
    for _ in 0..<count where !running.isEmpty {
      let normalised = try run(batch, embedded: start, cache: cache)
      start = nil
      let last = running.map { batch.ranges[$0].upperBound - 1 }
      let logits = try model.logits(normalised.gather(last))
      var chosen = [Int?](repeating: nil, count: prompts.count)
      for (row, prompt) in running.enumerated() {
        let token = Self.largest(logits[row])
        continuations[prompt].append(token)
        chosen[prompt] = token
      }
      step(chosen)
      running = running.filter { !stop.contains(continuations[$0].last ?? -1) }
      let next = prompts.indices.map { running.contains($0) ? [continuations[$0].last ?? 0] : [] }
      batch = TokenBatch(
        next, firstPositions: prompts.indices.map { prompts[$0].count + continuations[$0].count - 1 })
    }
    return continuations
  }

  /// The index of the largest element, the first on ties.
  static func largest(_ row: Span<Float>) -> Int {
    var best = 0
    for index in row.indices where row[index] > row[best] { best = index }
    return best
  }
}

// MARK: - Estimates

extension ModelRunner {
  /// The approximate bytes of weights that a run over `tokens` tokens reads: which experts are chosen is not known
  /// beforehand.
  public func estimatedBytes(tokens: Int, logitChunks: Int) -> Int {
    (0..<model.text.layerCount).reduce(0) { $0 + estimatedBytes(layer: $1, tokens: tokens) }
      + logitChunks * outputBytes
  }

  private var outputBytes: Int {
    (model.weights[Step3TensorName(.lmHead)] ?? model.weights[Step3TensorName(.tokenEmbedding)])?.byteCount
      ?? 0
  }

  /// The approximate bytes that a layer reads.
  public func estimatedBytes(layer: Int, tokens: Int) -> Int {
    let text = model.text
    var bytes = 0
    for module in model.description.modules where module.scope == .textLayer {
      guard let weight = model.weights[Step3TensorName(module.module, layer: layer)] else { continue }
      guard module.expertAxis != nil else {
        bytes += weight.byteCount
        continue
      }
      // Each token misses an expert with the same probability, assuming uniform routing.
      let missed = 1 - Double(text.expertsPerToken) / Double(max(1, text.expertCount))
      var share = 1.0
      for _ in 0..<min(tokens, 4096) { share *= missed }
      bytes += Int(Double(weight.byteCount) * (1 - share))
    }
    return bytes
  }
}
