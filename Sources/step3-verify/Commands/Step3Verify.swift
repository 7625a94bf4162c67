import ArgumentParser
import CommandSupport
import TensorFormats

/// The tool: checks a conversion against its manifest and its source.
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
        step3-verify signature step3-q4 --public-key pub.pem
        step3-verify all step3-q4 --source step3 --prompt "The lighthouse keeper"
        step3-verify tensors step3-q4 --source step3
        step3-verify logits step3-q4 --reference step3 --prompt "The lighthouse keeper" --max-mean-kl 0.05
        step3-verify run step3-q4 --prompt "The lighthouse keeper" --generate 8
        step3-verify engine step3-nvfp4 --engine vllm --tp 8
      """,
    version: toolkitVersion,
    subcommands: [
      Checksums.self, SignatureCommand.self, Tensors.self, Logits.self, Run.self, EngineCommand.self,
      All.self,
      FFNWorkerCommand.self,
    ])

  static func main() async { await CommandLineTool.run(Self.self) }
}
