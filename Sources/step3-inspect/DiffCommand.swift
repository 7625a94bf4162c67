internal import ArgumentParser
internal import CommandSupport
internal import Inspection
internal import TensorFormats

/// `step3-inspect diff`
struct DiffCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Compare two checkpoints: names, shapes, types, bytes, and values where they differ.",
    discussion: """
      Formats and types may differ: Step-3's GGUF names are matched with the published ones, values are compared after \
      decoding, and codes are multiplied with their scales, whatever the scheme. The slices and copies in the parts of a \
      partition set are compared with what they are slices of. Ends with 0 if every tensor has its counterpart with \
      the same shape and values, and with 1 otherwise.
      """)

  @Argument(help: "The first checkpoint.", completion: .file())
  var a: String

  @Argument(help: "The second checkpoint.", completion: .file())
  var b: String

  @Flag(name: .long, help: "Tensors with equal values but other types or bytes count as different too.")
  var exact = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let first = try openCheckpoint(a, common)
    let second = try openCheckpoint(b, common)
    let (exact, threads) = (exact, common.threadCount)
    let report = try await common.reporting("comparing", total: DifferenceReport.workload(first, second)) {
      try await DifferenceReport(first, second, exact: exact, threads: threads, monitor: $0)
    }
    try common.printReport(report) { text(report) }
    if !report.equal { throw CommandLineTool.end(.checkFailed) }
  }

  private func text(_ report: DifferenceReport) -> String {
    var text = ""
    for (label, path, names) in [("A", report.pathA, report.onlyInA), ("B", report.pathB, report.onlyInB)]
    where !names.isEmpty {
      text += "only in \(label) (\(path.escapingControlCharacters)): \(counted(names.count, "tensor"))\n"
      for name in names { text += "  \(name.escapingControlCharacters)\n" }
      text += "\n"
    }
    if !report.incomplete.isEmpty {
      text += "not all elements are in both: \(counted(report.incomplete.count, "tensor"))\n"
      for tensor in report.incomplete {
        text +=
          "  \(tensor.name.escapingControlCharacters): of \(grouped(tensor.elements)) elements, "
          + "\(grouped(tensor.inA)) in A, \(grouped(tensor.inB)) in B, \(grouped(tensor.inBoth)) in both\n"
      }
      text += "\n"
    }
    if !report.pairs.isEmpty {
      text += table(report).rendered(width: StandardStream.output.columns, heading: common.heading) + "\n"
    }
    let summary = report.summary
    let parts: [(Int, String)] = [
      (summary.identical, "identical"), (summary.sameValues, "with the same values in another form"),
      (summary.different, "different"), (summary.shape, "of another shape"),
      (summary.notCompared, "not comparable"), (report.onlyInA.count, "only in A"),
      (report.onlyInB.count, "only in B"), (report.incomplete.count, "incomplete"),
    ]
    let counts = parts.filter { $0.0 > 0 }.map { "\(grouped($0.0)) \($0.1)" }.joined(separator: ", ")
    return text + (report.equal ? "equal" : "different") + (counts.isEmpty ? "" : ": \(counts)") + "\n"
  }

  private func table(_ report: DifferenceReport) -> TextTable {
    let showsSlices = report.pairs.contains { $0.slice != nil }
    var table = TextTable(
      [.init("tensor", wraps: true)] + (showsSlices ? [.init("slice", shrinks: true)] : []) + [
        .init("A"), .init("B"), .init("outcome"), .init("differ", .right),
        .init("max abs", .right), .init("rmse", .right), .init("first", .right),
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
          grouped(errors.count), significant(errors.maxAbs), significant(errors.rmse),
          errors.firstIndex.map(String.init) ?? "-",
        ]
      } else {
        row += Array(repeating: "-", count: 4)
      }
      table.append(row)
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
    }
  }
}
