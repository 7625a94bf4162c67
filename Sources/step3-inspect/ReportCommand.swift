internal import ArgumentParser
internal import ByteStreams
internal import Checkpoint
internal import CheckpointReport
internal import CommandSupport
internal import Conversion
internal import Inspection
internal import TensorFormats
internal import Verification

/// `step3-inspect report`
struct ReportCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Write one HTML file that shows a checkpoint: where its bytes are, its values, its errors.",
    discussion: """
      Treemap and list of the tensors, histograms and percentiles of their values, the split into attention and \
      experts; with --against or --manifest the error of every weight by layer and by expert, with --logits what \
      step3-verify found. The file is self-contained and loads nothing, so it can be sent and archived. Open it in \
      any browser.

      Weights are read once, and once more with --against; with --headers-only they are not read.

      Examples:
        step3-inspect report step3-q4 --manifest
        step3-verify logits step3-q4 --reference step3 --tokens-file held-out.json --per-token --bisect --json >logits.json
        step3-inspect report step3-q4 --against step3 --logits logits.json --output step3-q4.html
      """)

  @OptionGroup var input: CheckpointArgument

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The checkpoint that it was made from: compare every weight with it.", valueName: "source"),
    completion: .file())
  var against: String?

  @Flag(
    name: .long,
    help: "Show the errors that step3-convert measured, from manifest.json, without reading the source.")
  var manifest = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Also show this output of step3-verify logits --json or step3-verify all --json.", valueName: "file"),
    completion: .file())
  var logits: String?

  @Flag(name: .long, help: "Do not read weights: no histograms.")
  var headersOnly = false

  @Option(
    name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file"), completion: .file())
  var output = "report.html"

  @Flag(name: .long, help: "Replace an earlier report.")
  var overwrite = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    if against != nil, manifest {
      throw ValidationError(
        "--against measures errors, --manifest shows recorded ones: give only one of them.")
    }
  }

  func run() async throws {
    // Refuse now what would otherwise be refused after an hour of reading.
    try requireRoom()
    let checkpoint = try input.open(common)
    let verification = try against.map {
      try TensorVerification(checkpoint, source: openCheckpoint($0, common))
    }
    let figures = try logits.map(Self.figures(of:))
    let recorded = try manifest ? ErrorFigures(Manifest.read(in: checkpoint.store)) : nil
    let listing = try TensorListing(of: checkpoint)
    let statistics = try await headersOnly ? nil : statistics(checkpoint)
    let errors = if let verification { try await errors(of: verification) } else { recorded }
    let contents = try ReportContents(
      checkpoint, listing, statistics: statistics, errors: errors, logits: figures, tool: toolkitVersion)
    let page = ReportPage(contents).html
    try FileSystem.writeAtomically(page, to: output)
    let outcome = Outcome(
      output: output, bytes: page.count, path: checkpoint.path, tensors: listing.tensors.count,
      valuesRead: statistics != nil, compared: errors.map { $0.weights.count + $0.exact },
      ok: errors?.report?.ok)
    try common.printReport(outcome, as: .report) { text(outcome) }
  }

  /// Refuses to replace anything but a report: weights took longer to make.
  private func requireRoom() throws(CheckpointError) {
    guard try FileSystem.isTaken(output) else { return }
    guard overwrite else {
      throw CheckpointError(
        .cannotCreate, "already exists", path: output, remedy: "give another --output, or --overwrite")
    }
    guard try FileSystem.kind(of: output) == .file, try ReportPage.isReport(InputFile(output)) else {
      throw CheckpointError(
        .cannotCreate, "is not a report, and --overwrite replaces only reports", path: output,
        remedy: "give another --output, or move it away yourself")
    }
  }

  /// Larger than the logits document of any plausible text.
  private static let logitsLimit = 1 << 30

  private static func figures(of path: String) throws(CheckpointError) -> LogitsFigures {
    let file = try InputFile(path)
    guard file.byteCount <= logitsLimit else {
      throw CheckpointError(.unsupported, "has \(file.byteCount) bytes, too many for a report", path: path)
    }
    return try LogitsFigures(file.readBytes(0..<file.byteCount), path: path)
  }

  private func statistics(_ checkpoint: Checkpoint) async throws -> StatisticsReport {
    let bytes = checkpoint.tensors.reduce(0) { $0 + $1.byteRange.count }
    let threads = common.threadCount
    return try await common.reporting("reading", total: bytes) {
      try await StatisticsReport(
        of: checkpoint, tensors: checkpoint.tensors, histogramBins: ReportContents.histogramBins,
        threads: threads,
        monitor: $0)
    }
  }

  private func errors(of verification: TensorVerification) async throws -> ErrorFigures {
    let threads = common.threadCount
    return try await common.reporting("comparing", total: verification.byteCount) {
      ErrorFigures(try await verification.run(threads: threads, monitor: $0))
    }
  }

  /// The document of `--json`: what was written, not what it shows.
  private struct Outcome: Encodable {
    let output: String
    let bytes: Int
    let path: String
    let tensors: Int
    let valuesRead: Bool
    /// The number of weights compared, or with recorded errors; `nil` without errors.
    let compared: Int?
    /// Whether the comparison found nothing wrong; `nil` if nothing was compared.
    let ok: Bool?
  }

  private func text(_ outcome: Outcome) -> String {
    var text = "\(outcome.output.printable): \(size(outcome.bytes)), \(counted(outcome.tensors, "tensor"))"
    if let compared = outcome.compared { text += ", \(counted(compared, "weight")) with their errors" }
    text += "; open it in a browser\n"
    if outcome.ok == false {
      text +=
        "FAILED: some weights have larger errors than their format explains: see the report, or step3-verify tensors\n"
    }
    return text
  }
}
