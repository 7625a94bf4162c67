internal import ArgumentParser
internal import Checkpoint
internal import CommandSupport
internal import Inspection
internal import TensorFormats

/// `step3-inspect stats`
struct StatsCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Read all weights: range, mean, RMS, zeros, NaNs, infinities and a digest per tensor.",
    discussion: """
      Minimum, maximum, mean and RMS cover the finite values, after decoding; block scales stored in separate tensors \
      are not applied. The digest is XXH3-128 of the stored bytes. Results are the same for any number of threads. \
      Percentiles are exact for BF16, FP8, FP4 and integers up to 256, and within 0.4 % of the value for other types. \
      If one of several paths cannot be read, the others are still reported on, and the exit status is that of the \
      first failure.
      """)

  @OptionGroup var input: CheckpointArguments
  @OptionGroup var names: NameFilter

  @Option(name: .long, help: "Only tensors of this role.")
  var role: TensorRole?

  @Flag(
    name: .long, help: "Show percentiles of the values and of their magnitudes (|p99.9|).")
  var percentiles = false

  @Flag(
    name: .long, help: "Draw a histogram of each tensor's values, from the smallest to the largest.")
  var histogram = false

  @OptionGroup var style: ReportStyle
  @OptionGroup var common: CommonOptions

  func validate() throws { try style.check(common) }

  /// A power of two, so that bins can be merged for narrow terminals.
  private static let histogramBins = 64

  func run() async throws {
    let selection = TensorSelection(matches: try names.matcher(), role: role)
    let threads = common.threadCount
    let bins = percentiles || histogram ? Self.histogramBins : nil
    try await input.report(as: .stats, common, style: style) { checkpoint in
      let tensors = try selection.tensors(of: checkpoint)
      let bytes = tensors.reduce(0) { $0 + $1.byteRange.count }
      return try await common.reporting("reading", total: bytes) {
        try await StatisticsReport(
          of: checkpoint, tensors: tensors, histogramBins: bins, threads: threads, monitor: $0)
      }
    } words: { report in
      var text = style.table(percentiles ? percentileTable(report) : table(report), common)
      if histogram {
        text +=
          "\n" + style.caption("Heights are logarithms of counts, from the smallest to the largest value.")
        for tensor in report.tensors {
          text += (text.hasSuffix("\n\n") ? "" : "\n") + DistributionText(tensor, style: style).text
        }
      }
      return text
    }
  }

  private func table(_ report: StatisticsReport) -> TextTable {
    // A digest is 32 columns wide: too much for an 80-column terminal.
    let showsDigest = (StandardStream.output.columns ?? .max) >= 132
    // Six digits of four figures take 52 columns.
    let digits = (StandardStream.output.columns ?? .max) >= 100 ? 6 : 4
    let showsParts = report.tensors.contains { $0.file.contains("/") }
    var table = TextTable(
      [
        .init("tensor", wraps: true), .init("type"), .init("min", .right), .init("max", .right),
        .init("mean", .right), .init("rms", .right), .init("zeros", .right), .init("nan", .right),
        .init("inf", .right),
      ] + (showsParts ? [.init("part")] : []) + (showsDigest ? [.init("xxh3-128")] : []))
    for tensor in report.tensors {
      var row = [tensor.name, tensor.dtype.rawValue]
      if let values = tensor.values {
        row += [
          extreme(values.minimum, digits), extreme(values.maximum, digits),
          values.mean.map { significant($0, digits: digits) } ?? "-",
          values.rms.map { significant($0, digits: digits) } ?? "-", "\(values.zeros)", "\(values.nan)",
          "\(values.infinite)",
        ]
      } else {
        row += Array(repeating: "-", count: 7)
      }
      if showsParts { row.append(part(of: tensor.file)) }
      table.append(showsDigest ? row + [tensor.xxh3] : row)
    }
    return table
  }

  private func percentileTable(_ report: StatisticsReport) -> TextTable {
    let digits = (StandardStream.output.columns ?? .max) >= 110 ? 6 : 3
    let showsParts = report.tensors.contains { $0.file.contains("/") }
    let percents = ValueDistribution.valuePercents.map { ValueDistribution.name(ofPercent: $0) }
    // The percentile at which scales are clipped.
    let clipping = ValueDistribution.magnitudePercents.firstIndex(of: 99.9)
    var table = TextTable(
      [.init("tensor", wraps: true), .init("type"), .init("min", .right, isOptional: true)]
        + percents.map { .init($0, .right) }
        + [.init("max", .right, isOptional: true), .init("|p99.9|", .right)]
        + (showsParts ? [.init("part")] : []))
    for tensor in report.tensors {
      var row = [tensor.name, tensor.dtype.rawValue]
      if let values = tensor.values, let distribution = tensor.distribution {
        row.append(extreme(values.minimum, digits))
        row += distribution.values.map { significant($0, digits: digits) }
        row.append(extreme(values.maximum, digits))
        row.append(clipping.map { significant(distribution.magnitudes[$0], digits: digits) } ?? "-")
      } else {
        row += Array(repeating: "-", count: percents.count + 3)
      }
      table.append(row + (showsParts ? [part(of: tensor.file)] : []))
    }
    return table
  }

  private func extreme(_ value: Extreme?, _ digits: Int) -> String {
    switch value {
    case .real(let value): significant(value, digits: digits)
    case .integer(let value): "\(value)"
    case nil: "-"
    }
  }
}
