public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Adds up how the logits of two models differ over the positions of a text.
///
/// Keeps one number for each position.
public struct LogitsComparison: Sendable {
  private var divergences: [Double] = []
  private var agreements = 0
  private var overlap = 0.0
  private var maxAbsError = 0.0
  private var sumOfAbsErrors = 0.0
  private var count = 0
  private var losses = (count: 0, reference: 0.0, candidate: 0.0)

  /// Nothing compared yet.
  public init() {}

  /// Positions compared.
  public var tokens: Int { divergences.count }

  /// Adds a position.
  public mutating func add(_ row: LogitsRow) {
    divergences.append(row.divergence)
    if row.agrees { agreements += 1 }
    overlap += row.topFiveOverlap
    maxAbsError = max(maxAbsError, row.maxAbsError)
    sumOfAbsErrors += row.sumOfAbsErrors
    count += row.count
    if let reference = row.referenceLoss, let candidate = row.candidateLoss {
      losses = (losses.count + 1, losses.reference + reference, losses.candidate + candidate)
    }
  }

  /// Compares and adds a position.
  ///
  /// - Parameter next: The token that follows in the text, if it is known.
  /// - Throws: As ``LogitsRow/init(reference:candidate:next:)``.
  public mutating func add(
    reference: Span<Float>, candidate: Span<Float>, next: Int? = nil
  ) throws(CheckpointError) {
    add(try LogitsRow(reference: reference, candidate: candidate, next: next))
  }

  /// The measures, held against limits.
  ///
  /// - Parameters:
  ///   - limits: What the measures must keep.
  ///   - expertAgreement: By layer, from the runtime.
  public func report(
    limits: LogitsLimits = LogitsLimits(), expertAgreement: [ExpertAgreement] = []
  ) -> LogitsReport {
    let sorted = divergences.sorted()
    let positions = Double(max(1, tokens))
    func perplexity(_ sum: Double) -> Double? {
      losses.count == 0 ? nil : exp(sum / Double(losses.count))
    }
    var report = LogitsReport(
      ok: true, tokens: tokens, maxAbsError: maxAbsError,
      meanAbsError: count == 0 ? 0 : sumOfAbsErrors / Double(count),
      kl: LogitsReport.Divergence(
        mean: divergences.reduce(0, +) / positions, median: Self.quantile(0.5, of: sorted),
        max: sorted.last ?? 0, p99: Self.quantile(0.99, of: sorted)),
      top1Agreement: tokens == 0 ? 1 : Double(agreements) / positions,
      top5Overlap: tokens == 0 ? 1 : overlap / positions,
      perplexity: LogitsReport.Perplexity(
        reference: perplexity(losses.reference), candidate: perplexity(losses.candidate)),
      expertAgreement: expertAgreement, checks: [])
    report.checks = limits.checks(report)
    report.ok = report.checks.allSatisfy(\.ok)
    return report
  }

  /// The value below which a share of sorted values lies, between two of them in proportion, as NumPy does it.
  static func quantile(_ share: Double, of sorted: [Double]) -> Double {
    guard let last = sorted.last else { return 0 }
    let position = share * Double(sorted.count - 1)
    let index = Int(position)
    guard index + 1 < sorted.count else { return last }
    let (low, high) = (sorted[index], sorted[index + 1])
    // An infinite divergence times nothing is no number.
    let part = position - Double(index)
    return part == 0 ? low : low + (high - low) * part
  }
}
