internal import Checkpoint
internal import ParallelWork
internal import Step3Model
internal import Step3Runtime
internal import StoredWeights
internal import TensorFormats

/// Runs a whole text through a model one layer at a time, so that each weight is read once: attention for some
/// sequences at a time, the feed-forward network for some tokens at a time, and each routed expert for its tokens.
/// Activations between layers are on disk.
///
/// Portions depend only on the text and the model: a matrix product rounds differently if batched with other rows.
struct LayerwiseRun {
  /// The tokens of a portion, unless a single sequence has more.
  static let portion = 2048

  private let model: TextModel
  private let network: LocalFeedForward
  private let runner: ModelRunner
  private let visitor: any LayerVisitor
  private let input: CalibrationInput
  private var monitor: WorkMonitor
  /// Sequences that go through attention together, and the index of their first token.
  private let batches: [(batch: TokenBatch, first: Int)]
  /// The residual stream before and after a layer, alternating.
  private let streams: [ActivationFile]
  /// The normalised input of the feed-forward network.
  private let normalised: ActivationFile

  /// Prepares a run.
  ///
  /// - Parameters:
  ///   - extraMemory: What the visitor needs, in bytes.
  ///   - directory: Where the files are.
  /// - Throws: `.unsupported` if it is not a whole Step-3, `.invalidRequest` if the memory is insufficient.
  init(
    _ weights: ModelWeights, _ input: CalibrationInput, visitor: any LayerVisitor, options: RuntimeOptions,
    directory: WorkingDirectory
  ) throws {
    runner = try ModelRunner(weights, options: options, observer: visitor)
    model = runner.model
    guard !weights.isPart, let network = model.feedForward as? LocalFeedForward else {
      throw CheckpointError(
        .unsupported, "is a part of a partition set, but calibration needs the whole model",
        path: weights.checkpoint.path, remedy: "name the directory of the whole set")
    }
    self.network = network
    self.visitor = visitor
    self.input = input
    monitor = WorkMonitor()
    var batches: [(batch: TokenBatch, first: Int)] = []
    var (pending, first): ([[Int]], Int) = ([], 0)
    var (count, next) = (0, 0)
    func close() {
      guard !pending.isEmpty else { return }
      batches.append((TokenBatch(pending), first))
      (pending, first, count) = ([], next, 0)
    }
    for sequence in input.sequences {
      if count + sequence.count > Self.portion { close() }
      pending.append(sequence)
      count += sequence.count
      next += sequence.count
    }
    close()
    self.batches = batches
    for (batch, _) in batches { try runner.checkMemory(batch, extraStreams: 2) }
    let hidden = model.text.hiddenSize
    streams = try ["stream-0", "stream-1"].map {
      try ActivationFile(directory.path(of: $0), rows: input.tokenCount, columns: hidden)
    }
    normalised = try ActivationFile(
      directory.path(of: "normalised"), rows: input.tokenCount, columns: hidden)
  }

  /// Runs the remaining layers.
  ///
  /// - Parameters:
  ///   - done: The number of layers already done.
  ///   - end: The first layer not to run; `nil` to run all.
  ///   - note: Called after each layer with the number done, once everything is on disk.
  func run(after done: Int, upTo end: Int? = nil, note: (Int) throws -> Void) throws {
    for layer in 0..<done { monitor.advance(bytes(layer: layer).total) }
    if done == 0 {
      for (batch, first) in batches { try streams[0].write(model.embed(batch), from: first) }
    }
    let end = end ?? model.text.layerCount
    for layer in min(done, end)..<end {
      try run(layer: layer)
      try visitor.finished(layer: layer)
      try streams[(layer + 1) % 2].synchronize()
      try note(layer + 1)
    }
  }

  /// The same run with a progress monitor.
  func monitored(by monitor: WorkMonitor) -> LayerwiseRun {
    var copy = self
    copy.monitor = monitor
    return copy
  }

  /// The total bytes of weights, assuming average routing.
  var byteCount: Int { (0..<model.text.layerCount).reduce(0) { $0 + bytes(layer: $1).total } }

  private func run(layer: Int) throws {
    let (before, after) = (streams[layer % 2], streams[(layer + 1) % 2])
    let bytes = bytes(layer: layer)
    let title = "layer \(layer + 1) of \(model.text.layerCount)"
    monitor.item("\(title), attention")
    var experts: [Int32] = []
    var weights: [Float] = []
    for (batch, first) in batches {
      try Task.checkCancellation()
      let hidden = try before.read(first..<first + batch.tokens.count)
      let (portion, routing) = try model.attend(layer: layer, hidden, batch)
      try after.write(hidden, from: first)
      try normalised.write(portion, from: first)
      if let routing {
        experts += routing.experts
        weights += routing.weights
      }
      advance(bytes.attention, batch.tokens.count)
    }
    try visitor.finished(.attention, layer: layer)

    monitor.item("\(title), \(experts.isEmpty ? "dense network" : "shared expert")")
    for first in stride(from: 0, to: input.tokenCount, by: Self.portion) {
      try Task.checkCancellation()
      let rows = first..<min(first + Self.portion, input.tokenCount)
      guard let output = try network.common(layer: layer, try normalised.read(rows)) else { continue }
      let sums = try after.read(rows)
      sums.add(output)
      try after.write(sums, from: first)
      advance(bytes.common, rows.count)
    }
    try visitor.finished(.common, layer: layer)

    if !experts.isEmpty {
      let routing = Routing(
        perToken: experts.count / input.tokenCount, experts: experts, weights: weights)
      for expert in 0..<model.text.expertCount {
        monitor.item("\(title), expert \(expert)")
        try run(expert: expert, layer: layer, routing, into: after, bytes)
      }
    }
    for first in stride(from: 0, to: input.tokenCount, by: Self.portion) {
      try model.checkFinite(
        after.read(first..<min(first + Self.portion, input.tokenCount)), layer: layer)
    }
  }

  private func run(
    expert: Int, layer: Int, _ routing: Routing, into stream: ActivationFile, _ bytes: LayerBytes
  ) throws {
    let (tokens, weights) = routing.tokens(of: expert)
    for first in stride(from: 0, to: tokens.count, by: Self.portion) {
      try Task.checkCancellation()
      let range = first..<min(first + Self.portion, tokens.count)
      let numbers = Array(tokens[range])
      let rows = try normalised.read(numbers)
      guard let output = try network.routed(expert: expert, layer: layer, rows) else { continue }
      try stream.add(output, weights: Array(weights[range]), to: numbers)
      advance(bytes.expert, numbers.count)
    }
    try visitor.finished(.expert(expert), layer: layer)
  }

  private func advance(_ bytes: Int, _ tokens: Int) {
    monitor.advance(Int(Double(bytes) * Double(tokens) / Double(input.tokenCount)))
  }

  private struct LayerBytes {
    var attention = 0
    var common = 0
    /// Of one expert.
    var expert = 0
    /// With as many experts as a token is routed to.
    var total = 0
  }

  private func bytes(layer: Int) -> LayerBytes {
    var bytes = LayerBytes()
    for row in model.description.modules where row.scope == .textLayer {
      guard let weight = model.weights[Step3TensorName(row.module, layer: layer)] else { continue }
      if row.expertAxis != nil {
        bytes.expert += weight.byteCount / max(1, weight.matrixCount)
      } else if row.role == .denseFFN || row.role == .sharedExpert {
        bytes.common += weight.byteCount
      } else {
        bytes.attention += weight.byteCount
      }
    }
    bytes.total = bytes.attention + bytes.common + bytes.expert * model.text.expertsPerToken
    return bytes
  }
}
