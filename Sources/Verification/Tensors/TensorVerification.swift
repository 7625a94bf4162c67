internal import ByteStreams
internal import ShardPlanning
internal import Conversion
internal import Quantization
public import Checkpoint
internal import Comparison
internal import StoredWeights
public import ParallelWork
public import TensorFormats

/// Compares every tensor of a model with the one it was made from, value by value.
///
/// Both sides are decoded, whatever their formats, so anything can be compared with anything: GGUF with safetensors, a
/// partition set or one part of it with the whole model. The allowed error of each tensor follows from how it is
/// stored; see ``ErrorBound``. Codes are also decoded independently, from the configuration; see ``CrossCheckReport``.
///
/// Memory depends only on the number of threads and the length of rows. The figures do not depend on the number of
/// threads.
public struct TensorVerification: Sendable {
  private let comparisons: [ErrorComparison]
  private let empty: TensorReport
  private let crossChecks: CrossChecks

  /// Determines what to compare; reads only headers.
  ///
  /// - Parameter filter: Which tensors, by their published names; `nil` for all.
  /// - Throws: `.malformed` if scales do not match their codes or a part states a box outside its tensor;
  ///   `.unsupported` for unsupported schemes.
  public init(
    _ output: Checkpoint, source: Checkpoint,
    filter: (@Sendable (String) throws(CheckpointError) -> Bool)? = nil
  ) throws(CheckpointError) {
    let plan = Self.plan(of: output)
    let pairing = try OutputPairing(
      output, source, excluded: Set(plan?.excluded.map(\.tensor) ?? []),
      isCalibrated: plan?.request.calibration != nil, isWanted: filter ?? { _ in true })
    comparisons = pairing.comparisons
    var report = TensorReport(output: output.path, source: source.path, partial: pairing.isPart)
    report.findings = pairing.findings
    report.unread = pairing.unread
    report.leftOut = pairing.leftOut
    empty = report
    crossChecks = CrossChecks(pairing, filter)
  }

  /// The plan in the output's manifest: what was left out on purpose, and whether codes are calibrated. A missing or
  /// invalid manifest is ignored: then nothing may be missing.
  private static func plan(of output: Checkpoint) -> ShardPlan? {
    (try? Manifest.read(in: output.store))?.plan
  }

  /// The approximate bytes that ``run(threads:monitor:)`` reads.
  public var byteCount: Int { comparisons.reduce(0) { $0 + $1.byteCount } }

  /// Compares.
  ///
  /// - Throws: `CheckpointError` if a file cannot be read or decoded, `CancellationError`. Differences are findings.
  public func run(threads: Int, monitor: WorkMonitor = WorkMonitor()) async throws -> TensorReport {
    let second = try crossChecks.run()
    return report(try await comparisons.run(threads: threads, monitor: monitor), second)
  }

  private func report(_ results: [TensorErrors], _ second: CrossChecks.Outcome) -> TensorReport {
    var outcomes: [TensorOutcome] = []
    var start = 0
    while start < comparisons.count {
      // The pieces of a tensor in one part are contiguous.
      let first = comparisons[start].pair
      var end = start + 1
      while end < comparisons.count, comparisons[end].pair.name == first.name,
        comparisons[end].pair.part == first.part
      { end += 1 }
      var errors = results[start]
      for index in start + 1..<end { errors.merge(results[index]) }
      outcomes.append(TensorOutcome(Array(comparisons[start..<end]), errors))
      start = end
    }
    var report = empty
    report.tensors = outcomes.map(\.figures)
    report.elements = outcomes.reduce(0) { $0 + $1.elements }
    report.findings += outcomes.compactMap { outcome in
      outcome.finding.map { (outcome.severity, $0) }
    }.sorted { ($0.0, $1.1.tensor) > ($1.0, $0.1.tensor) }.map(\.1)
    report.findings = second.findings + report.findings
    report.crossCheck = second.report
    report.formats = Self.summaries(outcomes)
    report.ok = report.findings.isEmpty
    return report
  }

  private static func summaries(_ outcomes: [TensorOutcome]) -> [TensorReport.FormatSummary] {
    var summaries: [[String]: (TensorReport.FormatSummary, squaredErrors: Double, squares: Double)] = [:]
    for outcome in outcomes {
      let key = [outcome.from, outcome.to]
      var (summary, squaredErrors, squares) =
        summaries[key]
        ?? (
          TensorReport.FormatSummary(from: outcome.from, to: outcome.to, expected: outcome.bound?.expected),
          0, 0
        )
      let sums = outcome.errors.sums
      summary.tensors += 1
      summary.elements += outcome.elements
      summary.outOfLine += outcome.finding == nil ? 0 : 1
      summary.maxAbs = max(summary.maxAbs, Double(sums.maximumAbsoluteError))
      if summary.worstTensor == nil || sums.relativeRMSE > summary.worstRelativeRMSE {
        (summary.worstRelativeRMSE, summary.worstTensor) = (sums.relativeRMSE, outcome.name)
      }
      squaredErrors += sums.squaredErrors
      squares += sums.originalSquares
      summary.relativeRMSE = squaredErrors == 0 ? 0 : (squaredErrors / squares).squareRoot()
      summaries[key] = (summary, squaredErrors, squares)
    }
    return summaries.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map(\.value.0)
  }
}
