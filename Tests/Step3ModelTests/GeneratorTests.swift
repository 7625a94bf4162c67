internal import ByteStreams
internal import Checkpoint
internal import CheckpointTesting
internal import Foundation
internal import Step3Model
internal import TensorFormats
internal import Testing
internal import Tokenization

@Suite struct GeneratorTests {
  /// The opened model, after comparing every tensor with the inventory of its own `config.json`.
  private func opened(_ path: String) throws -> Checkpoint {
    let checkpoint = try Checkpoint.open(path)
    let bytes = try #require(checkpoint.configuration)
    let inventory = try Step3Inventory(Step3Configuration(configJSON: bytes))
    #expect(inventory.issues(with: checkpoint.tensors.map { (name: $0.name, shape: $0.shape) }).isEmpty)
    let types = Dictionary(uniqueKeysWithValues: checkpoint.tensors.map { ($0.name, $0.elementType) })
    for tensor in inventory.tensors { #expect(types[tensor.publishedName] == tensor.elementType) }
    return checkpoint
  }

  private func file(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: path)))
  }

  private func allocated(_ directory: String) throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: directory).reduce(0) { sum, name in
      var status = stat()
      try #require(stat("\(directory)/\(name)", &status) == 0)
      return sum + Int(status.st_blocks) * 512
    }
  }

  @Test(arguments: [(false, false), (true, false), (false, true), (true, true)])
  func theFullModelIsSparse(blockFP8: Bool, projectorBias: Bool) throws {
    let directory = try TemporaryDirectory()
    var model = Step3Configuration.published
    if blockFP8 { model.quantization = .blockFP8 }
    model.vision?.projectorBias = projectorBias
    try SparseCheckpoint.write(model, to: URL(fileURLWithPath: directory.path))
    let checkpoint = try opened(directory.path)
    let size = checkpoint.tensors.reduce(0) { $0 + $1.byteRange.count }
    #expect(size == (try Step3Inventory(model).byteCount))
    #expect(size > (blockFP8 ? 327_000_000_000 : 641_000_000_000))
    #expect(checkpoint.tensors.contains { $0.name == "vit_large_projector.bias" } == projectorBias)
    // Only headers and side files take space.
    #expect(try allocated(directory.path) < 8_000_000)
    let configuration = try Step3Configuration(configJSON: #require(checkpoint.configuration))
    #expect(configuration == model)
    let tokenizer = try Step3Tokenizer(
      tokenizerJSON: file(directory.path("tokenizer.json")),
      tokenizerConfigJSON: file(directory.path("tokenizer_config.json")),
      generationConfigJSON: file(directory.path("generation_config.json")), configuration: configuration,
      preTokenizer: Step3Tokenizer.deepSeekV3)
    #expect(tokenizer.tokens.count == 128_815)
    #expect(tokenizer.bosTokenID == 0 && tokenizer.eosTokenIDs == [1] && tokenizer.padTokenID == 2)
  }

  @Test func aSliceIsDeterministicAndPlausible() throws {
    let model = ModelSlice.configuration(layers: 2, experts: 4, widthDivisor: 32)
    #expect(model.text.moeLayers == [1])
    let directory = try TemporaryDirectory()
    func make(_ name: String, seed: UInt64, threads: Int) throws -> [String: [UInt8]] {
      let path = directory.path(name)
      let regions = try SparseCheckpoint.write(
        model, to: URL(fileURLWithPath: path), shardBytes: 1_000_000)
      try RandomWeights.fill(regions, seed: seed, threads: threads)
      let checkpoint = try opened(path)
      #expect(checkpoint.files.count > 1)
      var tensors: [String: [UInt8]] = [:]
      for tensor in checkpoint.tensors {
        tensors[tensor.name] = try checkpoint.files[tensor.file].source.readBytes(tensor.byteRange)
      }
      return tensors
    }
    let first = try make("a", seed: 1, threads: 1)
    #expect(try make("b", seed: 1, threads: 3) == first)
    let other = try make("c", seed: 2, threads: 2)
    for (name, bytes) in first { #expect(other[name] != bytes, "\(name) does not depend on the seed") }

    for (name, bytes) in first {
      let values = stride(from: 0, to: bytes.count, by: 2).map {
        Float(bitPattern: UInt32(bytes[$0]) << 16 | UInt32(bytes[$0 + 1]) << 24)
      }
      let mean = values.reduce(0, +) / Float(values.count)
      if name.contains("norm") {
        #expect(abs(mean - 1) < 0.05, "\(name)")
        continue
      }
      #expect(abs(mean) < 0.01, "\(name)")
      let magnitudes = values.map(abs).sorted()
      // The median magnitude is 0.67 sigma, and outliers hardly affect it.
      #expect((0.008...0.02).contains(magnitudes[values.count / 2]), "\(name)")
      #expect((magnitudes.last ?? 0) > 0.15, "\(name) has no outliers")
    }
  }

  @Test func aSliceHasThePublishedWidth() throws {
    let inventory = try Step3Inventory(ModelSlice.configuration())
    #expect(inventory.byteCount == 12_495_599_616)
    let full = Dictionary(
      uniqueKeysWithValues: try Step3Inventory(.published).tensors.map { ($0.publishedName, $0.shape) })
    // Only the vocabulary differs from the published size.
    for tensor in inventory.tensors where tensor.layer != nil {
      let published = tensor.publishedName.replacingOccurrences(of: "layers.1.", with: "layers.4.")
      #expect(full[published] == tensor.shape)
    }
  }
}
