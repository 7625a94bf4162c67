/// How close a model's logits are to a reference's.
public struct LogitsReport: Encodable, Hashable, Sendable {
  /// Whether every check passed; true without checks.
  public var ok: Bool
  /// Positions compared.
  public var tokens: Int
  /// The largest absolute difference of two logits.
  public var maxAbsError: Double
  /// The mean absolute difference.
  public var meanAbsError: Double
  public var kl: Divergence
  /// The share of positions at which both have the same top-1 token.
  public var top1Agreement: Double
  /// The mean share of the reference's top-5 tokens that are among the candidate's.
  public var top5Overlap: Double
  public var perplexity: Perplexity
  /// How often both route to the same experts, by layer; empty if routing was not compared.
  public var expertAgreement: [ExpertAgreement]
  /// The limits, and whether they hold.
  public var checks: [Check]
  /// Another candidate beside this one; `nil` where none was given.
  public var compared: LogitsDifference?

  /// KL(reference || candidate) over the positions, in nats.
  public struct Divergence: Encodable, Hashable, Sendable {
    public var mean: Double
    /// One standard error of the mean; `nil` if the text is too short. See ``Estimate``.
    public var standardError: Double?
    public var median: Double
    public var max: Double
    /// The 99th percentile.
    public var p99: Double
    /// Each position's divergence, in text order; `nil` unless requested.
    public var perToken: [Double]?
  }

  /// The exponential of the mean negative log-likelihood of the next tokens; `nil` if none is known.
  public struct Perplexity: Encodable, Hashable, Sendable {
    public var reference: Double?
    public var candidate: Double?
    /// The candidate's minus the reference's, with the paired error.
    public var difference: Estimate?
  }

  /// A limit and the value that it applies to.
  public struct Check: Encodable, Hashable, Sendable {
    /// The option's name, without dashes.
    public var name: String
    public var limit: Double
    public var value: Double
    public var ok: Bool
  }
}

/// How a second candidate does on the same text, and how it differs from the first.
public struct LogitsDifference: Encodable, Hashable, Sendable {
  /// The largest absolute difference between its logits and the reference's.
  public var maxAbsError: Double
  public var kl: LogitsReport.Divergence
  public var top1Agreement: Double
  public var top5Overlap: Double
  public var perplexity: LogitsReport.Perplexity
  /// Its mean divergence minus the first candidate's: below 0 it is better. The error is paired.
  public var klDifference: Estimate
  /// Its perplexity minus the first candidate's; `nil` if no next token is known.
  public var perplexityDifference: Estimate?
}

/// How often two models choose the same experts in a layer.
public struct ExpertAgreement: Encodable, Hashable, Sendable {
  /// The layer's number.
  public var layer: Int
  /// The mean share of the reference's chosen experts that the candidate chooses too.
  public var agreement: Double

  /// Describes a layer.
  public init(layer: Int, agreement: Double) {
    self.layer = layer
    self.agreement = agreement
  }

  /// Counts, for every position, how many of the reference's experts the candidate chooses.
  ///
  /// - Parameters:
  ///   - reference: The chosen experts, position by position, `perToken` each.
  ///   - candidate: Likewise; the order within a position does not matter.
  /// - Precondition: Both have as many, a whole number of positions.
  public init(layer: Int, reference: [Int32], candidate: [Int32], perToken: Int) {
    precondition(
      perToken > 0 && reference.count == candidate.count && reference.count % perToken == 0,
      "unequal choices of experts")
    var same = 0
    for start in stride(from: 0, to: reference.count, by: perToken) {
      let other = candidate[start..<start + perToken]
      same += reference[start..<start + perToken].count { other.contains($0) }
    }
    self.layer = layer
    agreement = reference.isEmpty ? 1 : Double(same) / Double(reference.count)
  }
}

/// The limits that a candidate must meet.
public struct LogitsLimits: Hashable, Sendable {
  /// The largest allowed divergence of any position.
  public var maxKL: Double?
  /// The largest allowed mean divergence.
  public var maxMeanKL: Double?
  /// The largest allowed absolute difference of two logits.
  public var maxAbs: Double?
  /// The smallest allowed share of positions with the same top-1 token.
  public var minTop1: Double?
  /// The smallest allowed overlap of the top-5 tokens.
  public var minTop5: Double?
  /// The smallest allowed expert agreement in any layer.
  public var minExpertAgreement: Double?

  /// No limits.
  public init(
    maxKL: Double? = nil, maxMeanKL: Double? = nil, maxAbs: Double? = nil, minTop1: Double? = nil,
    minTop5: Double? = nil, minExpertAgreement: Double? = nil
  ) {
    self.maxKL = maxKL
    self.maxMeanKL = maxMeanKL
    self.maxAbs = maxAbs
    self.minTop1 = minTop1
    self.minTop5 = minTop5
    self.minExpertAgreement = minExpertAgreement
  }

  /// The checks for all limits that are set. NaN fails any limit, and so does a value that was not measured.
  func checks(_ report: LogitsReport) -> [LogitsReport.Check] {
    let measured = report.tokens > 0
    func value(_ value: Double?) -> Double { measured ? value ?? .nan : .nan }
    let atMost: [(String, Double?, Double)] = [
      ("max-kl", maxKL, value(report.kl.max)), ("max-mean-kl", maxMeanKL, value(report.kl.mean)),
      ("max-abs", maxAbs, value(report.maxAbsError)),
    ]
    let atLeast: [(String, Double?, Double)] = [
      ("min-top1", minTop1, value(report.top1Agreement)), ("min-top5", minTop5, value(report.top5Overlap)),
      (
        "min-expert-agreement", minExpertAgreement,
        value(report.expertAgreement.map(\.agreement).min())
      ),
    ]
    return atMost.compactMap { name, limit, value in
      limit.map { LogitsReport.Check(name: name, limit: $0, value: value, ok: value <= $0) }
    }
      + atLeast.compactMap { name, limit, value in
        limit.map { LogitsReport.Check(name: name, limit: $0, value: value, ok: value >= $0) }
      }
  }
}
