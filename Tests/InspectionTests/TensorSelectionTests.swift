import Checkpoint
import CheckpointTesting
import Foundation
import Inspection
import TensorFormats
import Testing

@Suite("selecting tensors") struct TensorSelectionTests {
  private let checkpoint: Checkpoint

  init() throws {
    let directory = try TemporaryDirectory()
    var file = WeightFile()
    for (name, count) in [
      ("model.layers.10.self_attn.q_proj.weight", 2), ("model.layers.2.self_attn.q_proj.weight", 8),
      ("model.layers.2.moe.gate.weight", 8), ("model.norm.weight", 1), ("model.layers.02.x", 3),
    ] { file.add(name, "F32", [Float](repeating: 0, count: count)) }
    try file.write(to: directory.path("w.safetensors"))
    checkpoint = try Checkpoint.open(directory.path("w.safetensors"))
  }

  private func names(_ selection: TensorSelection) throws -> [String] {
    try selection.tensors(of: checkpoint).map(\.name)
  }

  @Test func numbersInNamesSortByValue() throws {
    #expect(
      try names(TensorSelection(order: .name)) == [
        "model.layers.2.moe.gate.weight", "model.layers.2.self_attn.q_proj.weight", "model.layers.02.x",
        "model.layers.10.self_attn.q_proj.weight", "model.norm.weight",
      ])
  }

  @Test func theLargestFirstAndTiesByName() throws {
    #expect(
      try names(TensorSelection(order: .size)) == [
        "model.layers.2.moe.gate.weight", "model.layers.2.self_attn.q_proj.weight", "model.layers.02.x",
        "model.layers.10.self_attn.q_proj.weight", "model.norm.weight",
      ])
  }

  @Test func tensorsAreSelectedByNameAndRole() throws {
    #expect(try names(TensorSelection(matches: { $0.contains("q_proj") })).count == 2)
    let roles = try TensorListing(of: checkpoint).tensors.map(\.role)
    for role in Set(roles) {
      #expect(try names(TensorSelection(role: role)).count == roles.count { $0 == role })
    }
    #expect(Set(roles).count > 2)
  }

  @Test func aPatternThatTakesTooLongIsAnError() throws {
    let selection = TensorSelection(matches: { (name) throws(CheckpointError) in
      if name.contains("10") { throw CheckpointError(.invalidRequest, "too long") }
      return true
    })
    #expect(throws: CheckpointError.self) { try TensorListing(of: checkpoint, selection: selection) }
    #expect(throws: CheckpointError.self) { try selection.tensors(of: checkpoint) }
  }
}
