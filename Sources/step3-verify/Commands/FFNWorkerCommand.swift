internal import ArgumentParser
internal import CommandSupport
internal import Step3Runtime
internal import TensorFormats

/// `step3-verify ffn-worker`: one process of a disaggregated run. Its standard input is the connection to the attention
/// side, which reports this side's errors to the user.
struct FFNWorkerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: FFNWorker.subcommand, abstract: "Serve one FFN part to the process that started this one.",
    shouldDisplay: false)

  @Option(help: "The part's directory.")
  var part: String

  @Option(help: "Use at most this many threads.")
  var threads = 1

  func run() throws {
    do {
      try FFNWorker.run(part: part, threads: threads)
    } catch let error as CheckpointError {
      throw CommandLineTool.end(ExitStatus(error))
    } catch {
      throw CommandLineTool.end(.internalError)
    }
  }
}
