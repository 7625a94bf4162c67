public import ArgumentParser
internal import CStartCheck
internal import JSON
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A subcommand of one of the tools.
public protocol ToolCommand: AsyncParsableCommand {
  /// The options shared by all subcommands.
  var common: CommonOptions { get }
}

/// Runs a tool: parses, executes, reports errors and exits with the matching code.
public enum CommandLineTool {
  /// Runs the process's command line.
  ///
  /// Errors go to standard error as `tool: error: ...`, with control characters escaped. With `--json` they are one
  /// line of JSON instead (`{"error": {...}}`), and standard output stays empty.
  public static func run(_ root: any AsyncParsableCommand.Type) async -> Never {
    // The check has already run before `main`; this call only keeps it linked.
    csc_require()
    failOnWriting()
    let tool = root.configuration.commandName ?? root._commandName
    do throws(CheckpointError) {
      try checkArguments()
    } catch {
      if let failure = ToolFailure(error) { report(failure, of: tool, json: false) }
    }
    let arguments = Array(CommandLine.arguments.dropFirst())
    if let completion = completion(arguments, of: root) {
      try? StandardStream.output.write(completion)
      exit(ExitStatus.success.rawValue)
    }
    if RootHelp.isAsked(by: arguments) {
      try? StandardStream.output.write(RootHelp.text(of: root, columns: StandardStream.output.columns) + "\n")
      exit(ExitStatus.success.rawValue)
    }
    var command: any ParsableCommand
    do {
      command = try root.parseAsRoot(arguments)
    } catch {
      endParsing(with: error, of: root, arguments)
    }
    do {
      if let common = (command as? any ToolCommand)?.common {
        try ProcessUsage.requireAddressSpace(threads: common.threadCount)
      }
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      // The argument parser has its own codes for help requests and wrong usage.
      guard root.exitCode(for: error) == .failure,
        let failure = ToolFailure(
          error, ofArgument: arguments.first,
          question: { WrongUsage.question(of: root, arguments: arguments) })
      else { endParsing(with: error, of: root, arguments) }
      report(failure, of: tool, json: (command as? any ToolCommand)?.common.json ?? false)
    }
    exit(ExitStatus.success.rawValue)
  }

  private static func report(_ failure: ToolFailure, of tool: String, json: Bool) -> Never {
    write(failure, of: tool, json: json)
    exit(failure.status.rawValue)
  }

  private static func write(_ failure: ToolFailure, of tool: String, json: Bool) {
    try? StandardStream.error.write(
      json ? failure.jsonLine : failure.message(of: tool, width: StandardStream.error.columns))
  }

  /// Reports an error with one of several inputs, as ``run(_:)`` would, and lets the command go on with the others.
  ///
  /// - Returns: The exit code that the command should end with.
  /// - Throws: Errors that do not concern a single input: `CancellationError`, wrong usage.
  public static func report(_ error: any Error, of tool: String, json: Bool) throws -> ExitStatus {
    guard !(error is CancellationError), let failure = ToolFailure(error) else { throw error }
    write(failure, of: tool, json: json)
    return failure.status
  }

  /// Asks whether the process's first argument was meant to be a subcommand; `nil` if it does not look like one.
  public static func questionedSubcommand(of root: any ParsableCommand.Type) -> String? {
    WrongUsage.question(of: root, arguments: Array(CommandLine.arguments.dropFirst()))
  }

  /// Exits with the argument parser's output: help, or a usage error.
  private static func endParsing(
    with error: any Error, of root: any ParsableCommand.Type, _ arguments: [String]
  ) -> Never {
    // An exit code that a command threw prints nothing more, even if it is the usage code.
    guard root.exitCode(for: error) == .validationFailure, !(error is ExitCode) else {
      root.exit(withError: error)
    }
    let usage = WrongUsage(error, of: root, arguments: arguments)
    let json = arguments.prefix { $0 != "--" }.contains("--json")
    try? StandardStream.error.write(
      json ? usage.jsonLine : usage.text(of: root.configuration.commandName ?? root._commandName))
    exit(ExitStatus.usage.rawValue)
  }

  /// - Throws: `.invalidRequest` for an argument that is not valid UTF-8: it would be mistaken for another one.
  private static func checkArguments() throws(CheckpointError) {
    for index in 0..<Int(CommandLine.argc) {
      guard let argument = unsafe CommandLine.unsafeArgv[index],
        unsafe String(validatingCString: argument) == nil
      else { continue }
      throw CheckpointError(
        .invalidRequest, "is not valid UTF-8, which file names have to be here",
        path: unsafe String(cString: argument).escapingControlCharacters,
        remedy: "rename it, or point a symbolic link at it")
    }
  }

  /// Ends the command with an exit code and no further output.
  public static func end(_ status: ExitStatus) -> ExitCode { ExitCode(status.rawValue) }
}

/// An error on its way out of the process.
package struct ToolFailure {
  package let status: ExitStatus
  private let error: CheckpointError

  /// `nil` for errors that belong to the argument parser: requests for help, wrong usage, exit codes thrown on
  /// purpose.
  package init?(_ error: any Error) {
    switch error {
    case let error as CheckpointError:
      self.error = error
      status = ExitStatus(error)
    case is CancellationError:
      self.error = CheckpointError(.init(rawValue: "interrupted"), "interrupted")
      status = .interrupted
    case is ExitCode, is CleanExit, is ValidationError:
      return nil
    default:
      self.error = CheckpointError(.init(rawValue: "internal"), "\(error)")
      status = .internalError
    }
  }

  /// The same, with a "did you mean" as the remedy if the first argument does not exist: a subcommand may have been
  /// meant.
  fileprivate init?(_ error: any Error, ofArgument argument: String?, question: () -> String?) {
    var error = error
    if var missing = error as? CheckpointError, missing.code == .notFound, missing.path == argument,
      let question = question()
    {
      missing.remedy = [question, missing.remedy].compactMap(\.self).joined(separator: " ")
      error = missing
    }
    self.init(error)
  }

  /// `step3-inspect: error: model.gguf: byte 4: ...`
  ///
  /// - Parameter width: The column to wrap at; `nil` for a single line.
  package func message(of tool: String, width: Int? = nil) -> String {
    "\(tool): error: \(error)".escapingControlCharacters.wrapped(to: width) + "\n"
  }

  /// One line of JSON.
  package var jsonLine: String {
    JSONText.compact(Report(error: .init(error, status)), schema: DocumentKind.error.identifier) + "\n"
  }

  private struct Report: Encodable {
    let error: Body

    struct Body: Encodable {
      let code: String
      let message: String
      let path: String?
      let offset: Int?
      let tensor: String?
      let remedy: String?
      let exitCode: Int32

      init(_ error: CheckpointError, _ status: ExitStatus) {
        code = error.code.rawValue
        message = error.message
        path = error.path
        offset = error.offset
        tensor = error.tensor
        remedy = error.remedy
        exitCode = status.rawValue
      }
    }
  }
}
