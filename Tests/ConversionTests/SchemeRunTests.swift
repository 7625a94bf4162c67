import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import GGUF
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// Runs that write schemes: deterministic bytes, and the effect of importance.
@Suite struct SchemeRunTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try ConversionHarness() }

  @Test("the bytes do not depend on the number of threads or shards") func determinism() async throws {
    let request = ConversionHarness.Request(recipe: "NVFP4A16", maximumShardBytes: 300_000, scope: .linear)
    try await harness.convert(tiny, request, into: "one", options: ConversionOptions(threads: 1))
    try await harness.convert(tiny, request, into: "many", options: ConversionOptions(threads: 7))
    let (one, many) = (
      try fingerprints(of: harness.directory.path("one")),
      try fingerprints(of: harness.directory.path("many"))
    )
    #expect(one == many && one.count > 8)
  }

  @Test("a killed and resumed run gives the same bytes", arguments: [3, 11]) func resuming(kills: Int) throws
  {
    let source = harness.directory.path("noise")
    try NoiseCheckpoint.write(to: source, seed: 5)
    let arguments = [
      "--to", "safetensors", "--quantize", "NVFP4A16", "--scope", "linear", "--max-shard-size", "4MB",
      "--sync-every", "1MiB", "--threads", "2",
    ]
    let whole = try ConvertProcess([source, harness.directory.path("whole")] + arguments).finish()
    #expect(whole.status == 0, "\(whole.error)")
    let output = harness.directory.path("output")
    var interrupted = 0
    for attempt in 1...kills where try FileSystem.kind(of: "\(output)/manifest.json") == nil {
      let run = try ConvertProcess([source, output] + arguments + ["--resume"])
      // Killed at the first bytes, then a little later each time.
      for _ in 0..<2000 where try FileSystem.kind(of: output) == nil {
        Thread.sleep(forTimeInterval: 0.002)
      }
      Thread.sleep(forTimeInterval: 0.015 * Double(attempt))
      run.send(SIGKILL)
      _ = run.finish()
      if try FileSystem.kind(of: "\(output)/manifest.json") == nil { interrupted += 1 }
    }
    #expect(interrupted > 0)
    let last = try ConvertProcess([source, output] + arguments + ["--resume"]).finish()
    #expect(last.status == 0, "\(last.error)")
    #expect(try fingerprints(of: output) == fingerprints(of: harness.directory.path("whole")))
  }

  @Test("non-finite values are refused wherever their matrix is first read") func nonFinite()
    async throws
  {
    let source = harness.directory.path("noise")
    try NoiseCheckpoint.write(to: source, seed: 6)
    let checkpoint = try Checkpoint.open(source)
    let tensor = try #require(checkpoint["model.layers.2.moe.up_proj.weight"])
    let handle = try FileHandle(
      forUpdating: URL(filePath: checkpoint.files[tensor.file].source.path))
    try handle.seek(toOffset: UInt64(tensor.byteRange.lowerBound + 2000))
    try handle.write(contentsOf: Data([0x80, 0x7F]))
    try handle.close()
    let error = await #expect(throws: CheckpointError.self) {
      try await harness.convert(source, .init(recipe: "NVFP4A16"))
    }
    #expect(error?.code == .nonFinite)
    #expect(error?.tensor?.hasPrefix("model.layers.2.moe") == true)
  }

  // MARK: - Importance

  /// Sums for the experts of layer 1: large for every eighth column.
  private func imatrix() throws -> String {
    var metadata = GGUFMetadata()
    metadata.set("general.type", .string("imatrix"))
    var items: [GGUFLayout.Tensor] = []
    var contents: [[Float]] = []
    for name in ["blk.1.ffn_up_exps.weight", "blk.1.ffn_gate_exps.weight"] {
      items.append(
        GGUFLayout.Tensor(name: name + ".in_sum2", elementType: .f32, shape: TensorShape([8, 256])))
      var sums = [Float](repeating: 0, count: 8 * 256)
      for index in sums.indices { sums[index] = index % 8 == 0 ? 900 : 0.5 + Float(index % 7) }
      contents.append(sums)
      items.append(GGUFLayout.Tensor(name: name + ".counts", elementType: .f32, shape: TensorShape([8, 1])))
      contents.append([Float](repeating: 4, count: 8))
    }
    let layout = try GGUFLayout(metadata: metadata, tensors: items)
    let path = harness.directory.path("imatrix.gguf")
    var writer = try GGUFWriter(path, layout: layout)
    for (index, content) in contents.enumerated() { try writer.append(content.span.bytes, toTensor: index) }
    try writer.finish()
    return path
  }

  @Test(
    "importance changes the codes and lowers the weighted error",
    arguments: ["NVFP4A16", "W4A16", "MXFP4A16"])
  func importance(name: String) async throws {
    let stored = try SchemeOutputTests.scheme(name)
    let recipe = try Recipe.named(name, for: .safetensors)
    let path = try imatrix()
    let source = try Checkpoint.open(tiny)
    func convert(_ importance: ImportanceFile?, into output: String) async throws -> (Checkpoint, Manifest) {
      let planned = try ShardPlanner.plan(
        source, request: .init(format: .safetensors, recipe: recipe.name), recipe: recipe,
        importance: importance)
      let manifest = try await Conversion(planned, options: ConversionOptions(threads: 3))
        .run(into: harness.directory.path(output)).manifest
      return (try Checkpoint.open(harness.directory.path(output)), manifest)
    }
    let (plain, _) = try await convert(nil, into: "plain")
    let (weighted, manifest) = try await convert(try ImportanceFile(path), into: "weighted")
    #expect(manifest.plan.importance?.weighted == 2)
    let matrix = try ImportanceMatrix(InputFile(path))
    let module = "model.layers.1.moe.up_proj"
    let original = try values(of: module + ".weight", in: source)
    let importance = try #require(
      try matrix.weights(for: "blk.1.ffn_up_exps.weight", columns: 256, expert: 0))
    func error(_ checkpoint: Checkpoint) throws -> Double {
      let restored = try StoredModule(module, stored, in: checkpoint).values
      return zip(original, restored).enumerated().reduce(0.0) { sum, pair in
        let difference = Double(pair.element.0) - Double(pair.element.1)
        return sum + Double(importance[pair.offset % 256]) * difference * difference
      }
    }
    #expect(try error(weighted) < error(plain))
    let (before, after) = (
      StoredModule(module, stored, in: plain), StoredModule(module, stored, in: weighted)
    )
    #expect(try before.bytes(before.codesName) != after.bytes(after.codesName))
    // Weights that the importance matrix does not cover stay the same.
    let other = "model.layers.2.moe.up_proj.\(stored.codesSuffix)"
    #expect(try before.bytes(other) == after.bytes(other))
    let record = try #require(manifest.tensors.first { $0.name == after.codesName }?.error?.search)
    let mean = try (error(weighted) / Double(original.count)).squareRoot()
    #expect(record.after < record.before)
    #expect(abs(record.after / mean - 1) < 1e-2, "\(record.after) and \(mean)")
  }
}

