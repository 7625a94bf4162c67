import ArgumentParser
import CommandSupport
import TensorFormats

/// The tool: holds a conversion against its manifest.
@main
struct Step3Verify: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step3-verify",
    abstract: "Prove that a conversion holds what it should.",
    discussion: """
      Examples:
        step3-verify checksums step3-afd
        step3-verify checksums step3-afd/attention --json
      """,
    version: toolkitVersion,
    subcommands: [Checksums.self, FFNWorkerCommand.self])

  static func main() async { await CommandLineTool.run(Self.self) }
}
