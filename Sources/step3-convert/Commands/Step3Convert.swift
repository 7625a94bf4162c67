import ArgumentParser
import CommandSupport
import TensorFormats

/// The tool: converts a checkpoint, plans a conversion, runs a plan, lists recipes.
@main
struct Step3Convert: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step3-convert",
    abstract: "Convert, quantise and partition very large checkpoints.",
    discussion: """
      Reads a checkpoint once, from start to end, and writes it in another format, element type or partition, \
      within a memory budget. The output is complete once its manifest.json exists; until then every tool \
      recognises it as unfinished.

      Examples:
        step3-convert step3 step3-q4 --to gguf --quantize Q4_K_M
        step3-convert step3 step3-180 --to gguf --target-size 180GB
        step3-convert step3 step3-afd --to safetensors --partition afd --ffn-ep 4
        step3-convert plan step3 --to gguf --quantize BF16 --json
        step3-convert plan step3 --to gguf --quantize Q4_K_M --output plan.json
        step3-convert run plan.json step3-q4
        step3-convert calibrate step3 step3.imatrix.gguf --text calibration.txt
        step3-convert archive step3 step3-archive
        step3-convert sign step3-q4 --key ec.pem

      The source is a checkpoint directory, one .safetensors or .gguf file, or the first file of a split GGUF.
      """,
    version: toolkitVersion,
    subcommands: [
      Convert.self, Plan.self, Run.self, Calibrate.self, Recipes.self, Archive.self, Restore.self,
      Sign.self,
    ],
    defaultSubcommand: Convert.self)

  static func main() async { await CommandLineTool.run(Self.self) }
}