/// `config.json` is corrected where engines would not accept it.
@Suite struct ConfigurationAmendmentTests {
  private let harness: ConversionHarness

  init() throws { harness = try ConversionHarness() }

  /// The tiny checkpoint with another value in place of the string of layers.
  private func source(_ layers: String) throws -> String {
    let directory = harness.directory.path("source")
    try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/tiny"), toPath: directory)
    let path = "\(directory)/config.json"
    let text = try String(contentsOfFile: path, encoding: .utf8).replacing(
      #""moe_layers_enum": "1,2","#, with: layers)
    try FileManager.default.removeItem(atPath: path)
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    return directory
  }

  @Test("a list of MoE layers becomes a string") func list() throws {
    let path = try source(#""moe_layers_enum": [1, 2],"#)
    let plan = try harness.plan(path, .init(recipe: "W4A16")).plan
    #expect(plan.amendments.map(\.key) == ["text_config.moe_layers_enum"])
    let text = try #require(plan.parts[0].documents.first { $0.path == "config.json" }?.text)
    let json = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let inner = try #require(json["text_config"] as? [String: Any])
    #expect(inner["moe_layers_enum"] as? String == "1,2" && inner["hidden_size"] as? Int == 256)
    #expect(json["torch_dtype"] as? String == "bfloat16")
    // GGUF states the layers in its metadata, and the text stays as it is.
    #expect(try harness.plan(path, .init(format: .gguf, recipe: "Q8_0")).plan.amendments.isEmpty)
  }

  @Test("a string of MoE layers stays, and so does every other byte") func string() throws {
    let tiny = Fixtures.path("checkpoints/tiny")
    let plan = try harness.plan(tiny, .init()).plan
    #expect(plan.amendments.isEmpty)
    let text = plan.parts[0].documents.first { $0.path == "config.json" }?.text
    #expect(text.map { Array($0.utf8) } == (try Checkpoint.open(tiny).configuration))
  }

  @Test("torch_dtype follows the weights") func types() throws {
    let plan = try harness.plan(Fixtures.path("checkpoints/tiny"), .init(recipe: "F16")).plan
    #expect(Set(plan.amendments.map(\.key)) == ["torch_dtype", "text_config.torch_dtype"])
    let text = try #require(plan.parts[0].documents.first { $0.path == "config.json" }?.text)
    #expect(text.contains(#""torch_dtype": "float16""#) && !text.contains("bfloat16"))
  }
}
