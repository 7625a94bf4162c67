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
  /// The options that all of them share.
  var common: CommonOptions { get }
}

/// Runs a tool: parses, executes, reports what went wrong and ends the process with the exit code for it.
public enum CommandLineTool {
  /// Runs the process's command line.
  ///
  /// Errors go to standard error as `tool: error: ...`, control characters made visible. With `--json` they are one
  /// line of JSON there instead (`{"error": {...}}`), and standard output stays empty.
  public static func run(_ root: any AsyncParsableCommand.Type) async -> Never {
    // What it stands for has run before this.
    csc_require()
    failOnWriting()
    do throws(CheckpointError) {
      try checkArguments()
    } catch {
      try? StandardStream.error.write(
        ToolFailure(error)?.message(of: root.configuration.commandName ?? root._commandName) ?? "")
      exit(ExitStatus(error).rawValue)
    }
    var command: any ParsableCommand
    do {
      command = try root.parseAsRoot()
    } catch {
      root.exit(withError: error)
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
      let tool = root.configuration.commandName ?? root._commandName
      let json = (command as? any ToolCommand)?.common.json ?? false
      // Requests for help and wrong usage have codes of their own there.
      guard root.exitCode(for: error) == .failure, let failure = ToolFailure(error) else {
        root.exit(withError: error)
      }
      try? StandardStream.error.write(json ? failure.jsonLine : failure.message(of: tool))
      exit(failure.status.rawValue)
    }
    exit(ExitStatus.success.rawValue)
  }

  /// - Throws: `.invalidRequest` for an argument whose bytes are no text: it would be taken for another one.
  private static func checkArguments() throws(CheckpointError) {
    for index in 0..<Int(CommandLine.argc) {
      guard let argument = unsafe CommandLine.unsafeArgv[index],
        unsafe String(validatingCString: argument) == nil
      else { continue }
      throw CheckpointError(
        .invalidRequest, "is not UTF-8, which names of files have to be here",
        path: unsafe String(cString: argument).escapingControlCharacters,
        remedy: "rename it, or give it another name with a symbolic link")
    }
  }

  /// Ends the command with an exit code and nothing more to say.
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

  /// `step3-inspect: error: model.gguf: byte 4: ...`
  package func message(of tool: String) -> String {
    "\(tool): error: \(error.description.escapingControlCharacters)\n"
  }

  /// One line of JSON.
  package var jsonLine: String { JSONText.compact(Report(error: .init(error, status))) + "\n" }

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
