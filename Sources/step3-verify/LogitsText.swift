import CommandSupport
import TensorFormats
import Verification

/// What `logits --json` prints: the measures, and what the search for a fault found.
struct LogitsDocument: Encodable {
  let report: LogitsReport
  let bisection: BisectionReport?
  /// Bytes of weights.
  let bytesRead: Int
  let seconds: Double

  private enum CodingKeys: String, CodingKey {
    case bisection, bytesRead, seconds, peakMemoryBytes
  }

  func encode(to encoder: any Encoder) throws {
    // The measures' own members come first, at the top, as the tools' contract has them.
    try report.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
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
    let report = document.report
    var table = TextTable([.init("measure"), .init("value", .right)])
    table.append(["tokens", "\(report.tokens)"])
    table.append(["KL divergence, mean", number(report.kl.mean)])
    table.append(["KL divergence, median", number(report.kl.median)])
    table.append(["KL divergence, 99 %", number(report.kl.p99)])
    table.append(["KL divergence, largest", number(report.kl.max)])
    table.append(["same likeliest token", percent(report.top1Agreement)])
    table.append(["overlap of the five likeliest", percent(report.top5Overlap)])
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
    if let bisection = document.bisection { text += BisectionText(bisection).text(width: width) }
    let rate =
      document.seconds > 0 ? ByteSize(bytes: Int(Double(document.bytesRead) / document.seconds)).decimal : "-"
    text +=
      "\(ByteSize(bytes: document.bytesRead).decimal) of weights in \(decimals(document.seconds, 1)) s, \(rate)/s, "
      + "peak memory \(ByteSize(bytes: ProcessUsage.peakMemoryBytes).binary)\n"
    let verdict =
      report.checks.isEmpty
      ? "no limit was given, so nothing was checked"
      : report.ok ? "every limit holds" : "a limit does not hold"
    return text + "\(candidate.printable) against \(reference.printable): \(verdict)\n"
  }
}

/// What the search for the first fault found, for people.
struct BisectionText {
  private let report: BisectionReport

  init(_ report: BisectionReport) { self.report = report }

  func text(width: Int?) -> String {
    var text = "\n"
    for line in report.configuration { text += "config.json: \(line)\n" }
    let flagged = report.layers.filter { !$0.ok }
    if !report.layers.isEmpty {
      var table = TextTable([
        .init("layer", .right), .init("error", .right), .init("worst token", .right), .init("limit", .right),
        .init(""),
      ])
      // All of them where there are few, otherwise those that matter.
      for layer in report.layers where report.layers.count <= 16 || !layer.ok {
        table.append([
          "\(layer.layer)", percent(layer.relativeError), percent(layer.worstTokenError),
          percent(layer.limit),
          layer.ok ? "" : "out of line",
        ])
      }
      if report.layers.count <= 16 || !flagged.isEmpty { text += table.rendered(width: width) }
    }
    if let layer = report.firstLayer {
      text += "first layer out of line: \(layer)\n"
    } else if report.tensors.isEmpty {
      text += "every layer adds what its formats let it\n"
    }
    for finding in report.tensors {
      let part = finding.part.map { " in \($0)" } ?? ""
      text += "\(finding.tensor.printable)\(part): \(finding.message)\n"
    }
    if report.tensors.isEmpty, report.firstLayer != nil {
      text +=
        report.configuration.isEmpty
        ? "its weights are what their formats make them: the error is that of the formats, added up\n"
        : "its weights are what their formats make them; the configuration is not the same\n"
    }
    return text
  }
}

/// A figure with four digits that count.
func number(_ value: Double) -> String {
  guard value.isFinite else { return "\(value)" }
  if value == 0 { return "0" }
  let magnitude = abs(value)
  if magnitude >= 1000 { return decimals(value, 1) }
  if magnitude >= 1 { return decimals(value, 4) }
  if magnitude >= 1e-4 { return decimals(value, 6) }
  var (mantissa, exponent) = (value, 0)
  while abs(mantissa) < 1 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
  return "\(decimals(mantissa, 2))e\(exponent)"
}

/// A share as a percentage.
func percent(_ share: Double) -> String {
  guard share.isFinite else { return "\(share)" }
  return share > 0 && share < 1e-4
    ? "\(number(share * 100)) %" : "\(decimals(share * 100, share < 0.1 ? 3 : 2)) %"
}

/// A number with so many decimals.
func decimals(_ value: Double, _ count: Int) -> String {
  var scale = 1.0
  for _ in 0..<count { scale *= 10 }
  let rounded = (abs(value) * scale).rounded()
  guard rounded < 1e15 else { return "\(value)" }
  let (whole, fraction) = Int(rounded).quotientAndRemainder(dividingBy: Int(scale))
  let digits = String(fraction)
  let sign = value < 0 && rounded > 0 ? "-" : ""
  return count == 0
    ? "\(sign)\(whole)" : "\(sign)\(whole)." + String(repeating: "0", count: count - digits.count) + digits
}
