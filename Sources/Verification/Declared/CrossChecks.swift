internal import Checkpoint
internal import Comparison
internal import StoredWeights
internal import TensorFormats

/// The independent readings of both sides of a comparison.
struct CrossChecks: Sendable {
  private let source: ModelWeights
  private let holders: [WeightPairing.Holder]
  private let isAsStored: Bool
  private let isPart: Bool
  private let filter: (@Sendable (String) throws(CheckpointError) -> Bool)?

  /// Their result.
  struct Outcome {
    var report = CrossCheckReport()
    var findings: [TensorReport.Finding] = []
  }

  /// - Parameter filter: Which published names are selected; `nil` for all.
  init(_ pairing: OutputPairing, _ filter: (@Sendable (String) throws(CheckpointError) -> Bool)?) {
    source = pairing.source
    holders = pairing.holders
    isAsStored = pairing.unread != nil
    isPart = pairing.isPart
    self.filter = filter
  }

  /// - Throws: What reading throws, `CancellationError`.
  func run() throws -> Outcome {
    let isWanted = filter ?? { _ in true }
    var outcome = Outcome()
    func add(_ check: CrossCheck) {
      outcome.report.add(check.report)
      outcome.findings += check.findings
    }
    var check = try CrossCheck(
      source, .source, isAsStored: isAsStored, counterparts: holders.map(\.weights.checkpoint),
      isCopied: { _ in true })
    try check.run(isWanted: isWanted)
    add(check)
    reportForgotten(check.used, &outcome)
    let original = try DeclaredConfiguration(source.checkpoint).settings
    for holder in holders {
      let settings = try DeclaredConfiguration(holder.weights.checkpoint).settings
      var check = try CrossCheck(
        holder.weights, .output, part: holder.part, isAsStored: isAsStored, counterparts: [source.checkpoint],
        isCopied: { codes in
          settings == original && source.checkpoint[codes.name]?.elementType == codes.elementType
        })
      try check.run(isWanted: isWanted)
      add(check)
    }
    return outcome
  }

  /// Source tensors that no weight is made from, and which the output does not have either.
  private func reportForgotten(_ used: Set<String>, _ outcome: inout Outcome) {
    guard filter == nil, !isPart, source.checkpoint.format == .safetensors else { return }
    var kept: Set<String> = []
    for holder in holders { kept.formUnion(holder.weights.checkpoint.tensors.map(\.name)) }
    // GGUF has its own names; tensors without one were refused.
    guard holders.allSatisfy({ $0.weights.checkpoint.format == .safetensors }) else { return }
    for tensor in source.checkpoint.tensors where !used.contains(tensor.name) && !kept.contains(tensor.name) {
      guard !DeclaredModule.activations.contains(DeclaredModules.split(tensor.name).suffix) else { continue }
      outcome.findings.append(
        TensorReport.Finding(
          kind: .missing, tensor: tensor.name, part: nil,
          message: "the source has it, but no weight is made from it, and the output does not have it"))
    }
  }
}

extension CrossCheckReport {
  mutating func add(_ other: CrossCheckReport) {
    checked += other.checked
    elements += other.elements
    plain += other.plain
    notChecked += other.notChecked
    modules += other.modules
  }
}
