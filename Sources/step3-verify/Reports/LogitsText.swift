import CommandSupport
import TensorFormats
import Verification

/// The document of `logits --json`: the measures, and the result of the search for a fault.
struct LogitsDocument: Encodable {
  /// Whether all limits hold and, if a fault was searched for, none was found.
  let ok: Bool
  /// The measures; `nil` if the candidate produced no logits.
  let report: LogitsReport?
  /// Why there are none.
  let failure: String?
  let bisection: BisectionReport?
  /// Bytes of weights.
  let bytesRead: Int
  let seconds: Double

  private enum CodingKeys: String, CodingKey {
    case ok, failure, bisection, bytesRead, seconds, peakMemoryBytes
  }

  func encode(to encoder: any Encoder) throws {
    // The measures' members come first, at the top level, as documented.
    if var report {
      report.ok = ok
      try report.encode(to: encoder)
    }
    var container = encoder.container(keyedBy: CodingKeys.self)
    if report == nil { try container.encode(ok, forKey: .ok) }
    try container.encodeIfPresent(failure, forKey: .failure)
    try container.encodeIfPresent(bisection, forKey: .bisection)
    try container.encode(bytesRead, forKey: .bytesRead)
    try container.encode(seconds, forKey: .seconds)
    try container.encode(ProcessUsage.peakMemoryBytes, forKey: .peakMemoryBytes)
  }
}

/// The same as text.
struct LogitsText {
  private let document: LogitsDocument
  private let candidate: String
  private let other: String?
  private let reference: String

  init(_ document: LogitsDocument, candidate: String, other: String? = nil, reference: String) {
    self.document = document
    self.candidate = candidate
    self.other = other
    self.reference = reference
  }

  func text(width: Int?) -> String {
    var text = document.report.map { measures($0, width: width) } ?? ""
    if let failure = document.failure { text += "FAILED: \(failure)\n" }
    if let bisection = document.bisection { text += BisectionText(bisection).text(width: width) }
    let rate =
      document.seconds > 0 ? ByteSize(bytes: Int(Double(document.bytesRead) / document.seconds)).decimal : "-"
    text +=
      "\(ByteSize(bytes: document.bytesRead).decimal) of weights in \(NumberText.decimals(document.seconds, 1)) s, \(rate)/s, "
      + "peak memory \(ByteSize(bytes: ProcessUsage.peakMemoryBytes).binary)\n"
    return text + "\(candidate.printable) against \(reference.printable): \(verdict)\n"
  }

  private var verdict: String {
    guard let report = document.report else { return "the candidate produces no logits" }
    let limits =
      report.checks.isEmpty
      ? "no limit was given, so nothing was checked"
      : report.checks.allSatisfy(\.ok) ? "every limit holds" : "a limit does not hold"
    guard let bisection = document.bisection, !bisection.ok else { return limits }
    return limits + "; there is a fault"
  }

  private func measures(_ report: LogitsReport, width: Int?) -> String {
    let other = report.compared
    var table = TextTable(
      [.init("measure"), .init(other == nil ? "value" : "first", .right)]
        + (other == nil ? [] : [.init("second", .right), .init("second - first", .right)]))
    func row(_ name: String, _ value: String, _ second: String? = nil, _ difference: String? = nil) {
      table.append([name, value] + (other == nil ? [] : [second ?? "", difference ?? ""]))
    }
    row("tokens", "\(report.tokens)")
    row(
      "KL divergence, mean", number(report.kl.mean, report.kl.standardError),
      other.map { number($0.kl.mean, $0.kl.standardError) }, other.map { number($0.klDifference) })
    row("KL divergence, median", number(report.kl.median), other.map { number($0.kl.median) })
    row("KL divergence, 99 %", number(report.kl.p99), other.map { number($0.kl.p99) })
    row("KL divergence, largest", number(report.kl.max), other.map { number($0.kl.max) })
    row("same top-1 token", percent(report.top1Agreement), other.map { percent($0.top1Agreement) })
    row("overlap of the top 5", percent(report.top5Overlap), other.map { percent($0.top5Overlap) })
    row("difference of logits, largest", number(report.maxAbsError), other.map { number($0.maxAbsError) })
    row("difference of logits, mean", number(report.meanAbsError))
    if let perplexity = report.perplexity.reference {
      row("perplexity, reference", number(perplexity))
    }
    if let perplexity = report.perplexity.candidate {
      row(
        "perplexity, candidate", number(perplexity), other?.perplexity.candidate.map { number($0) },
        other?.perplexityDifference.map { number($0) })
    }
    if let difference = report.perplexity.difference {
      row(
        "perplexity, candidate - reference", number(difference),
        other?.perplexity.difference.map { number($0) })
    }
    if let worst = report.expertAgreement.min(by: { $0.agreement < $1.agreement }) {
      let mean =
        report.expertAgreement.reduce(0) { $0 + $1.agreement } / Double(report.expertAgreement.count)
      row("same experts, mean of layers", percent(mean))
      row("same experts, layer \(worst.layer)", percent(worst.agreement))
    }
    var text = table.rendered(width: width)
    for check in report.checks {
      let bound = check.name.hasPrefix("min") ? "at least" : "at most"
      text +=
        "\(check.ok ? "ok" : "FAILED"): \(check.name): \(number(check.value)), \(bound) \(number(check.limit))\n"
    }
    if let compared = report.compared { text += preference(compared.klDifference) + "\n" }
    return text
  }

  /// Which of two candidates is closer to the reference, if the difference exceeds two standard errors.
  private func preference(_ difference: Estimate) -> String {
    guard let error = difference.standardError else {
      return "the text is too short to tell the two candidates apart"
    }
    guard difference.value.magnitude > 2 * error else {
      return "the two candidates cannot be told apart by this text"
    }
    let (nearer, which) =
      difference.value < 0 ? (other ?? "", "second") : (candidate, "first")
    let errors =
      error > 0 ? ", by \(NumberText.decimals(difference.value.magnitude / error, 1)) standard errors" : ""
    return "the \(which) candidate (\(nearer.printable)) is closer to the reference\(errors)"
  }
}
