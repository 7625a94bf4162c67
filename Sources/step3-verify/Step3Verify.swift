import ArgumentParser
import CommandSupport
import TensorFormats

/// The tool: holds a conversion against its manifest and its source.
@main
struct Step3Verify: AsyncParsableCommand {
  /// What messages call it.
  static let name = "step3-verify"

  static let configuration = CommandConfiguration(
    commandName: name,
    abstract: "Prove that a conversion holds what it should.",
    discussion: """
      Examples:
        step3-verify checksums step3-afd
        step3-verify checksums step3-afd/attention --json
        step3-verify tensors step3-q4 --source step3
      """,
    version: toolkitVersion,
    subcommands: [Checksums.self, Tensors.self])

  static func main() async { await CommandLineTool.run(Self.self) }
}
