import ByteStreams
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

/// The same pictures and weights, whatever the storage format.
@Suite("Vision storage")
struct VisionStorageTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func converted(
    _ model: String, to format: Checkpoint.Format, _ recipe: Recipe,
    partition: ShardPlan.Partition = .none
  ) async throws -> String {
    let source = Fixtures.path("checkpoints/\(model)")
    let plan = try ShardPlanner.plan(
      Checkpoint.open(source),
      request: ShardPlan.Request(format: format, recipe: recipe.name, partition: partition), recipe: recipe)
    let path = directory.path("output")
    _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(
      into: path)
    return path
  }

  @Test(
    "GGUF with its vision companion gives the same features", arguments: ["tiny", "odd"], ["F32", "BF16"])
  func gguf(_ model: String, _ recipe: String) async throws {
    let path = try await converted(model, to: .gguf, Recipe.named(recipe))
    let checkpoint = try Checkpoint.open(path)
    #expect(checkpoint.format == .gguf)
    #expect(checkpoint["v.blk.0.attn_qkv.weight"]?.elementType == (recipe == "F32" ? .f32 : .bf16))
    try expectImagePrompt(
      of: ModelWeights(checkpoint), matches: Fixtures.path("checkpoints/\(model)"))
  }

  @Test(
    "an AFD partition set gives the same features", arguments: ["tiny", "odd", "tiny-fp8"],
    [RouterSide.attention, .ffn])
  func partitionSet(_ model: String, _ router: RouterSide) async throws {
    let path = try await converted(
      model, to: .safetensors, Recipe.named("keep"),
      partition: .afd(.init(ffnEP: 2, router: router)))
    let checkpoint = try Checkpoint.open(path)
    #expect(checkpoint.parts.count == 4)
    try expectImagePrompt(
      of: ModelWeights(checkpoint), matches: Fixtures.path("checkpoints/\(model)"))
  }

  @Test("the vision part alone gives features; other parts are refused with what is missing")
  func visionPart() async throws {
    let path = try await converted(
      "tiny", to: .safetensors, Recipe.named("keep"), partition: .afd(.init()))
    let reference = try ReferenceOutput(Fixtures.path("checkpoints/tiny/reference/image.safetensors"))
    let pixels = try PixelValues(safetensors: reference.path)
    var seen = 0
    for part in try Checkpoint.open(path).parts {
      let weights = try ModelWeights(part.checkpoint)
      let vision = try VisionModel(weights, products: Products(threads: 1))
      if weights[Step3TensorName(.projector)] != nil {
        seen += 1
        let features = try vision.features(of: pixels)
        #expect(try reference.largestDifference("image_features", features.values, 0..<10) < 2e-4)
      } else {
        let error = #expect(throws: CheckpointError.self) { try vision.features(of: pixels) }
        #expect(error?.code == .notFound)
        #expect(error?.tensor?.hasPrefix("vision_model.") == true)
      }
    }
    #expect(seen == 1)
  }

  /// Linear layers in 8 bits: features differ by rounding alone. The bound is twice what was
  /// measured.
  @Test("quantised vision weights give nearly the same features")
  func quantised() async throws {
    let recipe = Recipe(
      name: "all-Q8_0", summary: "vision included", rules: [RecipeRule(format: .element(.q8_0))])
    let checkpoint = try Checkpoint.open(try await converted("tiny", to: .gguf, recipe))
    #expect(checkpoint["v.blk.0.attn_qkv.weight"]?.elementType == .q8_0)
    let reference = try ReferenceOutput(Fixtures.path("checkpoints/tiny/reference/image.safetensors"))
    let features = try VisionModel(ModelWeights(checkpoint), products: Products(threads: 2)).features(
      of: PixelValues(safetensors: reference.path))
    let expected = try reference.floats("image_features")
    let error = zip(features.values.array, expected).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let size = expected.reduce(0) { $0 + $1 * $1 }
    #expect((error / size).squareRoot() < 0.02)
    #expect(error > 0)
  }

  @Test("a GGUF without its vision companion is refused with what is missing")
  func noCompanion() async throws {
    let path = try await converted("tiny", to: .gguf, Recipe.named("BF16"))
    for name in try FileManager.default.contentsOfDirectory(atPath: path) where name.hasPrefix("mmproj") {
      try FileManager.default.removeItem(atPath: "\(path)/\(name)")
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.hasSuffix(".gguf") }
    try #require(names.count == 1)
    let weights = try ModelWeights(Checkpoint.open("\(path)/\(names[0])"))
    let error = #expect(throws: CheckpointError.self) {
      try VisionModel(weights, products: Products(threads: 1))
    }
    #expect(error?.code == .unsupported)
    #expect(error?.remedy?.contains("mmproj") == true)
  }
}
