import CommandSupport
import TensorFormats
import Verification

/// The result of the search for the first fault, as text.
struct BisectionText {
  private let report: BisectionReport

  init(_ report: BisectionReport) { self.report = report }

  func text(width: Int?) -> String {
    var text = "\n" + stages(width: width)
    for line in report.configuration { text += "config.json: \(line)\n" }
    if let layer = report.firstLayer {
      text += "first layer with a fault: \(layer)\n"
    } else if report.ok {
      text += "no fault: settings are the same, and all weights have the errors that their formats explain\n"
    }
    for finding in report.tensors {
      let part = finding.part.map { " in \($0)" } ?? ""
      text += "\(finding.tensor.printable)\(part): \(finding.message)\n"
    }
    return text
  }

  /// The error of each stage on the same input: all stages if there are few, otherwise those that stand out.
  private func stages(width: Int?) -> String {
    var rows: [(String, StageFigures)] = []
    if let figures = report.embedding { rows.append(("embedding", figures)) }
    if let figures = report.vision { rows.append(("pictures", figures)) }
    rows += report.layers.map { ("layer \($0.layer)", $0.figures) }
    if let figures = report.output { rows.append(("output", figures)) }
    if rows.count > Self.few { rows.removeAll(where: \.1.ok) }
    guard !rows.isEmpty else { return "" }
    var table = TextTable([
      .init("stage"), .init("error", .right), .init("worst token", .right), .init("usually below", .right),
      .init(""),
    ])
    for (name, figures) in rows {
      table.append([
        name, percent(figures.relativeError), percent(figures.worstTokenError), percent(figures.limit),
        figures.ok ? "" : "stands out",
      ])
    }
    return table.rendered(width: width)
  }

  private static let few = 20
}
