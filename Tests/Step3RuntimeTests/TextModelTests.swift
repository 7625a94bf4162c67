import Checkpoint
import CheckpointTesting
import Foundation
import StoredWeights
import Safetensors
import Step3Model
import Step3Runtime
import TensorFormats
import Testing

/// The language model against what the published modeling code computes in F64 on the same weights.
@Suite("Text model")
struct TextModelTests {
  static let prompts = ["text_001", "text_007", "text_033", "text_064"]
  /// Fewer reference outputs are stored for the FP8 fixtures and the trained model.
  static let fewPrompts = ["text_007", "text_064"]

  @Test(
    "logits are within 2e-4, and router choices and hidden states match",
    arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8", "trained"])
  func matchesReference(_ model: String) throws {
    let path = Fixtures.path("checkpoints/\(model)")
    let references = try (model.hasSuffix("fp8") || model == "trained" ? Self.fewPrompts : Self.prompts).map {
      try ReferenceOutput("\(path)/reference/\($0).safetensors")
    }
    let recorder = Recorder()
    let runtime = try TextModel(
      ModelWeights(Checkpoint.open(path)), products: Products(threads: 2), observer: recorder)
    // All prompts at once, as a user would run them.
    let batch = TokenBatch(try references.map { try $0.integers("input_ids") })
    let hidden = try runtime.embed(batch)
    for layer in 0..<runtime.text.layerCount { try runtime.run(layer: layer, hidden, batch) }
    let logits = try runtime.logits(runtime.finalNorm(hidden))
    for (reference, range) in zip(references, batch.ranges) {
      #expect(try reference.largestDifference("logits", logits, range) < 2e-4)
      for layer in 0..<runtime.text.layerCount {
        let values = try #require(recorder.values(.layerOutput, layer))
        #expect(try reference.largestDifference("hidden.\(layer)", values, range) < 2e-4)
        guard runtime.text.isMoE(layer: layer) else { continue }
        let routing = try #require(recorder.routing(layer))
        let expected = try reference.integers("router.\(layer).ids")
        let chosen = routing.experts[
          range.lowerBound * routing.perToken..<range.upperBound * routing.perToken]
        #expect(chosen.map(Int.init) == expected)
      }
      let final = try #require(recorder.values(.finalNorm, nil))
      #expect(try reference.largestDifference("hidden.norm", final, range) < 2e-4)
    }
  }

  @Test("intermediate values of every layer match the reference", arguments: ["tiny", "odd"])
  func matchesDetails(_ model: String) throws {
    let path = Fixtures.path("checkpoints/\(model)")
    let prompt = try ReferenceOutput("\(path)/reference/text_007.safetensors")
    let details = try ReferenceOutput("\(path)/reference/detail_007.safetensors")
    let recorder = Recorder()
    let runtime = try TextModel(
      ModelWeights(Checkpoint.open(path)), products: Products(threads: 1), observer: recorder)
    let batch = TokenBatch([try prompt.integers("input_ids")])
    let hidden = try runtime.embed(batch)
    for layer in 0..<runtime.text.layerCount { try runtime.run(layer: layer, hidden, batch) }
    for layer in 0..<runtime.text.layerCount {
      for (name, stage) in [
        ("shared_q", ForwardStage.sharedQuery), ("q", .query), ("k", .key), ("v", .value),
      ] {
        let values = try #require(recorder.values(stage, layer))
        #expect(try details.largestDifference("detail.\(layer).\(name)", values, 0..<7) < 2e-4)
      }
    }
  }

  @Test("a model of an unknown family is refused", arguments: ["step9", "llama"])
  func unknownFamily(_ type: String) throws {
    let directory = try TemporaryDirectory()
    let copy = directory.path("model")
    try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/tiny"), toPath: copy)
    let file = URL(filePath: "\(copy)/config.json")
    let text = try String(contentsOf: file, encoding: .utf8)
    let other = text.replacing("Step3VLForConditionalGeneration", with: "OtherForCausalLM")
      .replacing("Step3TextForCausalLM", with: "OtherForCausalLM")
      .replacing("\"step3_vl\"", with: "\"\(type)\"")
    #expect(other != text)
    try Data(other.utf8).write(to: file)
    let weights = try ModelWeights(Checkpoint.open(copy))
    #expect(
      weights.model == nil && weights[Step3TensorName(.lmHead)] == nil && weights["lm_head.weight"] != nil)
    let runs: [() throws -> Void] = [
      { _ = try TextModel(weights, products: Products(threads: 1)) },
      { _ = try VisionModel(weights, products: Products(threads: 1)) },
    ]
    for run in runs {
      let error = #expect(throws: CheckpointError.self) { try run() }
      #expect(error?.code == .unsupported && error?.message.contains(type) == true)
    }
  }
}
