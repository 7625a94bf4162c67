import PlanTesting
import Checkpoint
import CheckpointTesting
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

/// The planner's check of its own work finds every kind of mistake.
@Suite struct PlanCoverageTests {
  private let source: Checkpoint
  private let plan: ShardPlan

  init() throws {
    source = try Checkpoint.open(Fixtures.path("checkpoints/tiny"))
    plan = try PlanningHarness().plan(
      source.path,
      .init(recipe: "FP8_BLOCK", partition: .afd(.init(ffnEP: 2, attentionTP: 2, router: .ffn)))
    ).plan
  }

  /// Changes one tensor of one part.
  private func changed(
    _ name: String, in directory: String, _ change: (inout ShardPlan.Tensor) -> Void
  ) throws -> ShardPlan {
    var plan = plan
    let part = try #require(plan.parts.firstIndex { $0.directory == directory })
    let file = try #require(plan.parts[part].files.firstIndex { $0.tensors.contains { $0.name == name } })
    let tensor = try #require(plan.parts[part].files[file].tensors.firstIndex { $0.name == name })
    change(&plan.parts[part].files[file].tensors[tensor])
    return plan
  }

  private func expectMistake(_ plan: ShardPlan, about tensor: String) {
    let error = #expect(throws: CheckpointError.self) { try plan.checkCoverage(of: source) }
    #expect(error?.tensor == tensor)
    #expect(error?.remedy?.contains("bug in the planner") == true)
  }

  private let stack = "model.layers.1.moe.up_proj.weight"

  @Test func aSoundPlanPasses() throws { try plan.checkCoverage(of: source) }

  @Test func aGapIsFound() throws {
    expectMistake(try changed(stack, in: "ffn-ep1") { $0.source.extent[0] -= 1 }, about: stack)
  }

  @Test func aMissingTensorIsFound() throws {
    var plan = plan
    plan.parts.removeLast()
    let error = #expect(throws: CheckpointError.self) { try plan.checkCoverage(of: source) }
    #expect(error?.tensor?.hasPrefix("vi") == true)
  }

  @Test("one slice twice and another missing is found") func aDoubling() throws {
    let wrong = try changed(stack, in: "ffn-ep1") { $0.source.origin[0] = 0 }
    expectMistake(wrong, about: stack)
  }

  @Test("an overlap with the right number of elements is found") func anOverlap() throws {
    let wrong = try changed(stack, in: "ffn-ep1") { $0.source.origin[0] = 3 }
    expectMistake(wrong, about: stack)
  }

  @Test("irregular boxes are accepted only where they tile") func irregularBoxes() throws {
    // A box of 256 x 256 cut into an L (0..128 x 0..256, 128..256 x 0..128) and a third box that overlaps both or fits.
    let name = "model.layers.0.mlp.up_proj.weight"
    var wrong = try changed(name, in: "ffn-ep0") {
      ($0.source.origin, $0.source.extent) = ([0, 0], [512, 128])
    }
    expectMistake(wrong, about: name)
    let part = try #require(wrong.parts.firstIndex { $0.directory == "ffn-ep1" })
    for file in wrong.parts[part].files.indices {
      for index in wrong.parts[part].files[file].tensors.indices
      where wrong.parts[part].files[file].tensors[index].source.tensor == name {
        wrong.parts[part].files[file].tensors[index].source.origin = [128, 64]
        wrong.parts[part].files[file].tensors[index].source.extent = [256, 256]
      }
    }
    expectMistake(wrong, about: name)
  }

  @Test func scalesOfAnotherSliceAreFound() throws {
    let wrong = try changed(stack + "_scale_inv", in: "ffn-ep1") { $0.source.origin[0] = 0 }
    expectMistake(wrong, about: stack)
  }

  @Test func aMissingReplicaIsFound() throws {
    let router = "model.layers.1.moe.gate.weight"
    var plan = plan
    let index = try #require(plan.replicated.firstIndex { $0.tensor == router })
    plan.replicated[index].parts.removeLast()
    expectMistake(plan, about: router)
    plan.replicated.remove(at: index)
    expectMistake(plan, about: router)
  }
}
