internal import Checkpoint
public import Inspection
internal import ModelWeights
internal import Step3Model
public import Step3Runtime

/// Finds where a candidate leaves the error that its formats have: the first layer, and in it the first tensor.
///
/// Layers are judged by hidden states: each of the candidate's gets the reference's input and the reference's choice of
/// experts, so that one layer's errors do not count against the next. Then the weights of the first layer that is out of line are
/// compared value by value. Where no layer stands out, because a fault is too small for the tokens at hand to show, the
/// weights of all layers are compared in the order of the forward pass.
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

  /// The bytes that judging the layers reads, about; comparing weights comes on top.
  public var byteCount: Int {
    [reference, candidate].reduce(0) {
      $0 + $1.estimatedBytes(tokens: input.batch.tokens.count, logitChunks: 0)
    }
  }

  /// Searches.
  ///
  /// - Throws: What reading and running throw; `CancellationError`.
  public func run(monitor: WorkMonitor = WorkMonitor()) throws -> BisectionReport {
    var report = BisectionReport()
    report.configuration = Self.differences(reference.model.text, candidate.model.text)
    // Layers that differ in shape cannot be compared one by one.
    guard reference.model.text.hasSameShape(as: candidate.model.text) else { return report }
    try compareLayers(&report, monitor)
    let flagged = report.layers.filter { !$0.ok }.map(\.layer)
    report.firstLayer = flagged.first
    for layer in flagged {
      report.tensors = try compareTensors(Self.names(layer: layer), monitor)
      if !report.tensors.isEmpty {
        report.firstLayer = layer
        return report
      }
    }
    // Nothing in the layers that stand out: everything else, in the order of the forward pass.
    let others: [[Step3TensorName]] =
      [[Step3TensorName(.tokenEmbedding)]]
      + (0..<reference.model.text.layerCount).filter { !flagged.contains($0) }.map(Self.names(layer:))
      + [[Step3TensorName(.outputNorm)], [Step3TensorName(.lmHead)]]
    for names in others {
      report.tensors = try compareTensors(names, monitor)
      guard report.tensors.isEmpty else {
        report.firstLayer = report.firstLayer ?? names.first?.layer
        return report
      }
    }
    return report
  }

  private func compareLayers(_ report: inout BisectionReport, _ monitor: WorkMonitor) throws {
    let recorder = RoutingRecorder()
    let watched = try reference.observed(by: recorder)
    let comparison = LayerComparison(reference: watched.model, candidate: candidate.model)
    var layers: [LayerFigures] = []
    try comparison.run(input.embedded(in: watched), input.batch, experts: recorder) { figures in
      layers.append(figures)
      monitor.item("layer \(figures.layer)")
      for runner in [reference, candidate] {
        monitor.advance(runner.estimatedBytes(layer: figures.layer, tokens: input.batch.tokens.count))
      }
      return true
    }
    report.layers = layers
  }

  private func compareTensors(
    _ names: [Step3TensorName], _ monitor: WorkMonitor
  ) throws -> [TensorReport.Finding] {
    let order = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1.huggingFace, $0) })
    let verification = try TensorVerification(
      candidate.model.weights.checkpoint, source: reference.model.weights.checkpoint,
      filter: { order[$0] != nil })
    let found = try verification.run(threads: candidate.options.threads, monitor: monitor).findings
    return found.sorted { order[$0.tensor] ?? 0 < order[$1.tensor] ?? 0 }
  }

  /// The weights of a layer in the order in which they are used.
  private static func names(layer: Int) -> [Step3TensorName] {
    Step3Module.allCases.filter { $0.scope == .textLayer }.map { Step3TensorName($0, layer: layer) }
  }
}

/// What a search for the first fault found.
public struct BisectionReport: Encodable, Sendable {
  /// Every layer's errors.
  public internal(set) var layers: [LayerFigures] = []
  /// The first layer that is out of line, or whose weights are; `nil` if there is none.
  public internal(set) var firstLayer: Int?
  /// What is wrong with the weights there, in the order in which they are used.
  public internal(set) var tensors: [TensorReport.Finding] = []
  /// Settings of `config.json` that change what is computed and are not the same.
  public internal(set) var configuration: [String] = []

  /// Whether anything is out of line: that no weight and no setting is.
  public var check: LogitsReport.Check {
    let faults = tensors.count + configuration.count
    return LogitsReport.Check(name: "bisect", limit: 0, value: Double(faults), ok: faults == 0)
  }

  /// The first tensor that is out of line.
  public var firstTensor: String? { tensors.first?.tensor }
}

// MARK: - Settings

extension Bisection {
  /// The settings that change what is computed, where they differ.
  static func differences(
    _ reference: Step3Configuration.Text, _ candidate: Step3Configuration.Text
  ) -> [String] {
    var differences: [String] = []
    func compare<Value: Equatable>(_ name: String, _ path: KeyPath<Step3Configuration.Text, Value>) {
      let (a, b) = (reference[keyPath: path], candidate[keyPath: path])
      if a != b { differences.append("\(name): \(a) in the reference, \(b) in the candidate") }
    }
    /// GGUF keeps such numbers in 32 bits.
    func compareNumber(_ name: String, _ path: KeyPath<Step3Configuration.Text, Double>) {
      let (a, b) = (reference[keyPath: path], candidate[keyPath: path])
      if Float(a) != Float(b) { differences.append("\(name): \(a) in the reference, \(b) in the candidate") }
    }
    compare("hidden_size", \.hiddenSize)
    compare("num_hidden_layers", \.layerCount)
    compare("num_attention_heads", \.headCount)
    compare("num_attention_groups", \.keyValueHeadCount)
    compare("head_dim", \.headDimension)
    compare("share_q_dim", \.sharedQueryDimension)
    compare("vocab_size", \.vocabularySize)
    compare("moe_layers_enum", \.moeLayers)
    compare("moe_num_experts", \.expertCount)
    compare("moe_top_k", \.expertsPerToken)
    compare("norm_expert_weight", \.normalizesExpertWeights)
    compareNumber("rms_norm_eps", \.rmsNormEpsilon)
    compareNumber("rope_theta", \.ropeTheta)
    if reference.ropeScaling?.rounded != candidate.ropeScaling?.rounded {
      differences.append("rope_scaling is not the same")
    }
    return differences
  }
}

extension Step3Configuration.Text {
  /// Whether hidden states of both can be compared layer by layer.
  fileprivate func hasSameShape(as other: Self) -> Bool {
    hiddenSize == other.hiddenSize && layerCount == other.layerCount && moeLayers == other.moeLayers
      && expertCount == other.expertCount
  }
}

extension Step3Configuration.RopeScaling {
  /// The same with its numbers in 32 bits, as GGUF keeps them.
  fileprivate var rounded: Self {
    Self(
      kind: kind, factor: Double(Float(factor)), originalContextLength: originalContextLength,
      parameters: parameters.mapValues { Double(Float($0)) })
  }
}
