import ArgumentParser
import CommandSupport
import TensorFormats

/// The outcome of one check, for a command that prints it and for one that runs several.
struct CheckOutcome {
  /// The document of `--json`.
  let kind: DocumentKind
  let document: any Encodable
  /// The same as text.
  let text: String
  /// `.success`, `.checkFailed`, or why it could not be completed.
  let status: ExitStatus

  /// Prints it and ends the command with its exit code.
  func report(_ common: CommonOptions) throws {
    if common.json {
      try StandardStream.output.write(json: document, as: kind)
    } else {
      try common.write(report: text)
    }
    if status != .success { throw CommandLineTool.end(status) }
  }
}

/// A subcommand that is one check.
protocol CheckCommand: ToolCommand {
  var common: CommonOptions { get set }

  /// Runs the check.
  func outcome() async throws -> CheckOutcome
}

extension CheckCommand {
  func run() async throws { try await outcome().report(common) }
}
