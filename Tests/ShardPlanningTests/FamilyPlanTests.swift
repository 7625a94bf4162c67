import Checkpoint
import CheckpointTesting
import Foundation
import PlanTesting
import Quantization
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

/// Whole models of the family, of full size and without content.
@Suite("Plans for the whole family") struct FamilyPlanTests {
  private static let later = ModelFamily.allCases.filter { $0 != .step3 }
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func source(_ family: ModelFamily) throws -> String {
    let path = directory.path(family.rawValue)
    try SparseCheckpoint.write(.published(family), to: URL(filePath: path))
    return path
  }

  @Test("a safetensors plan changes nothing but the division into files", arguments: later)
  func same(family: ModelFamily) throws {
    let source = try source(family)
    let expected = try Step3Inventory(.published(family))
    let plan = try PlanRequest(recipe: "BF16").plan(source).plan
    #expect(plan.warnings.isEmpty, "\(plan.warnings)")
    let tensors = plan.files.flatMap(\.tensors)
    #expect(Set(tensors.map(\.name)) == Set(expected.tensors.map(\.publishedName)))
    // Each layer and each role matches the inventory.
    let described = Dictionary(uniqueKeysWithValues: expected.tensors.map { ($0.publishedName, $0) })
    for tensor in tensors {
      #expect(tensor.role == described[tensor.name]?.role && tensor.layer == described[tensor.name]?.layer)
    }
  }

  @Test("AFD parts hold every element once, except for declared replicas", arguments: later)
  func partitions(family: ModelFamily) throws {
    let source = try source(family)
    let dense = family == .step3VL10B
    let layout = ShardPlan.AFDLayout(ffnEP: dense ? 1 : 4, ffnTP: dense ? 4 : 1, attentionTP: 4)
    let plan = try PlanRequest(partition: .afd(layout)).plan(source).plan
    let configuration = Step3Configuration.published(family)
    let isSeeing = configuration.vision != nil
    #expect(plan.parts.count == 4 + 4 + (isSeeing ? 1 : 0))
    // The attention side's tensors of layer 1, which has sliding attention in Step-3.5-Flash.
    let first = try #require(plan.parts.first)
    let heads = configuration.text.headCount(layer: 1)
    let query = try #require(
      first.files.flatMap(\.tensors).first { $0.name == "model.layers.1.self_attn.q_proj.weight" })
    #expect(query.shape.dimensions[0] == heads * configuration.text.headDimension / 4)
    let key = try #require(
      first.files.flatMap(\.tensors).first { $0.name == "model.layers.1.self_attn.k_proj.weight" })
    #expect(
      key.shape.dimensions[0]
        == configuration.text.keyValueHeadCount(layer: 1) * configuration.text.headDimension / 4)
    if !dense {
      let gate = try #require(
        first.files.flatMap(\.tensors).first { $0.name == "model.layers.1.self_attn.g_proj.weight" })
      #expect(gate.shape.dimensions == [heads / 4, configuration.text.hiddenSize])
      let bias = plan.parts.filter { part in
        part.files.contains { $0.tensors.contains { $0.name == "model.layers.4.moe.router_bias" } }
      }
      #expect(bias.map(\.role) == Array(repeating: .attention, count: 4))
    }
  }

  @Test("more ranks than the heads allow are refused")
  func tooManyRanks() throws {
    let source = try source(.step3p5)
    let error = #expect(throws: CheckpointError.self) {
      try PlanRequest(partition: .afd(ShardPlan.AFDLayout(ffnEP: 1, attentionTP: 16))).plan(source)
    }
    #expect(error?.remedy?.contains("1, 2, 4 or 8") == true, "\(String(describing: error))")
  }

  @Test("an incomplete model is not partitioned, and what is missing is named")
  func incomplete() throws {
    let path = directory.path("lacking")
    var configuration = Step3Configuration.published(.step3p5)
    configuration.text.predictionLayerCount = 0
    configuration.text.sliding?.layers.removeAll { $0 >= 45 }
    configuration.text.expertLimits.removeLast(3)
    configuration.text.sharedExpertLimits.removeLast(3)
    try SparseCheckpoint.write(configuration, to: URL(filePath: path))
    // The same files with a configuration of more layers.
    try Data(Step3Configuration.published(.step3p5).configJSON()).write(
      to: URL(filePath: "\(path)/config.json"))
    let error = #expect(throws: CheckpointError.self) {
      try PlanRequest(partition: .afd(ShardPlan.AFDLayout(ffnEP: 2))).plan(path)
    }
    #expect(error?.message.contains("model.layers.45.enorm.weight") == true, "\(String(describing: error))")
    #expect(error?.message.contains("Step-3.5-Flash") == true)
  }

  @Test("GGUF is refused with the reason")
  func refusedGGUF() throws {
    let source = try source(.step5)
    let error = #expect(throws: CheckpointError.self) {
      try PlanRequest(format: .gguf, recipe: "BF16").plan(source)
    }
    #expect(error?.message.contains("sparse attention") == true, "\(String(describing: error))")
  }

  @Test(
    "GGUF has one file for the language side and one for vision",
    arguments: [ModelFamily.step3p5, .step3p7, .step3VL10B])
  func gguf(family: ModelFamily) throws {
    let source = try source(family)
    let plan = try PlanRequest(format: .gguf, recipe: "BF16", maximumShardBytes: 1 << 40).plan(source).plan
    #expect(plan.warnings.isEmpty, "\(plan.warnings)")
    let sides = Dictionary(uniqueKeysWithValues: plan.files.map { ($0.path, $0.tensors) })
    #expect(Set(sides.keys) == (family == .step3p5 ? ["model.gguf"] : ["model.gguf", "mmproj.gguf"]))
    let names = Set((sides["model.gguf"] ?? []).map(\.name))
    // 754 in the published file, which has no prediction layers.
    let trunk = names.filter { !["blk.45.", "blk.46.", "blk.47."].contains(where: $0.hasPrefix) }
    #expect(trunk.count == (family == .step3VL10B ? 399 : 754))
    #expect(sides["mmproj.gguf"]?.count ?? 667 == 667)
    if family != .step3VL10B {
      // The rope factors come first, and norms are in their usual place.
      let listed = (sides["model.gguf"] ?? []).map(\.name)
      #expect(listed.first == "rope_freqs.weight")
      let norm = try #require(listed.firstIndex(of: "blk.7.attn_norm.weight"))
      #expect(listed[norm - 1].hasPrefix("blk.") && listed[norm + 1].hasPrefix("blk.7."))
      let tensor = try #require(sides["model.gguf"]?.first { $0.name == "blk.7.attn_norm.weight" })
      #expect(tensor.elementType == .f32)
    }
  }
}
