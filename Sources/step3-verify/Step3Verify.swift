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
        step3-verify engine step3-nvfp4 --engine vllm --tp 8
      """,
    version: toolkitVersion,
    subcommands: [Checksums.self, EngineCommand.self])

  static func main() async { await CommandLineTool.run(Self.self) }
}
