import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import GGUF
import Quantization
import ShardPlanning
import Step3Model
import TensorFormats
import Testing
import Tokenization

/// GGUF sources, converted to safetensors or GGUF.
@Suite struct GGUFSourceTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try ConversionHarness() }

  /// A GGUF of the tiny model alone, so that nothing but its metadata is available.
  private func gguf(
    _ recipe: String, into name: String = "gguf", maximumShardBytes: Int? = nil
  ) async throws -> Checkpoint {
    try await harness.convert(
      tiny, .init(format: .gguf, recipe: recipe, maximumShardBytes: maximumShardBytes), into: name)
    let directory = harness.directory.path(name)
    for file in try FileSystem.names(in: directory) where !file.hasSuffix(".gguf") {
      try FileManager.default.removeItem(atPath: "\(directory)/\(file)")
    }
    return try Checkpoint.open(directory)
  }

  @Test(
    "a conversion to GGUF and back keeps every byte of every tensor, and the configuration",
    arguments: [nil, 300_000])
  func roundTrip(limit: Int?) async throws {
    let middle = try await gguf("BF16", maximumShardBytes: limit)
    #expect(limit == nil ? middle.files.count == 2 : middle.files.count > 4)
    #expect(middle["output_norm.weight"]?.elementType == .f32)
    try await harness.convert(middle.path, .init(recipe: "BF16"))
    let source = try Checkpoint.open(tiny)
    let output = try Checkpoint.open(harness.directory.path("output"))
    #expect(Set(output.tensors.map(\.name)) == Set(source.tensors.map(\.name)))
    for tensor in source.tensors {
      let found = try #require(output[tensor.name])
      #expect(found.elementType == tensor.elementType && found.shape == tensor.shape, "\(tensor.name)")
      #expect(
        try TensorBytes(tensor.name, in: output).bytes == TensorBytes(tensor.name, in: source).bytes,
        "\(tensor.name)")
    }
    let expected = try Step3Configuration(configJSON: try #require(source.configuration))
    var found = try Step3Configuration(configJSON: try #require(output.configuration))
    // GGUF states the epsilon that is actually used, not the one in the configuration.
    found.vision?.layerNormEpsilon = expected.vision?.layerNormEpsilon ?? 0
    // GGUF states all end-of-text tokens, which here only generation_config.json does.
    #expect(found.eosTokenIDs == [1, 509])
    found.eosTokenIDs = expected.eosTokenIDs
    #expect(found == expected)
    // The tokenizer's three files are rebuilt from the metadata with the same content.
    func tokenizer(_ checkpoint: Checkpoint) throws -> Step3Tokenizer {
      func file(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(filePath: checkpoint.store.path(of: name))))
      }
      return try Step3Tokenizer(
        tokenizerJSON: file("tokenizer.json"), tokenizerConfigJSON: file("tokenizer_config.json"),
        generationConfigJSON: file("generation_config.json"), configuration: expected,
        preTokenizer: Step3Tokenizer.deepSeekV3)
    }
    #expect(try tokenizer(output) == tokenizer(source))
  }

  @Test("requantising keeps the file's metadata") func requantising() async throws {
    let middle = try await gguf("BF16")
    try await harness.convert(middle.path, .init(format: .gguf, recipe: "Q4_K_M"))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let (before, after) = (try #require(middle.ggufMetadata), try #require(output.ggufMetadata))
    #expect(after.fileType == .q4KMedium)
    #expect(before.fileType == .bf16)
    for key in ["general.name", "step3.moe_layers", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"] {
      #expect(after[key] == before[key] && after[key] != nil, "\(key)")
    }
    #expect(Set(output.tensors.map(\.name)) == Set(middle.tensors.map(\.name)))
    let companion = try #require(output.files.first { $0.name.hasPrefix("mmproj") })
    #expect(companion.ggufMetadata?.string("general.architecture") == "clip")
    let earlier = try #require(middle.files.first { $0.name.hasPrefix("mmproj") })
    #expect(companion.ggufMetadata == earlier.ggufMetadata)
    #expect(output["blk.1.ffn_up_exps.weight"]?.elementType == .q4K)
    #expect(output["output_norm.weight"]?.elementType == .f32)
    // Another copy changes nothing, the file type included.
    try await harness.convert(output.path, .init(format: .gguf), into: "copy")
    let copy = try Checkpoint.open(harness.directory.path("copy"))
    #expect(copy.ggufMetadata == output.ggufMetadata)
    for tensor in output.tensors {
      #expect(try TensorBytes(tensor.name, in: copy).bytes == TensorBytes(tensor.name, in: output).bytes)
    }
  }

  @Test("any architecture is converted, split or whole, with its vision companion") func otherArchitectures()
    async throws
  {
    let middle = try await gguf("BF16", maximumShardBytes: 300_000)
    // The same files under another architecture's name; the name alone makes a model known.
    let directory = harness.directory.path("unknown")
    try FileSystem.createDirectory(directory)
    for file in middle.files {
      var bytes = try file.source.readBytes(0..<file.source.byteCount)
      if !file.name.hasPrefix("mmproj"), let place = firstRange(of: Array("step3".utf8), in: bytes) {
        bytes.replaceSubrange(place, with: Array("other".utf8))
      }
      try FileSystem.writeAtomically(bytes, to: "\(directory)/\(file.name)")
    }
    let source = try Checkpoint.open(directory)
    #expect(source.architecture == "other")
    try await harness.convert(directory, .init(format: .gguf, recipe: "Q8_0"))
    let output = try Checkpoint.open(harness.directory.path("output"))
    #expect(output.files.map(\.name) == ["model.gguf", "mmproj.gguf"])
    #expect(output.architecture == "other")
    #expect(output.ggufMetadata?.fileType == .q8_0)
    #expect(output["blk.1.ffn_up_exps.weight"]?.elementType == .q8_0)
    #expect(Set(output.tensors.map(\.name)) == Set(source.tensors.map(\.name)))
    let refusal = #expect(throws: CheckpointError.self) {
      try harness.plan(directory, .init(format: .safetensors, recipe: "BF16"))
    }
    #expect(refusal?.code == .unsupported)
  }

  private func firstRange(of pattern: [UInt8], in bytes: [UInt8]) -> Range<Int>? {
    bytes.indices.dropLast(pattern.count).first { bytes[$0..<$0 + pattern.count].elementsEqual(pattern) }
      .map { $0..<$0 + pattern.count }
  }

  @Test("a quantised GGUF is partitioned where its blocks allow it") func partitions() async throws {
    let middle = try await gguf("Q4_K_M")
    let error = #expect(throws: CheckpointError.self) {
      try harness.plan(
        middle.path, .init(format: .gguf, recipe: "keep", partition: .afd(.init(ffnTP: 2))))
    }
    // 256 columns between 2 ranks are 128: half a block.
    #expect(error?.message.contains("inside the source's blocks of 256") == true, "\(error?.message ?? "")")
    #expect(error?.remedy?.contains("--ffn-tp 1 would fit") == true, "\(error?.remedy ?? "")")
    let request = ConversionHarness.Request(format: .gguf, partition: .afd(.init(ffnEP: 4)))
    let plan = try? harness.plan(middle.path, request).plan
    // Dense layers and shared experts are cut by columns between all ranks, so this does not fit either.
    #expect(plan == nil)
    let q8 = try await gguf("Q8_0", into: "q8")
    let manifest = try await harness.convert(
      q8.path, .init(format: .gguf, partition: .afd(.init(ffnEP: 2, ffnTP: 2, attentionTP: 2))))
    let merged = try MergedPartition(manifest.plan, at: harness.directory.path("output"))
    #expect(merged.isExact)
    for tensor in q8.tensors {
      #expect(try merged.tensors[tensor.name]?.bytes == TensorBytes(tensor.name, in: q8).bytes)
    }
  }
}
