internal import Checkpoint
public import ParallelWork
internal import StoredWeights
internal import Step3Model
public import Step3Runtime
public import TensorFormats

/// Finds where a candidate's error exceeds what its formats explain: the first layer, and in it the first tensor.
///
/// Stages (the embedding, the vision side, each layer, the output) are judged by hidden states: each of the candidate's
/// gets the reference's input and the reference's choice of experts, so that one stage's errors do not count against
/// the next. Then the weights of stages that stand out are compared value by value, in the order of the forward pass.
/// If that finds nothing, because a fault is too small to show on these tokens, or in a router, which is not used here,
/// the weights of the other stages are compared in the same order.
///
/// A stage that stands out is not a fault by itself: both models are run by the same code, so if weights are in line
/// and settings equal, only the formats' own errors remain.
public struct Bisection: Sendable {
  private let reference: ModelRunner
  private let candidate: ModelRunner
  private let input: ForwardInput

  /// Prepares a search.
  public init(reference: ModelRunner, candidate: ModelRunner, input: ForwardInput) {
    self.reference = reference
    self.candidate = candidate
    self.input = input
  }

  /// Whether an error in running a model is due to its weights: one is missing, has another shape or produces NaN. A
  /// search says which, and throws the error if the reference is at fault.
  public static func canExplain(_ error: CheckpointError) -> Bool {
    switch error.code {
    case .nonFinite: true
    case .notFound, .malformed: error.tensor != nil
    default: false
    }
  }

  /// The approximate bytes read for judging the stages; comparing weights reads more.
  public var byteCount: Int {
    let chunks = candidate.logitChunks(input.batch, sides: 2).count
    return [reference, candidate].reduce(0) {
      $0 + $1.estimatedBytes(tokens: input.batch.tokens.count, logitChunks: chunks)
    }
  }

  /// Searches.
  ///
  /// - Throws: What reading and running throw; `CancellationError`.
  public func run(monitor: WorkMonitor = WorkMonitor()) async throws -> BisectionReport {
    var report = BisectionReport()
    report.configuration = Self.differences(reference.model.text, candidate.model.text)
    // Layers that differ in shape cannot be compared one by one.
    guard reference.model.text.hasSameShape(as: candidate.model.text) else { return report }
    // The stream before a layer, the candidate's, and the results of norms and embeddings.
    try candidate.checkMemory(input.batch, extraStreams: 3)
    let stages = try compareStages(&report, monitor)
    var order = stages.filter { !$0.ok }
    // Different settings already explain the fault.
    if report.configuration.isEmpty { order += stages.filter(\.ok) }
    for stage in order {
      report.tensors = try await compareTensors(stage.names, monitor)
      guard report.tensors.isEmpty else {
        report.firstLayer = stage.layer
        return report
      }
    }
    if !report.configuration.isEmpty { report.firstLayer = report.layers.first { !$0.ok }?.layer }
    return report
  }

  /// A part of the forward pass whose weights are compared together.
  private struct Stage {
    var layer: Int?
    let names: [Step3TensorName]
    let ok: Bool
  }

  private func compareStages(
    _ report: inout BisectionReport, _ monitor: WorkMonitor
  ) throws -> [Stage] {
    let batch = input.batch
    let recorder = RoutingRecorder()
    let watched = try reference.observed(by: recorder)
    let comparison = StageComparison(reference: watched, candidate: candidate)
    let embedding = try comparison.embedding(batch)
    report.embedding = embedding
    var stages = [Stage(names: [Step3TensorName(.tokenEmbedding)], ok: embedding.ok)]
    if let pixels = input.pixels {
      let names = visionNames
      let vision = try comparison.vision(pixels, names)
      report.vision = vision
      stages.append(Stage(names: names, ok: vision.ok))
    }
    let hidden = try input.embedded(in: watched)
    for layer in 0..<reference.model.text.layerCount {
      try Task.checkCancellation()
      let figures = try comparison.layer(layer, hidden, batch, experts: recorder)
      report.layers.append(LayerFigures(layer: layer, figures: figures))
      stages.append(
        Stage(layer: layer, names: comparison.names(layer: layer), ok: figures.ok))
      monitor.item("layer \(layer)")
      for runner in [reference, candidate] {
        monitor.advance(runner.estimatedBytes(layer: layer, tokens: batch.tokens.count))
      }
    }
    let output = try comparison.output(hidden, batch)
    report.output = output
    stages.append(
      Stage(names: [Step3TensorName(.outputNorm), Step3TensorName(.lmHead)], ok: output.ok))
    return stages
  }

  /// The weights of the vision side in the order in which they are stored.
  private var visionNames: [Step3TensorName] {
    guard let model = reference.visionWeights.model else { return [] }
    return reference.visionWeights.names.compactMap { model.tensor(published: $0) }.filter {
      model.row(of: $0).isVision
    }
  }

  private func compareTensors(
    _ names: [Step3TensorName], _ monitor: WorkMonitor
  ) async throws -> [TensorReport.Finding] {
    let order = Dictionary(
      names.enumerated().map { (reference.model.description.published($1), $0) },
      uniquingKeysWith: { first, _ in first })
    let verification = try TensorVerification(
      candidate.model.weights.checkpoint, source: reference.model.weights.checkpoint,
      filter: { order[$0] != nil })
    let found = try await verification.run(threads: candidate.options.threads, monitor: monitor).findings
    return found.sorted { order[$0.tensor] ?? 0 < order[$1.tensor] ?? 0 }
  }
}
