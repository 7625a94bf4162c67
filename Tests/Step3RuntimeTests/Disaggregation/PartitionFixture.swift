import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import StoredWeights
import QuantizationRecipes
import ShardPlanning
import Step3Model
import Step3Runtime
import TensorFormats
import Testing

/// A fixture cut into parts, and the reference outputs of its model.
struct PartitionFixture {
  let fixture: String
  let directory: TemporaryDirectory

  /// The partition set.
  var path: String { directory.path("parts") }

  func part(_ name: String) -> String { "\(path)/\(name)" }

  init(
    _ fixture: String, _ layout: ShardPlan.AFDLayout, to format: Checkpoint.Format = .safetensors,
    recipe: String = "keep"
  ) async throws {
    self.fixture = fixture
    directory = try TemporaryDirectory()
    try await convert(.afd(layout), to: format, recipe, into: path)
  }

  /// Converts the fixture once more.
  func convert(
    _ partition: ShardPlan.Partition, to format: Checkpoint.Format, _ recipe: String, into output: String
  ) async throws {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    let plan = try ShardPlanner.plan(
      source, request: ShardPlan.Request(format: format, recipe: recipe, partition: partition),
      recipe: Recipe.named(recipe))
    _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(into: output)
  }

  /// Two prompts at once.
  var prompts: [ReferenceOutput] {
    get throws {
      try ["text_007", "text_064"].map {
        try ReferenceOutput(Fixtures.path("checkpoints/\(fixture)/reference/\($0).safetensors"))
      }
    }
  }

  var batch: TokenBatch {
    get throws { TokenBatch(try prompts.map { try $0.integers("input_ids") }) }
  }

  /// The largest difference between a model's logits and the reference.
  func difference(_ model: TextModel) throws -> Float {
    let (batch, logits) = (try batch, try logits(model))
    return try zip(prompts, batch.ranges).reduce(0) {
      max($0, try $1.0.largestDifference("logits", logits, $1.1))
    }
  }

  func logits(_ model: TextModel) throws -> Activations {
    let batch = try batch
    let hidden = try model.embed(batch)
    for layer in 0..<model.text.layerCount { try model.run(layer: layer, hidden, batch) }
    return try model.logits(model.finalNorm(hidden))
  }

  /// The logits of a checkpoint in one process.
  func localLogits(_ path: String) throws -> Activations {
    try logits(TextModel(ModelWeights(Checkpoint.open(path)), products: Products(threads: 2)))
  }

  /// Runs the set in separate processes.
  func start(
    _ change: (inout AFDOptions) -> Void = { _ in }, observer: (any ForwardObserver)? = nil
  ) throws -> AFDSession {
    var options = AFDOptions(threads: 1)
    options.threadsPerWorker = 1
    options.workerExecutable = try workerExecutable()
    change(&options)
    return try AFDSession.start(path, options: options, observer: observer)
  }

  /// The error that starting throws.
  func refusal(_ change: (inout AFDOptions) -> Void = { _ in }) throws -> CheckpointError {
    try #require(throws: CheckpointError.self) { try start(change) }
  }
}

/// The tool with the hidden worker subcommand, beside the test bundle.
func workerExecutable() throws -> String {
  #if os(macOS)
  let bundle = try #require(Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") })
  return bundle.bundleURL.deletingLastPathComponent().appending(path: "step3-verify").path
  #else
  return try #require(Bundle.main.executableURL).deletingLastPathComponent().appending(path: "step3-verify")
    .path
  #endif
}

func largestDifference(_ first: Activations, _ second: Activations) -> Float {
  precondition(first.count == second.count)
  return zip(first.array, second.array).reduce(0) { max($0, abs($1.0 - $1.1)) }
}

/// Whether a process exists, even as a zombie.
func isThere(_ process: Int32) -> Bool { kill(process, 0) == 0 || errno != ESRCH }

/// Runs an action as soon as the model reaches a stage.
struct Trigger: ForwardObserver {
  let stage: ForwardStage
  let layer: Int
  let action: @Sendable () -> Void

  func note(_ stage: ForwardStage, layer: Int?, _ values: Activations) {
    if stage == self.stage, layer == self.layer { action() }
  }
}
