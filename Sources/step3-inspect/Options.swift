public import ArgumentParser
public import Checkpoint
internal import CommandSupport
public import Inspection
internal import ByteStreams
internal import ParallelWork
internal import Patterns
internal import Locations
import TensorFormats

extension TensorRole: ExpressibleByArgument {}
extension TensorSelection.Order: ExpressibleByArgument {}

/// The checkpoint to inspect.
struct CheckpointArgument: ParsableArguments {
  @Argument(
    help: "A checkpoint directory, a .safetensors or .gguf file, or what step3-convert wrote.",
    completion: .file())
  var path: String

  /// Opens it and prints its warnings.
  ///
  /// - Parameter showsConfiguration: Whether the configuration itself is shown, and so has to be readable.
  func open(_ common: CommonOptions, showsConfiguration: Bool = false) throws -> Checkpoint {
    try openCheckpoint(path, common, showsConfiguration: showsConfiguration)
  }
}

/// The checkpoints to inspect, one after the other.
struct CheckpointArguments: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      "Checkpoint directories, .safetensors or .gguf files, or what step3-convert wrote; patterns such as 'out/*.gguf' too.",
      valueName: "path"),
    completion: .file())
  var paths: [String]

  /// Reports on each of them, as JSON or as text.
  ///
  /// One path is reported on by itself. Several, or a pattern, have headings; in JSON they are an array. An error in
  /// one of several is printed to standard error, and the others are still reported on; the command then exits with the
  /// code of the first failure.
  ///
  /// - Throws: The error of a single path; the exit code of the first failure among several; `CancellationError`.
  func report<Report: Encodable>(
    as kind: DocumentKind, _ common: CommonOptions, style: ReportStyle,
    _ make: (Checkpoint) async throws -> Report,
    words: (Report) -> String
  ) async throws {
    if paths.count == 1, let path = paths.first, try !PathPattern.isPattern(path) {
      let report = try await make(try openCheckpoint(path, common))
      return try common.printReport(report, as: kind) { words(report) }
    }
    if let first = paths.first, paths.count > 1,
      CommandLineTool.questionedSubcommand(of: Step3Inspect.self) != nil,
      try FileSystem.kind(of: first) == nil
    {
      throw ValidationError("There is no \(first).")
    }
    var reports: [Report] = []
    var failure: ExitStatus?
    func note(_ error: any Error) throws {
      let status = try CommandLineTool.report(error, of: Step3Inspect.name, json: common.json)
      failure = failure ?? status
    }
    var isFirst = true
    for argument in paths {
      let matching: [String]
      do {
        matching =
          try PathPattern.isPattern(argument) ? try PathPattern.paths(matching: argument) : [argument]
      } catch {
        try note(error)
        continue
      }
      for path in matching {
        let report: Report
        do {
          report = try await make(try openCheckpoint(path, common))
        } catch {
          try note(error)
          continue
        }
        if common.json {
          reports.append(report)
        } else {
          try StandardStream.output.write(
            (isFirst ? "" : "\n") + style.title(path) + (style.markdown ? "\n" : "") + words(report))
        }
        isFirst = false
      }
    }
    if common.json { try StandardStream.output.write(json: reports, as: kind) }
    common.notePeakMemory()
    if let failure { throw CommandLineTool.end(failure) }
  }
}

/// Opens a checkpoint and prints its warnings.
func openCheckpoint(
  _ path: String, _ common: CommonOptions, showsConfiguration: Bool = false
) throws -> Checkpoint {
  let checkpoint = try common.location(path).open()
  if showsConfiguration { try checkpoint.requireReadableConfiguration() }
  common.note(
    Step3Inspect.name,
    "\(path): \(counted(checkpoint.tensors.count, "tensor")) in \(counted(checkpoint.files.count, "file"))")
  // Inspecting tensors does not require knowing the model.
  let fault = checkpoint.configurationDocument?.fault.map(\.description)
  CommonOptions.warn(Step3Inspect.name, checkpoint.warnings + [fault].compactMap(\.self))
  return checkpoint
}

/// Which tensors are selected by name.
struct NameFilter: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Only tensors whose name contains a match of this regular expression.", valueName: "regex"))
  var filter: String?

  func validate() throws { _ = try matcher() }

  /// A test of names; `nil` if every name is selected.
  ///
  /// - Throws: `ValidationError`, so that the process ends with the code for wrong usage.
  func matcher() throws -> (@Sendable (String) throws(CheckpointError) -> Bool)? {
    guard let filter else { return nil }
    do {
      let pattern = try NamePattern(option: filter)
      return { (name) throws(CheckpointError) in try pattern.matches(name) }
    } catch {
      throw ValidationError("--filter: \(error.message)")
    }
  }
}

extension CommonOptions {
  /// Runs long work, with its progress shown as the options say; the first Ctrl-C stops it cleanly.
  func reporting<Result: Sendable>(
    _ activity: String, total: Int, _ work: @escaping @Sendable (WorkMonitor) async throws -> Result
  ) async throws -> Result {
    let reporter = progressReporter(activity, total: total)
    defer { reporter.finish() }
    let result = try await Interruption.cancelling {
      try await work(WorkMonitor(advance: { reporter.advance(by: $0) }, item: { reporter.setItem($0) }))
    }
    reporter.finish()
    note(Step3Inspect.name, reporter.outcome)
    return result
  }

  /// Prints a report, as JSON or as text.
  func printReport(_ report: some Encodable, as kind: DocumentKind, words: () -> String) throws {
    if json {
      try StandardStream.output.write(json: report, as: kind)
    } else {
      try StandardStream.output.write(words())
    }
    notePeakMemory()
  }

  /// Reports peak memory with `--verbose`.
  func notePeakMemory() {
    let memory = ProcessUsage.peakMemoryBytes
    note(Step3Inspect.name, "peak memory: \(ByteSize(bytes: memory).binary) (\(memory) bytes)")
  }

  /// Formats headings for standard output.
  var heading: (String) -> String { usesColor(on: .output) ? { "\u{1B}[1m\($0)\u{1B}[0m" } : { $0 } }
}
