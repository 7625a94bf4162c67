public import ArgumentParser
public import Checkpoint
internal import CommandSupport
public import Inspection
internal import JSON
internal import ParallelWork
internal import Patterns
internal import Locations
import TensorFormats

extension TensorRole: ExpressibleByArgument {}
extension TensorSelection.Order: ExpressibleByArgument {}

/// The checkpoint that is looked at.
struct CheckpointArgument: ParsableArguments {
  @Argument(
    help: "A checkpoint directory, a .safetensors or .gguf file, or what step3-convert wrote.",
    completion: .file())
  var path: String

  /// Opens it and prints its warnings.
  ///
  /// - Parameter showsConfiguration: Whether the configuration is what is looked at, and has to be readable.
  func open(_ common: CommonOptions, showsConfiguration: Bool = false) throws -> Checkpoint {
    try openCheckpoint(path, common, showsConfiguration: showsConfiguration)
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
  // What the model is need not be known to look at its tensors.
  let fault = checkpoint.configurationDocument?.fault.map(\.description)
  CommonOptions.warn(Step3Inspect.name, checkpoint.warnings + [fault].compactMap(\.self))
  return checkpoint
}

/// Which tensors are wanted by name.
struct NameFilter: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp("Only tensors whose name has a match of this regular expression.", valueName: "regex"))
  var filter: String?

  func validate() throws { _ = try matcher() }

  /// A test of names; `nil` if every name is wanted.
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

  /// Prints a report: as JSON, or in words.
  func printReport(_ report: some Encodable, words: () -> String) throws {
    if json {
      try unsafe StandardStream.output.write(JSONText.document(report).span.bytes)
    } else {
      try StandardStream.output.write(words())
    }
    let memory = ProcessUsage.peakMemoryBytes
    note(Step3Inspect.name, "peak memory: \(ByteSize(bytes: memory).binary) (\(memory) bytes)")
  }

  /// How headings are written on standard output.
  var heading: (String) -> String { usesColor(on: .output) ? { "\u{1B}[1m\($0)\u{1B}[0m" } : { $0 } }
}
