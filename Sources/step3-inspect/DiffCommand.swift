public import ArgumentParser
internal import CommandSupport
public import Inspection
internal import TensorFormats

extension DifferenceReport.Order: ExpressibleByArgument {}

/// `step3-inspect diff`
struct DiffCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Compare two checkpoints: names, shapes, types, bytes, and values where they differ.",
    discussion: """
      Formats and types may differ: Step-3's GGUF names are matched with the published ones, values are compared after \
      decoding, and codes are multiplied by their scales, whatever the scheme. Slices and copies in the parts of a \
      partition set are compared with the tensors they were taken from. Exit code 0 if every tensor has a counterpart \
      with the same shape and values, 1 otherwise. The relative error is ||A - B|| / ||A|| over the elements that are \
      finite in both.
      """)

  @Argument(help: "The first checkpoint.", completion: .file())
  var a: String

  @Argument(help: "The second checkpoint.", completion: .file())
  var b: String

  @Flag(name: .long, help: "Also count tensors with equal values but different types or bytes as different.")
  var exact = false

  @Flag(name: .long, help: "Compare only names, types and shapes; read no weights.")
  var headersOnly = false

  @OptionGroup var names: NameFilter

  @Option(name: .long, help: "The order of the tensors: largest relative error first, or the order in A.")
  var sort: DifferenceReport.Order = .worst

  @OptionGroup var style: ReportStyle
  @OptionGroup var common: CommonOptions

  func validate() throws {
    try style.check(common)
    if exact, headersOnly {
      throw ValidationError("--exact is about values, which --headers-only does not read.")
    }
  }

  func run() async throws {
    let first = try openCheckpoint(a, common)
    let second = try openCheckpoint(b, common)
    let request = DifferenceReport.Request(
      exact: exact, headersOnly: headersOnly, matches: try names.matcher(), order: sort)
    let preparation = try DifferenceReport.Preparation(first, second, request: request)
    let threads = common.threadCount
    let report = try await common.reporting("comparing", total: preparation.byteCount) {
      try await preparation.report(threads: threads, monitor: $0)
    }
    try common.printReport(report, as: .diff) { text(report) }
    if !report.equal { throw CommandLineTool.end(.checkFailed) }
  }

  private func text(_ report: DifferenceReport) -> String {
    var text = ""
    for (label, path, names) in [("A", report.pathA, report.onlyInA), ("B", report.pathB, report.onlyInB)]
    where !names.isEmpty {
      text += style.caption("only in \(label) (\(style.name(path))): \(counted(names.count, "tensor"))")
      for name in names { text += style.item(name) }
      text += "\n"
    }
    if !report.incomplete.isEmpty {
      text += style.caption("not all elements are in both: \(counted(report.incomplete.count, "tensor"))")
      for tensor in report.incomplete {
        text += style.item(
          tensor.name,
          ": of \(grouped(tensor.elements)) elements, \(grouped(tensor.inA)) in A, \(grouped(tensor.inB)) in B, "
            + "\(grouped(tensor.inBoth)) in both")
      }
      text += "\n"
    }
    if !report.pairs.isEmpty {
      text += style.table(report.headersOnly ? headerTable(report) : table(report), common) + "\n"
    }
    let summary = report.summary
    let parts: [(Int, String)] = [
      (summary.identical, "identical"), (summary.sameHeader, "with the same header"),
      (summary.sameValues, "with the same values in another form"),
      (summary.different, "different"), (summary.shape, "of different shape"),
      (summary.notCompared, "not comparable"), (summary.otherType, "of different type"),
      (report.onlyInA.count, "only in A"),
      (report.onlyInB.count, "only in B"), (report.incomplete.count, "incomplete"),
    ]
    let counts = parts.filter { $0.0 > 0 }.map { "\(grouped($0.0)) \($0.1)" }.joined(separator: ", ")
    return text + (report.equal ? "equal" : "different") + (counts.isEmpty ? "" : ": \(counts)") + "\n"
  }

  private func table(_ report: DifferenceReport) -> TextTable {
    let showsSlices = report.pairs.contains { $0.slice != nil }
    var table = TextTable(
      [.init("tensor", wraps: true)] + (showsSlices ? [.init("slice", shrinks: true)] : []) + [
        .init("A"), .init("B"), .init("outcome"), .init("relative", .right), .init("differ", .right),
        .init("max abs", .right), .init("rmse", .right, isOptional: true),
        .init("first", .right, isOptional: true),
      ])
    for pair in report.pairs {
      let sides =
        pair.outcome == .shape
        ? [shapeText(pair.a.shape), shapeText(pair.b.shape)] : [pair.a.dtype.rawValue, pair.b.dtype.rawValue]
      var row =
        [pair.weight ?? pair.a.name] + (showsSlices ? [pair.slice.map(sliceText) ?? "all"] : []) + sides + [
          word(for: pair.outcome)
        ]
      if let errors = pair.errors {
        row += [
          errors.relative.map { significant($0, digits: 4) } ?? "-", grouped(errors.count),
          significant(errors.maxAbs), significant(errors.rmse),
          errors.firstIndex.map(String.init) ?? "-",
        ]
      } else {
        row += Array(repeating: "-", count: 5)
      }
      table.append(row)
    }
    return table
  }

  private func headerTable(_ report: DifferenceReport) -> TextTable {
    var table = TextTable([
      .init("tensor", wraps: true), .init("outcome"), .init("A", shrinks: true), .init("B", shrinks: true),
    ])
    for pair in report.pairs {
      table.append(
        [pair.weight ?? pair.a.name, word(for: pair.outcome)]
          + [pair.a, pair.b].map { "\($0.dtype.rawValue) \(shapeText($0.shape))" })
    }
    return table
  }

  /// `4:8, 0:256, 0:128`, as NumPy writes it.
  private func sliceText(_ slice: DifferenceReport.Slice) -> String {
    zip(slice.origin, slice.extent).map { "\($0):\($0 + $1)" }.joined(separator: ", ")
  }

  private func word(for outcome: DifferenceReport.Outcome) -> String {
    switch outcome {
    case .identical: "identical"
    case .sameValues: "same values"
    case .different: "different"
    case .shape: "shape"
    case .notCompared: "not compared"
    case .sameHeader: "same header"
    case .otherType: "other type"
    }
  }
}
