public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Accumulates how the logits of two models differ over the positions of a text.
///
/// Keeps a few numbers for each position.
public struct LogitsComparison: Sendable {
  private var divergences: [Double] = []
  private var agreements = 0
  private var overlap = 0.0
  private var maxAbsError = 0.0
  private var sumOfAbsErrors = 0.0
  private var count = 0
  /// The losses of both at each position; `nil` if the next token is unknown.
  private var losses: [(reference: Double, candidate: Double)?] = []

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
      losses.append((reference, candidate))
    } else {
      losses.append(nil)
    }
  }

  /// Compares and adds a position.
  ///
  /// - Parameter next: The next token in the text, if known.
  /// - Throws: As ``LogitsRow/init(reference:candidate:next:)``.
  public mutating func add(
    reference: Span<Float>, candidate: Span<Float>, next: Int? = nil
  ) throws(CheckpointError) {
    add(try LogitsRow(reference: reference, candidate: candidate, next: next))
  }

  /// The divergence of each position, in order.
  public var perToken: [Double] { divergences }

  /// The measures, checked against limits.
  ///
  /// - Parameters:
  ///   - limits: The limits for the measures.
  ///   - expertAgreement: By layer, from the runtime.
  ///   - sequences: The positions of each sequence; by default they are all one.
  public func report(
    limits: LogitsLimits = LogitsLimits(), expertAgreement: [ExpertAgreement] = [],
    sequences: [Range<Int>] = []
  ) -> LogitsReport {
    let sorted = divergences.sorted()
    let positions = Double(max(1, tokens))
    let clusters = Estimate.clusters(sequences, positions: tokens)
    var report = LogitsReport(
      ok: true, tokens: tokens, maxAbsError: maxAbsError,
      meanAbsError: count == 0 ? 0 : sumOfAbsErrors / Double(count),
      kl: LogitsReport.Divergence(
        mean: divergences.reduce(0, +) / positions,
        standardError: Estimate.mean(divergences, clusters)?.standardError,
        median: Self.quantile(0.5, of: sorted),
        max: sorted.last ?? 0, p99: Self.quantile(0.99, of: sorted)),
      top1Agreement: tokens == 0 ? 1 : Double(agreements) / positions,
      top5Overlap: tokens == 0 ? 1 : overlap / positions,
      perplexity: perplexity(clusters),
      expertAgreement: expertAgreement, checks: [])
    report.checks = limits.checks(report)
    report.ok = report.checks.allSatisfy(\.ok)
    return report
  }

  /// How another candidate differs from this one, position by position, on the same text and reference.
  ///
  /// - Parameter other: The other one's positions.
  /// - Precondition: Both have the same positions.
  public func difference(of other: LogitsComparison, sequences: [Range<Int>] = []) -> LogitsDifference {
    precondition(tokens == other.tokens, "two texts")
    let clusters = Estimate.clusters(sequences, positions: tokens)
    let report = other.report(sequences: sequences)
    return LogitsDifference(
      maxAbsError: report.maxAbsError, kl: report.kl, top1Agreement: report.top1Agreement,
      top5Overlap: report.top5Overlap, perplexity: report.perplexity,
      klDifference: Estimate.mean(zip(divergences, other.divergences).map { $1 - $0 }, clusters)
        ?? Estimate(value: 0),
      perplexityDifference: Self.perplexities(
        losses.map { $0?.candidate }, other.losses.map { $0?.candidate }, clusters)?.difference)
  }

  private func perplexity(_ clusters: [Range<Int>]) -> LogitsReport.Perplexity {
    guard
      let (reference, candidate, difference) = Self.perplexities(
        losses.map { $0?.reference }, losses.map { $0?.candidate }, clusters)
    else { return LogitsReport.Perplexity() }
    return LogitsReport.Perplexity(reference: reference, candidate: candidate, difference: difference)
  }

  /// Two perplexities of one text, and the second less the first.
  ///
  /// Its error is that of the paired losses: a token's difficulty for both cancels out.
  private static func perplexities(
    _ first: [Double?], _ second: [Double?], _ clusters: [Range<Int>]
  ) -> (first: Double, second: Double, difference: Estimate)? {
    guard let a = Estimate.mean(first, clusters), let b = Estimate.mean(second, clusters) else { return nil }
    let (one, other) = (exp(a.value), exp(b.value))
    // To first order, perplexities change by themselves times their mean losses.
    let changes = zip(first, second).map { first, second -> Double? in
      guard let first, let second else { return nil }
      return other * (second - b.value) - one * (first - a.value)
    }
    return (
      one, other,
      Estimate(value: other - one, standardError: Estimate.mean(changes, clusters)?.standardError)
    )
  }

  /// The quantile of sorted values, with linear interpolation, as in NumPy.
  static func quantile(_ share: Double, of sorted: [Double]) -> Double {
    guard let last = sorted.last else { return 0 }
    let position = share * Double(sorted.count - 1)
    let index = Int(position)
    guard index + 1 < sorted.count else { return last }
    let (low, high) = (sorted[index], sorted[index + 1])
    // Infinity times zero would be NaN.
    let part = position - Double(index)
    return part == 0 ? low : low + (high - low) * part
  }
}
