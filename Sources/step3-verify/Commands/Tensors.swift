internal import ArgumentParser
internal import Checkpoint
internal import CommandSupport
internal import ParallelWork
internal import Patterns
internal import Locations
import TensorFormats
internal import Verification

/// `step3-verify tensors`: compares every value with the source.
struct Tensors: CheckCommand {
  static let configuration = CommandConfiguration(
    abstract: "Decode every tensor of an output and compare it with its source.",
    discussion: """
      Output and source may be of any two formats: GGUF or safetensors, plain, block-FP8 or quantised, a partition set \
      or one part of it. For each tensor: the root mean square error, that error relative to the source, the largest \
      absolute error and where it is, the cosine and the signal-to-noise ratio. A tensor is out of line if its error \
      is larger than its format explains, overall or in a single block, so that two swapped rows or one wrong scale \
      are found in any tensor. Types that hold all values of the source must hold them exactly. A few thousand \
      elements of every weight with scales are decoded independently, from quantization_config and the definition of \
      the format, and have to agree. Exit code 0 if nothing is missing, out of line or read otherwise than it is \
      declared, 1 if not.
      """)

  @Argument(help: "The checkpoint to check, written by step3-convert or not.", completion: .file())
  var output: String

  @Option(
    name: .long, help: ArgumentHelp("The checkpoint that it was made from.", valueName: "path"),
    completion: .file())
  var source: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Only tensors whose published name contains a match of this regular expression.", valueName: "regex"))
  var filter: String?

  @Flag(name: .long, help: "List all tensors, not only the worst twenty.")
  var all = false

  @OptionGroup var common: CommonOptions

  func validate() throws { _ = try matcher() }

  func outcome() async throws -> CheckOutcome {
    let checked = try open(output)
    let verification = try TensorVerification(checked, source: try open(source), filter: try matcher())
    let reporter = common.progressReporter("comparing", total: verification.byteCount)
    defer { reporter.finish() }
    let threads = common.threadCount
    let report = try await Interruption.cancelling {
      try await verification.run(
        threads: threads,
        monitor: WorkMonitor(advance: { reporter.advance(by: $0) }, item: { reporter.setItem($0) }))
    }
    reporter.finish()
    common.note(Step3Verify.name, reporter.outcome)
    let bold: (String) -> String =
      common.usesColor(on: .output) ? { "\u{1B}[1m\($0)\u{1B}[0m" } : { $0 }
    common.note(Step3Verify.name, "peak memory: \(ByteSize(bytes: ProcessUsage.peakMemoryBytes).binary)")
    return CheckOutcome(
      kind: .tensors, document: report,
      text: TensorReportText(report, all: all).text(width: StandardStream.output.columns, heading: bold),
      status: report.ok ? .success : .checkFailed)
  }

  private func open(_ path: String) throws -> Checkpoint {
    let checkpoint = try common.location(path).open()
    CommonOptions.warn(Step3Verify.name, checkpoint.warnings)
    return checkpoint
  }

  private func matcher() throws -> (@Sendable (String) throws(CheckpointError) -> Bool)? {
    guard let filter else { return nil }
    do {
      let pattern = try NamePattern(option: filter)
      return { (name) throws(CheckpointError) in try pattern.matches(name) }
    } catch {
      throw ValidationError("--filter: \(error.message)")
    }
  }
}
