public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// How two models' logits for one position differ.
///
/// Rows are independent: make them on any number of threads and pass them to ``LogitsComparison`` in order of position.
public struct LogitsRow: Hashable, Sendable {
  /// KL(reference || candidate) of the two softmax distributions, in nats; never negative.
  public let divergence: Double
  /// Whether both have the same top-1 token; the first on ties.
  public let agrees: Bool
  /// The share of the reference's top-5 tokens that are among the candidate's.
  public let topFiveOverlap: Double
  /// The largest absolute difference.
  public let maxAbsError: Double
  /// The sum of absolute differences, and how many there are.
  public let sumOfAbsErrors: Double
  public let count: Int
  /// The negative log-probability of the next token; `nil` if unknown.
  public let referenceLoss: Double?
  public let candidateLoss: Double?

  /// Compares the logits of one position.
  ///
  /// - Parameters:
  ///   - reference: The reference's logit for every token.
  ///   - candidate: The candidate's; as many.
  ///   - next: The next token in the text, if known.
  /// - Throws: `.invalidRequest` for rows of unequal length, empty ones, and a token out of range; `.nonFinite` for NaN
  ///   and positive infinity. Negative infinity means an impossible token.
  /// - Complexity: O(*n*): one pass for the extremes, one for two exponentials and the sums.
  public init(reference: Span<Float>, candidate: Span<Float>, next: Int? = nil) throws(CheckpointError) {
    guard reference.count == candidate.count, !reference.isEmpty else {
      throw CheckpointError(
        .invalidRequest, "\(candidate.count) logits cannot be compared with \(reference.count)")
    }
    if let next, !reference.indices.contains(next) {
      throw CheckpointError(
        .invalidRequest, "token \(next) is not among the \(reference.count) of the vocabulary")
    }
    let (mine, other) = (
      try Extremes(reference, "the reference"), try Extremes(candidate, "the candidate")
    )
    // Both sides relative to their own maximum: sums of exponentials then lie between 1 and n.
    var referenceSum = 0.0
    var candidateSum = 0.0
    var weighted = 0.0
    var largest = 0.0
    var total = 0.0
    for index in reference.indices {
      let (r, c) = (Double(reference[index]), Double(candidate[index]))
      let (a, b) = (r - mine.maximum, c - other.maximum)
      let share = exp(a)
      referenceSum += share
      candidateSum += exp(b)
      // 0 · log 0 is 0, so tokens that the reference excludes cost nothing.
      if share > 0 { weighted += share * (a - b) }
      let difference = r == c ? 0 : abs(r - c)
      largest = max(largest, difference)
      total += difference
    }
    let (logReference, logCandidate) = (log(referenceSum), log(candidateSum))
    divergence = max(0, weighted / referenceSum - (logReference - logCandidate))
    agrees = mine.top.first == other.top.first
    topFiveOverlap = Double(mine.top.count { other.top.contains($0) }) / Double(mine.top.count)
    maxAbsError = largest
    sumOfAbsErrors = total
    count = reference.count
    referenceLoss = next.map { logReference - (Double(reference[$0]) - mine.maximum) }
    candidateLoss = next.map { logCandidate - (Double(candidate[$0]) - other.maximum) }
  }

  /// The largest logits of a row.
  private struct Extremes {
    let maximum: Double
    /// The top-5 tokens, or all if there are fewer; the first on ties.
    let top: [Int]

    init(_ row: Span<Float>, _ whose: String) throws(CheckpointError) {
      let wanted = min(5, row.count)
      var top: [Int] = []
      var least = -Float.infinity
      for index in row.indices {
        let value = row[index]
        // NaN has no order, so it has to be checked for.
        guard value < .infinity else {
          throw CheckpointError(.nonFinite, "the logit of token \(index) of \(whose) is \(value)")
        }
        guard top.count < wanted || value > least else { continue }
        let place = top.firstIndex { row[$0] < value } ?? top.count
        top.insert(index, at: place)
        if top.count > wanted { top.removeLast() }
        if top.count == wanted { least = row[top[wanted - 1]] }
      }
      maximum = Double(row[top[0]])
      self.top = top
      guard maximum > -.infinity else {
        throw CheckpointError(.nonFinite, "all logits of \(whose) are negative infinity")
      }
    }
  }
}
