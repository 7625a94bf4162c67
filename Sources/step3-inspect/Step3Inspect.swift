internal import ArgumentParser
internal import CommandSupport
internal import TensorFormats

/// The tool and its subcommands.
@main struct Step3Inspect: AsyncParsableCommand {
  static let name = "step3-inspect"

  static let configuration = CommandConfiguration(
    commandName: name,
    abstract: "Show what is in a safetensors or GGUF checkpoint, however large.",
    discussion: """
      PATH is a checkpoint directory (with model.safetensors.index.json or a single shard), one .safetensors file, \
      one .gguf file, the first shard of a split GGUF, or a directory that step3-convert wrote, a partition set \
      included. Only 'stats' and 'diff' read weights; 'list' and 'metadata' read headers and take a fraction of a \
      second for any size.

      Results go to standard output, everything else to standard error. With --json there is exactly one JSON \
      document on standard output, and an error is one line of JSON on standard error.

      EXAMPLES
        step3-inspect models/step3
        step3-inspect models/step3 --role routed_experts --sort size
        step3-inspect list models/step3 --filter 'layers\\.(0|1)\\.' --json
        step3-inspect list models/step3 --fold
        step3-inspect list 'out/*.gguf' --summary
        step3-inspect stats model.gguf --filter attn --percentiles --histogram
        step3-inspect diff models/step3 step3-q8_0.gguf
        step3-inspect diff models/step3 models/step3-fp8 --headers-only
        step3-inspect metadata step3-q8_0.gguf

      EXIT STATUS
        0    done; for 'diff': no difference
        1    'diff' found a difference
        64   wrong usage
        65   malformed or unsupported input
        66   input not there or not readable
        74   input or output failed
        130  interrupted
      """,
    version: toolkitVersion,
    subcommands: [
      ListCommand.self, StatsCommand.self, DiffCommand.self, MetadataCommand.self, ReportCommand.self,
    ],
    defaultSubcommand: ListCommand.self)

  static func main() async { await CommandLineTool.run(Self.self) }
}
