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
      Minimum, maximum, mean and RMS are those of the finite values, after decoding; block scales in tensors of their \
      own are not applied. The digest is XXH3-128 of the stored bytes. Results are the same for any number of threads.
      """)

  @OptionGroup var input: CheckpointArgument
  @OptionGroup var names: NameFilter
  @OptionGroup var common: CommonOptions

  func run() async throws {
    let checkpoint = try input.open(common)
    let tensors = try TensorSelection(matches: try names.matcher()).tensors(of: checkpoint)
    let threads = common.threadCount
    let bytes = tensors.reduce(0) { $0 + $1.byteRange.count }
    let report = try await common.reporting("reading", total: bytes) {
      try await StatisticsReport(of: checkpoint, tensors: tensors, threads: threads, monitor: $0)
    }
    try common.printReport(report) {
      table(report).rendered(width: StandardStream.output.columns, heading: common.heading)
    }
  }

  private func table(_ report: StatisticsReport) -> TextTable {
    // A digest is 32 columns wide, which no terminal of 80 has to spare.
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

  private func extreme(_ value: Extreme?, _ digits: Int) -> String {
    switch value {
    case .real(let value): significant(value, digits: digits)
    case .integer(let value): "\(value)"
    case nil: "-"
    }
  }
}
