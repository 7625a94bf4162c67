internal import CommandSupport
internal import Comparison
internal import TensorFormats
internal import Verification

/// A comparison of tensors as text.
struct TensorReportText {
  private let report: TensorReport
  private let all: Bool

  /// - Parameter all: Whether to list all tensors instead of the worst.
  init(_ report: TensorReport, all: Bool) {
    self.report = report
    self.all = all
  }

  private static let worstCount = 20

  func text(width: Int?, heading: (String) -> String) -> String {
    var text = ""
    for finding in report.findings {
      text += "FAILED: "
      if let part = finding.part { text += "\(part.printable): " }
      text += "\(finding.tensor.printable): \(finding.message)\n"
    }
    if !report.findings.isEmpty { text += "\n" }
    // Tensors without any error are counted, not listed.
    let listed = report.tensors.enumerated().filter { all || !$0.element.ok || $0.element.rmse > 0 }
      .sorted { (severity($0.element), $1.offset) > (severity($1.element), $0.offset) }
    let shown = all ? listed[...] : listed.prefix(Self.worstCount)
    if !shown.isEmpty {
      text += tensors(shown.map(\.element)).rendered(width: width, heading: heading)
      if shown.count < listed.count {
        text +=
          "and \(listed.count - shown.count) more with a smaller share of their limit (--all lists them)\n"
      }
      text += "\n"
    }
    if !report.formats.isEmpty { text += formats.rendered(width: width, heading: heading) + "\n" }
    text += crossCheck
    let amount =
      "\(report.tensors.count) \(report.tensors.count == 1 ? "tensor" : "tensors"), \(report.elements) elements"
    if report.ok {
      text += "\(report.output): \(amount): as close to \(report.source) as their formats allow\n"
    } else {
      let count = report.findings.count
      text += "\(report.output): \(count) \(count == 1 ? "finding" : "findings") in \(amount)\n"
    }
    if let first = report.leftOut.first {
      text +=
        "\(report.leftOut.count) left out on purpose, as the manifest says: \(first.printable)"
        + (report.leftOut.count > 1 ? ", ...\n" : "\n")
    }
    if report.partial {
      text += "this is one part of a partition set; tensors of other parts were not expected\n"
    }
    return text
  }

  /// How many weights were decoded independently, and which could not be.
  private var crossCheck: String {
    var text = ""
    if let unread = report.unread {
      text += "compared as stored, because part of it is not supported: \(unread.printable)\n"
    }
    let check = report.crossCheck
    if check.checked > 0 {
      text +=
        "\(check.checked) \(check.checked == 1 ? "weight" : "weights") with scales decoded independently, by "
        + "configuration and definition: \(check.elements) elements\n"
    }
    let unchecked = check.modules.filter { $0.outcome == .notChecked }
    for module in all ? unchecked[...] : unchecked.prefix(Self.worstCount) {
      text += "not decoded independently: \(module.name.printable) in the \(module.side.rawValue)"
      text += (module.reason.map { ": \($0)" } ?? "") + "\n"
    }
    if !all, unchecked.count > Self.worstCount {
      text += "and \(unchecked.count - Self.worstCount) more that were not (--all lists them)\n"
    }
    return text.isEmpty ? "" : text + "\n"
  }

  /// The error as a fraction of its limit; more than 1 is out of line.
  private func severity(_ figures: TensorFigures) -> Double {
    if !figures.ok { return .infinity }
    return figures.rmse == 0 ? 0 : figures.relativeRMSE / figures.limit
  }

  private func tensors(_ figures: [TensorFigures]) -> TextTable {
    let hasParts = figures.contains { $0.part != nil }
    var table = TextTable(
      [.init("tensor", wraps: true)] + (hasParts ? [.init("part")] : []) + [
        .init("from"), .init("to"), .init("rel. RMSE", .right), .init("limit", .right),
        .init("worst row", .right),
        .init("at", .right), .init("max abs", .right), .init("cosine", .right, isOptional: true),
        .init("SNR dB", .right),
        .init(""),
      ])
    for tensor in figures {
      table.append(
        [tensor.name.printable] + (hasParts ? [tensor.part ?? ""] : []) + [
          tensor.from, tensor.to, digits(tensor.relativeRMSE), digits(tensor.limit),
          tensor.worstRow.map { digits($0.relativeRMSE) } ?? "0",
          tensor.worstRow.map { ($0.matrix.map { "\($0):" } ?? "") + "\($0.row)" } ?? "-",
          digits(tensor.maxAbs), cosine(tensor), tensor.snr.map { NumberText.decimals($0, 1) } ?? "exact",
          tensor.ok ? "" : "FAILED",
        ])
    }
    return table
  }

  private var formats: TextTable {
    var table = TextTable([
      .init("from"), .init("to"), .init("tensors", .right), .init("rel. RMSE", .right),
      .init("worst", .right),
      .init("usual", .right), .init("out of line", .right),
    ])
    for format in report.formats {
      table.append([
        format.from, format.to, "\(format.tensors)", digits(format.relativeRMSE),
        digits(format.worstRelativeRMSE),
        format.expected.map { "\(digits($0.gaussian)) to \(digits($0.heavyTailed))" } ?? "0",
        "\(format.outOfLine)",
      ])
    }
    return table
  }

  private func cosine(_ tensor: TensorFigures) -> String {
    tensor.cosine.isFinite ? NumberText.decimals(tensor.cosine, 6) : "-"
  }

  /// Three significant digits: `0.0713`, `1.2e-7`.
  private func digits(_ value: Double) -> String {
    guard value.isFinite else { return value.isNaN ? "-" : "infinite" }
    if value == 0 { return "0" }
    if value < 1e-4 || value >= 1e6 {
      var (mantissa, exponent) = (value, 0)
      while mantissa >= 9.95 { (mantissa, exponent) = (mantissa / 10, exponent + 1) }
      while mantissa < 0.995 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
      return "\(NumberText.decimals(mantissa, 1))e\(exponent)"
    }
    var places = 2
    var bound = 1.0
    while value < bound, places < 7 { (places, bound) = (places + 1, bound / 10) }
    return NumberText.decimals(value, places)
  }
}
