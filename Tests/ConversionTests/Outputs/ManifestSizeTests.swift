import PlanTesting
import Quantization
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

/// A manifest that is written can be read, however many ranks it describes.
@Suite struct ManifestSizeTests {
  private func encoded(_ plan: ShardPlan) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return Array(try encoder.encode(plan))
  }

  @Test(
    "the size bound holds and is tight",
    arguments: [
      ConversionHarness.Request(recipe: "keep"), .init(format: .gguf, recipe: "Q4_K"),
      .init(recipe: "NVFP4A16", partition: .afd(.init(ffnEP: 2, attentionTP: 2))),
      .init(recipe: "FP8_DYNAMIC", maximumShardBytes: 1 << 16, scaleSearch: .mse),
    ])
  func bound(request: ConversionHarness.Request) async throws {
    let harness = try ConversionHarness()
    let manifest = try await harness.convert(Fixtures.path("checkpoints/tiny"), request)
    let written = try Data(contentsOf: URL(filePath: harness.directory.path("output/manifest.json"))).count
    let most = Manifest.largestByteCount(of: manifest.plan, encoded: try encoded(manifest.plan))
    #expect(written <= most && most < 3 * written, "\(most) for \(written)")
  }

  @Test(
    "the whole model on 1,024 ranks can be planned, and its manifest stays readable", .timeLimit(.minutes(10))
  )
  func manyRanks() throws {
    let harness = try ConversionHarness()
    let layout = ShardPlan.AFDLayout(ffnEP: 16, ffnTP: PartIdentity.mostRanks / 16)
    // Every further layer has the same tensors, so two sizes determine all others.
    var bounds: [Int] = []
    for layers in [2, 3] {
      var model = Step3Configuration.published
      model.vision = nil
      model.text.layerCount = layers
      model.text.moeLayers = Array(1..<layers)
      let path = harness.directory.path("model\(layers)")
      try SparseCheckpoint.write(model, to: URL(filePath: path))
      let plan = try harness.plan(path, .init(recipe: "NVFP4A16", partition: .afd(layout))).plan
      #expect(plan.parts.count == 1 + PartIdentity.mostRanks)
      let text = try encoded(plan)
      bounds.append(Manifest.largestByteCount(of: plan, encoded: text))
      try Manifest.requireReadable(plan, encoded: text)
      let error = #expect(throws: CheckpointError.self) {
        try Manifest.requireReadable(plan, encoded: text, limit: bounds[bounds.count - 1] - 1)
      }
      #expect(error?.code == .invalidRequest && error?.remedy?.contains("fewer parts") == true)
    }
    let whole = bounds[0] + (Step3Configuration.published.text.layerCount - 2) * (bounds[1] - bounds[0])
    #expect(bounds[1] > bounds[0] && whole <= OutputMarkers.largestRecord, "\(whole)")
  }

  @Test(
    "more ranks than readers accept are not planned",
    arguments: [
      ShardPlan.AFDLayout(ffnEP: 1025), .init(ffnTP: 2048), .init(attentionTP: 4096),
      .init(ffnEP: 64, ffnTP: 32),
      .init(ffnEP: 0),
    ])
  func tooMany(layout: ShardPlan.AFDLayout) throws {
    let error = #expect(throws: CheckpointError.self) {
      try ConversionHarness().plan(
        Fixtures.path("checkpoints/tiny"), .init(partition: .afd(layout)))
    }
    #expect(error?.code == .invalidRequest)
    #expect("\(error.map(String.init(describing:)) ?? "")".contains("\(PartIdentity.mostRanks)"))
  }
}
