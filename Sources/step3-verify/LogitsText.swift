import CommandSupport
import TensorFormats
import Verification

/// What `logits --json` prints: the measures, and what the search for a fault found.
struct LogitsDocument: Encodable {
  /// Whether all limits hold and, where one was looked for, there is no fault.
  let ok: Bool
  /// The measures; `nil` where the candidate gave none.
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
    // The measures' own members come first, at the top, as the tools' contract has them.
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

/// The same for people.
struct LogitsText {
  private let document: LogitsDocument
  private let candidate: String
  private let reference: String

  init(_ document: LogitsDocument, candidate: String, reference: String) {
    self.document = document
    self.candidate = candidate
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
    guard let report = document.report else { return "the candidate makes no logits" }
    let limits =
      report.checks.isEmpty
      ? "no limit was given, so nothing was checked"
      : report.checks.allSatisfy(\.ok) ? "every limit holds" : "a limit does not hold"
    guard let bisection = document.bisection, !bisection.ok else { return limits }
    return limits + "; there is a fault"
  }

  private func measures(_ report: LogitsReport, width: Int?) -> String {
    var table = TextTable([.init("measure"), .init("value", .right)])
    table.append(["tokens", "\(report.tokens)"])
    table.append(["KL divergence, mean", number(report.kl.mean)])
    table.append(["KL divergence, median", number(report.kl.median)])
    table.append(["KL divergence, 99 %", number(report.kl.p99)])
    table.append(["KL divergence, largest", number(report.kl.max)])
    table.append(["same top-1 token", percent(report.top1Agreement)])
    table.append(["overlap of the top 5", percent(report.top5Overlap)])
    table.append(["difference of logits, largest", number(report.maxAbsError)])
    table.append(["difference of logits, mean", number(report.meanAbsError)])
    if let perplexity = report.perplexity.reference {
      table.append(["perplexity, reference", number(perplexity)])
    }
    if let perplexity = report.perplexity.candidate {
      table.append(["perplexity, candidate", number(perplexity)])
    }
    if let worst = report.expertAgreement.min(by: { $0.agreement < $1.agreement }) {
      let mean =
        report.expertAgreement.reduce(0) { $0 + $1.agreement } / Double(report.expertAgreement.count)
      table.append(["same experts, mean of layers", percent(mean)])
      table.append(["same experts, layer \(worst.layer)", percent(worst.agreement)])
    }
    var text = table.rendered(width: width)
    for check in report.checks {
      let bound = check.name.hasPrefix("min") ? "at least" : "at most"
      text +=
        "\(check.ok ? "ok" : "FAILED"): \(check.name): \(number(check.value)), \(bound) \(number(check.limit))\n"
    }
    return text
  }
}
