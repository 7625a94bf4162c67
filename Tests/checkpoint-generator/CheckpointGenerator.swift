internal import ArgumentParser
internal import CheckpointTesting
internal import Foundation
internal import Step3Model

/// Makes checkpoints to try the tools on.
@main
struct CheckpointGenerator: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "checkpoint-generator", abstract: "Makes checkpoints to try the tools on.",
    subcommands: [Full.self, Many.self])
}

struct Full: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The whole Step-3 in true shape and without content, as sparse files.")

  @Argument(help: "The directory to make.") var directory: String
  @Flag(name: .customLong("fp8"), help: "The block-FP8 twin.") var blockFP8 = false
  @Flag(help: "Add a projector bias.") var projectorBias = false

  func run() throws {
    var model = Step3Configuration.published
    if blockFP8 { model.quantization = .blockFP8 }
    model.vision?.projectorBias = projectorBias
    try SparseCheckpoint.write(model, to: URL(fileURLWithPath: directory))
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
