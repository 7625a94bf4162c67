import TensorFormats
import Testing
import Verification

/// The measures of logits, against numbers worked out by hand and by NumPy.
@Suite struct LogitsComparisonTests {
  @Test func aModelHasNoDivergenceFromItself() throws {
    var comparison = LogitsComparison()
    let row: [Float] = [3, -1, 0.5, -.infinity, 2]
    for next in 0..<3 { try comparison.add(reference: row.span, candidate: row.span, next: next) }
    let report = comparison.report()
    #expect(report.tokens == 3 && report.ok)
    #expect(report.maxAbsError == 0 && report.meanAbsError == 0)
    #expect(report.kl.max == 0 && report.kl.mean == 0)
    #expect(report.top1Agreement == 1 && report.top5Overlap == 1)
    #expect(report.perplexity.reference == report.perplexity.candidate)
  }

  @Test func measuresOfTwoTokensAreThoseWorkedOutByHand() throws {
    // Softmax (3/4, 1/4) and (1/4, 3/4): the divergence is 3/4 log 3 - 1/4 log 3.
    let log3: Float = 1.098_612_3
    var comparison = LogitsComparison()
    try comparison.add(reference: [log3, 0].span, candidate: [0, log3].span, next: 0)
    let report = comparison.report()
    #expect(abs(report.kl.mean - 0.549_306_144_334_054_8) < 1e-7)
    #expect(report.top1Agreement == 0 && report.top5Overlap == 1)
    #expect(abs((report.perplexity.reference ?? 0) - 4.0 / 3) < 1e-6)
    #expect(abs((report.perplexity.candidate ?? 0) - 4) < 1e-6)
  }

  @Test("an offset changes no probability", arguments: [Float(0), 4096, -65_536])
  func offset(by shift: Float) throws {
    let reference: [Float] = (0..<1000).map { Float($0 % 37) / 4 }
    var comparison = LogitsComparison()
    try comparison.add(reference: reference.span, candidate: reference.map { $0 + shift }.span, next: 3)
    let report = comparison.report()
    #expect(report.kl.max < 1e-12)
    #expect(report.maxAbsError == Double(shift.magnitude))
    #expect(report.perplexity.reference == report.perplexity.candidate)
  }

  @Test func measuresAreThoseOfNumPy() throws {
    let (rows, vocabulary) = (7, 1000)
    var comparison = LogitsComparison()
    for row in 0..<rows {
      let reference = (0..<vocabulary).map { Float((row * 7919 + $0 * 104_729) % 2003) / 128 - 8 }
      let candidate = reference.enumerated().map { token, value in
        value + (Float((row * 31 + token * 57) % 101) - 50) / 1024
      }
      try comparison.add(
        reference: reference.span, candidate: candidate.span,
        next: row + 1 < rows ? (row * 37 + 11) % vocabulary : nil)
    }
    let report = comparison.report()
    func close(_ a: Double?, _ b: Double) -> Bool { abs((a ?? .nan) - b) <= 1e-10 * abs(b) }
    #expect(close(report.kl.mean, 0.000_396_298_314_478_038_5))
    #expect(close(report.kl.median, 0.000_382_357_619_486_063_63))
    #expect(close(report.kl.max, 0.000_449_412_851_690_217_86))
    #expect(close(report.kl.p99, 0.000_449_340_203_640_671_44))
    #expect(close(report.top1Agreement, 1.0 / 7))
    #expect(close(report.top5Overlap, 0.885_714_285_714_285_6))
    #expect(report.maxAbsError == 0.048_828_125)
    #expect(close(report.meanAbsError, 0.024_656_389_508_928_57))
    #expect(close(report.perplexity.reference, 177_906.156_638_499_7))
    #expect(close(report.perplexity.candidate, 177_545.469_277_711_03))
  }

  @Test func expertsAreComparedAsSets() {
    let agreement = ExpertAgreement(
      layer: 4, reference: [1, 2, 3, 7, 8, 9], candidate: [3, 2, 1, 7, 5, 6], perToken: 3)
    #expect(agreement == ExpertAgreement(layer: 4, agreement: 4.0 / 6))
  }

  @Test func limitsPassOrFail() throws {
    var comparison = LogitsComparison()
    try comparison.add(reference: [2, 1, 0].span, candidate: [2, 1.5, 0].span)
    let kl = comparison.report().kl.max
    #expect(kl > 0)
    let kept = LogitsLimits(
      maxKL: kl, maxMeanKL: kl, maxAbs: 0.5, minTop1: 1, minTop5: 1, minExpertAgreement: 0.9)
    let experts = [ExpertAgreement(layer: 4, agreement: 0.95), ExpertAgreement(layer: 5, agreement: 0.9)]
    let good = comparison.report(limits: kept, expertAgreement: experts)
    #expect(good.ok && good.checks.count == 6)
    #expect(
      good.checks.map(\.name) == [
        "max-kl", "max-mean-kl", "max-abs", "min-top1", "min-top5", "min-expert-agreement",
      ])
    for limits in [
      LogitsLimits(maxKL: kl.nextDown), LogitsLimits(maxMeanKL: kl.nextDown), LogitsLimits(maxAbs: 0.49),
      LogitsLimits(minTop1: 1.01), LogitsLimits(minTop5: 1.01), LogitsLimits(minExpertAgreement: 0.91),
    ] {
      #expect(!comparison.report(limits: limits, expertAgreement: experts).ok)
    }
    // A limit on something that was not measured is not met.
    #expect(!comparison.report(limits: LogitsLimits(minExpertAgreement: 0)).ok)
    #expect(!LogitsComparison().report(limits: LogitsLimits(maxKL: 1)).ok)
  }

  @Test func refusesInvalidRowsOfLogits() {
    func code(_ reference: [Float], _ candidate: [Float], _ next: Int? = nil) -> CheckpointError.Code? {
      var comparison = LogitsComparison()
      do throws(CheckpointError) {
        try comparison.add(reference: reference.span, candidate: candidate.span, next: next)
        return nil
      } catch {
        return error.code
      }
    }
    #expect(code([1, 2], [1]) == .invalidRequest)
    #expect(code([], []) == .invalidRequest)
    #expect(code([1, 2], [1, 2], 2) == .invalidRequest)
    #expect(code([1, 2], [1, .nan]) == .nonFinite)
    #expect(code([.infinity, 2], [1, 2]) == .nonFinite)
    #expect(code([-.infinity, -.infinity], [1, 2]) == .nonFinite)
    // A token that only the candidate excludes has infinite surprisal.
    var comparison = LogitsComparison()
    try? comparison.add(reference: [1, 1].span, candidate: [1, -.infinity].span)
    #expect(comparison.report().kl.max == .infinity)
  }
}
