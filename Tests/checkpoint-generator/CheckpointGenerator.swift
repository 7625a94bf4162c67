internal import ArgumentParser
internal import CheckpointTesting
internal import Foundation
internal import Step3Model

/// Generates checkpoints for trying out the tools.
@main
struct CheckpointGenerator: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "checkpoint-generator", abstract: "Makes checkpoints to try the tools on.",
    subcommands: [Full.self, Slice.self, Many.self])
}

struct Full: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "A whole model in true shape and without content, as sparse files.")

  @Argument(help: "The directory to make.") var directory: String
  @Option(help: "step3, step3p5, step3p7, step5 or step3-vl-10b.") var model = ModelFamily.step3.rawValue
  @Flag(name: .customLong("fp8"), help: "The block-FP8 twin.") var blockFP8 = false
  @Flag(help: "Add a projector bias.") var projectorBias = false

  func run() throws {
    guard let family = ModelFamily(rawValue: model) else {
      throw ValidationError(
        "--model must be one of " + ModelFamily.allCases.map(\.rawValue).joined(separator: ", "))
    }
    var model = Step3Configuration.published(family)
    if blockFP8 { model.quantization = .blockFP8 }
    model.vision?.projectorBias = projectorBias
    try SparseCheckpoint.write(model, to: URL(fileURLWithPath: directory))
  }
}

struct Slice: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Some layers of Step-3 in published width, of random weights, without the vision side.",
    discussion: """
      Layer 0 is dense, all others have experts. config.json is the flat one of Step3TextForCausalLM. Two layers with \
      48 experts take 12.5 GB.
      """)

  @Argument(help: "The directory to make.") var directory: String
  @Option(help: "Equal seeds give equal files.") var seed: UInt64 = 0
  @Option(help: "How many layers.") var layers = 2
  @Option(help: "How many routed experts per layer.") var experts = 48
  @Option(help: "Divides all widths.") var widthDivisor = 1
  @Option(help: "How many threads.") var threads = 2

  func validate() throws {
    guard (1...61).contains(layers) else { throw ValidationError("--layers must be 1 to 61") }
    guard (1...48).contains(experts) else { throw ValidationError("--experts must be 1 to 48") }
    guard (1...256).contains(threads) else { throw ValidationError("--threads must be 1 to 256") }
    guard (1...64).contains(widthDivisor) else { throw ValidationError("--width-divisor must be 1 to 64") }
  }

  func run() throws {
    let model = ModelSlice.configuration(layers: layers, experts: experts, widthDivisor: widthDivisor)
    let start = ContinuousClock.now
    let regions = try SparseCheckpoint.write(model, to: URL(fileURLWithPath: directory))
    try RandomWeights.fill(regions, seed: seed, threads: threads)
    let time = (ContinuousClock.now - start) / .seconds(1)
    let bytes = regions.reduce(0) { $0 + $1.entry.bytes }
    print("\(bytes) bytes in \(time) s: \(Int(Double(bytes) / time / 1e6)) MB/s")
  }
}

struct Many: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "One safetensors file of many tiny tensors.")

  @Argument(help: "How many tensors.") var count: Int
  @Argument(help: "The file to make.") var file: String

  func validate() throws {
    guard count >= 0 else { throw ValidationError("the count must not be negative") }
  }

  func run() throws {
    let entries = (0..<count).map {
      SparseCheckpoint.Entry(name: "tensor.\($0).weight", type: "BF16", shape: [2, 2], bytes: 8)
    }
    try SparseCheckpoint.write(entries, to: URL(fileURLWithPath: file))
  }
}
