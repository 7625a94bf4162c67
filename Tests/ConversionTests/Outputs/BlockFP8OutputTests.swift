import PlanTesting
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// `FP8_BLOCK` output equals StepFun's own FP8 release of the same weights.
@Suite struct BlockFP8OutputTests {
  private let harness: ConversionHarness

  init() throws { harness = try ConversionHarness() }

  @Test(
    "codes, scales and all other tensors are those of the published FP8 fixture", arguments: ["tiny", "odd"],
    [nil, 100_000])
  func twin(fixture: String, limit: Int?) async throws {
    let manifest = try await harness.convert(
      Fixtures.path("checkpoints/\(fixture)"), .init(recipe: "FP8_BLOCK", maximumShardBytes: limit))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let twin = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)-fp8"))
    #expect(Set(output.tensors.map(\.name)) == Set(twin.tensors.map(\.name)))
    for tensor in twin.tensors {
      let found = try #require(output[tensor.name])
      #expect(found.elementType == tensor.elementType && found.shape == tensor.shape, "\(tensor.name)")
      #expect(
        try TensorBytes(tensor.name, in: output).bytes == TensorBytes(tensor.name, in: twin).bytes,
        "\(tensor.name)")
    }
    // Every file's digest is that of its bytes, including scales written out of order.
    for record in manifest.files {
      #expect(
        try digests(ofFile: harness.directory.path("output/\(record.path)"))
          == (record.xxh3, record.sha256, record.bytes))
    }
    try checkErrors(of: manifest, source: Checkpoint.open(Fixtures.path("checkpoints/\(fixture)")), output)
  }

  /// The codes' errors are those of the values; scales have no error.
  private func checkErrors(of manifest: Manifest, source: Checkpoint, _ output: Checkpoint) throws {
    let name = "model.layers.0.self_attn.o_proj.weight"
    let error = try #require(manifest.tensors.first { $0.name == name }?.error)
    let (original, restored) = (try values(of: name, in: source), try values(of: name, in: output))
    let squares = zip(original, restored).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    #expect(abs(error.rmse - (squares / Double(original.count)).squareRoot()) < 1e-12)
    #expect(error.relativeRMSE > 0.005 && error.relativeRMSE < 0.05)
    #expect(manifest.tensors.first { $0.name == name + "_scale_inv" }?.error == nil)
  }

  private func configuration(_ text: String?) throws -> [String: Any] {
    let text = try #require(text)
    return try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  @Test("config.json states what engines need") func configuration() throws {
    let plan = try harness.plan(Fixtures.path("checkpoints/tiny"), .init(recipe: "FP8_BLOCK")).plan
    let json = try configuration(plan.parts[0].documents.first { $0.path == "config.json" }?.text)
    let quantization = try #require(json["quantization_config"] as? [String: Any])
    let twin = try Checkpoint.open(Fixtures.path("checkpoints/tiny-fp8"))
    let twinBytes = try #require(twin.configuration)
    let twinJSON = try configuration(String(decoding: twinBytes, as: UTF8.self))
    let expected = try #require(twinJSON["quantization_config"] as? [String: Any])
    for (key, value) in expected {
      let found = try #require(quantization[key], "\(key)")
      #expect(NSDictionary(object: value, forKey: "v" as NSString).isEqual(to: ["v": found]), "\(key)")
    }
    #expect(quantization["modules_to_not_convert"] as? [String] == ["lm_head"])
    #expect(quantization.count == expected.count + 1)
  }

  @Test("weights that stay BF16 are listed under every engine's name for them") func exclusions() throws {
    let path = Fixtures.path("checkpoints/tiny")
    let recipe = try Recipe.named("FP8_BLOCK").overriding(with: [
      TensorTypeOverride(argument: "self_attn=BF16"), TensorTypeOverride(argument: "layers.1.moe=BF16"),
    ])
    let plan = try ShardPlanner.plan(
      Checkpoint.open(path), request: .init(format: .safetensors, recipe: recipe.name), recipe: recipe
    ).plan
    let json = try configuration(plan.parts[0].documents.first { $0.path == "config.json" }?.text)
    let quantization = try #require(json["quantization_config"] as? [String: Any])
    let list = Set(try #require(quantization["modules_to_not_convert"] as? [String]))
    var expected: Set<String> = ["lm_head", "model.layers.1.moe.experts", "model.layers.1.mlp.experts"]
    for module in ["gate_proj", "up_proj", "down_proj"] { expected.insert("model.layers.1.moe.\(module)") }
    for layer in 0..<4 {
      for module in ["qkv_proj", "q_proj", "k_proj", "v_proj", "wq", "o_proj"] {
        expected.insert("model.layers.\(layer).self_attn.\(module)")
      }
    }
    #expect(list == expected)
  }

  @Test("matrices that engines fuse are not stored in different formats") func fusedModules() throws {
    let recipe = try Recipe.named("FP8_BLOCK").overriding(with: [
      TensorTypeOverride(argument: "layers.2.self_attn.k_proj=BF16")
    ])
    let error = #expect(throws: CheckpointError.self) {
      try ShardPlanner.plan(
        Checkpoint.open(Fixtures.path("checkpoints/tiny")),
        request: .init(format: .safetensors, recipe: recipe.name), recipe: recipe)
    }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message.contains("one module") == true)
  }

  @Test("each part's configuration lists only what it holds") func parts() throws {
    let request = ConversionHarness.Request(recipe: "FP8_BLOCK", partition: .afd(.init(ffnEP: 2)))
    let plan = try harness.plan(Fixtures.path("checkpoints/tiny"), request).plan
    for part in plan.parts {
      let json = try configuration(part.documents.first { $0.path == "\(part.directory)/config.json" }?.text)
      #expect((json["quantization_config"] != nil) == (part.role != .vision))
    }
    // An FP8 source's quantization_config is dropped with its last FP8 tensor.
    let kept = try harness.plan(
      Fixtures.path("checkpoints/tiny-fp8"), .init(recipe: "keep", partition: .afd(.init(ffnEP: 2)))
    ).plan
    let vision = try #require(kept.parts.last)
    #expect(try configuration(vision.documents[0].text)["quantization_config"] == nil)
  }

  @Test("FP8 sources are copied, and a quantised GGUF is encoded from its values") func otherSources()
    async throws
  {
    let fp8 = Fixtures.path("checkpoints/odd-fp8")
    let copy = try harness.plan(fp8, .init(recipe: "FP8_BLOCK")).plan
    #expect(copy.files.allSatisfy { $0.tensors.allSatisfy(\.isCopy) })
    let text = copy.parts[0].documents.first { $0.path == "config.json" }?.text
    #expect(text.map { Array($0.utf8) } == (try Checkpoint.open(fp8).configuration))

    try await harness.convert(
      Fixtures.path("checkpoints/tiny"), .init(format: .gguf, recipe: "Q8_0"), into: "q8")
    let quantised = try Checkpoint.open(harness.directory.path("q8"))
    try await harness.convert(quantised.path, .init(recipe: "FP8_BLOCK"))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let name = "model.layers.2.moe.down_proj.weight"
    let weights = try values(of: "blk.2.ffn_down_exps.weight", in: quantised)
    let tiles = try BlockFP8(rows: 256, columns: 256)
    var codes = [UInt8](repeating: 0, count: weights.count)
    var scales = [Float](repeating: 0, count: 8 * tiles.scaleCount)
    do {
      var span = codes.mutableSpan
      var bytes = span.mutableBytes
      var scaleSpan = scales.mutableSpan
      try tiles.encodeReference(weights.span, codes: &bytes, scales: &scaleSpan)
    }
    #expect(try TensorBytes(name, in: output).bytes == codes)
    #expect(
      try TensorBytes(name + "_scale_inv", in: output).bytes == scales.withUnsafeBytes { Array($0) })
  }
}
