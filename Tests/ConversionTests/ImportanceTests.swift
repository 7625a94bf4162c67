import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import GGUF
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// Conversions that weight their errors by an importance matrix.
@Suite struct ImportanceTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try ConversionHarness() }

  /// Sums for some tensors, different for every expert and column.
  private func write(
    _ tensors: [(name: String, experts: Int, columns: Int)], as name: String = "imatrix.gguf"
  ) throws -> String {
    var metadata = GGUFMetadata()
    metadata.set("general.type", .string("imatrix"))
    var items: [GGUFLayout.Tensor] = []
    var contents: [[Float]] = []
    for (index, tensor) in tensors.enumerated() {
      var generator = SeededGenerator(seed: UInt64(index + 1))
      items.append(
        GGUFLayout.Tensor(
          name: tensor.name + ".in_sum2", elementType: .f32,
          shape: TensorShape([tensor.experts, tensor.columns])))
      contents.append(
        (0..<tensor.experts * tensor.columns).map { _ in Float.random(in: 0.01...40, using: &generator) })
      items.append(
        GGUFLayout.Tensor(
          name: tensor.name + ".counts", elementType: .f32, shape: TensorShape([tensor.experts, 1])))
      contents.append((0..<tensor.experts).map { Float($0 + 4) })
    }
    let layout = try GGUFLayout(metadata: metadata, tensors: items)
    let path = harness.directory.path(name)
    var writer = try GGUFWriter(path, layout: layout)
    for (index, content) in contents.enumerated() {
      try writer.append(content.span.bytes, toTensor: index)
    }
    try writer.finish()
    return path
  }

  private var everything: [(name: String, experts: Int, columns: Int)] {
    [
      ("blk.1.ffn_down_exps.weight", 8, 256), ("blk.1.ffn_up_exps.weight", 8, 256),
      ("blk.0.attn_output.weight", 1, 256), ("blk.0.ffn_down.weight", 1, 512),
    ]
  }

  private func plan(
    _ recipe: String, _ imatrix: String?, partition: ShardPlan.Partition = .none,
    overrides: [String] = []
  ) throws -> PlannedConversion {
    let recipe = try Recipe.named(recipe).overriding(
      with: overrides.map { try TensorTypeOverride(argument: $0) })
    return try ShardPlanner.plan(
      Checkpoint.open(tiny), request: .init(format: .gguf, recipe: recipe.name, partition: partition),
      recipe: recipe, importance: imatrix.map { try ImportanceFile($0) })
  }

  private func convert(_ planned: PlannedConversion, into name: String) async throws -> Checkpoint {
    _ = try await Conversion(planned, options: ConversionOptions(threads: 4))
      .run(into: harness.directory.path(name))
    return try Checkpoint.open(harness.directory.path(name))
  }

  @Test("each expert is encoded with its own importance, as the codec's definition does") func experts()
    async throws
  {
    let path = try write(everything)
    let planned = try plan("Q4_K", path)
    let output = try await convert(planned, into: "output")
    let source = try Checkpoint.open(tiny)
    let matrix = try ImportanceMatrix(InputFile(path))
    let codec = try #require(BlockCodec.codec(for: .q4K))
    for (gguf, name, experts, columns) in [
      ("blk.1.ffn_down_exps.weight", "model.layers.1.moe.down_proj.weight", 8, 256),
      ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", 1, 512),
      ("blk.2.ffn_up_exps.weight", "model.layers.2.moe.up_proj.weight", 8, 256),
    ] {
      let weights = try values(of: name, in: source)
      let found = try TensorBytes(gguf, in: output).bytes
      var expected: [UInt8] = []
      for expert in 0..<experts {
        let importance = try matrix.weights(
          for: gguf, columns: columns, expert: experts == 1 ? nil : expert)
        let size = weights.count / experts
        var encoded = [UInt8](repeating: 0, count: found.count / experts)
        do {
          var span = encoded.mutableSpan
          var bytes = span.mutableBytes
          try codec.encodeReference(
            weights.span.extracting(expert * size..<(expert + 1) * size), columns: columns,
            importance: importance?.span, into: &bytes)
        }
        expected += encoded
      }
      #expect(found == expected, "\(gguf)")
    }
    let plain = try await convert(try plan("Q4_K", nil), into: "plain")
    #expect(
      try TensorBytes("blk.1.ffn_up_exps.weight", in: plain).bytes
        != TensorBytes("blk.1.ffn_up_exps.weight", in: output).bytes)
    #expect(
      try TensorBytes("blk.2.ffn_up_exps.weight", in: plain).bytes
        == TensorBytes("blk.2.ffn_up_exps.weight", in: output).bytes)
  }

  @Test("the plan records which tensors have importance, and from which file") func listing() throws {
    let path = try write(everything)
    let plan = try self.plan("Q4_K", path).plan
    let importance = try #require(plan.importance)
    let file = try digests(ofFile: path)
    #expect(
      importance.file == "imatrix.gguf" && importance.bytes == file.bytes && importance.xxh3 == file.xxh3)
    #expect(importance.weighted == 4)
    let names = plan.files.flatMap(\.tensors).filter { $0.operation.importance != nil }.map(\.name)
    #expect(Set(names) == Set(everything.map(\.name)))
    #expect(importance.unweighted.contains("model.layers.2.moe.up_proj.weight"))
    #expect(!importance.unweighted.contains("model.norm.weight"))
    #expect(try self.plan("Q4_K", nil).plan.importance == nil)
    // Formats that do not use importance do not record it.
    #expect(try self.plan("Q8_0", path).plan.importance?.weighted == 0)
    #expect(try self.plan("Q8_0", path).plan.importance?.unweighted == [])
  }

  @Test("formats that need importance get it, fall back or are refused") func required() throws {
    let missing = #expect(throws: CheckpointError.self) { try self.plan("IQ2_XXS", nil) }
    #expect(missing?.code == .invalidRequest)
    #expect(missing?.remedy?.contains("--imatrix") == true)
    let plan = try self.plan("IQ2_XXS", try write(everything)).plan
    let types = Dictionary(plan.files.flatMap(\.tensors).map { ($0.name, $0.elementType) }) { first, _ in
      first
    }
    #expect(types["blk.1.ffn_up_exps.weight"] == .iq2XXS)
    #expect(types["token_embd.weight"] == .iq4NL)
    let fallback = try #require(plan.fallbacks.first { $0.tensor == "model.embed_tokens.weight" })
    #expect(fallback.reason.contains("does not cover this tensor"))
    let wrong = #expect(throws: CheckpointError.self) {
      try self.plan("Q4_K", write([("blk.1.ffn_up_exps.weight", 8, 128)], as: "wrong.gguf"))
    }
    #expect(wrong?.message.contains("importance matrix has 1024 values") == true, "\(wrong?.message ?? "")")
  }

  @Test("slices use the importance of their own columns") func slices() async throws {
    // K-quants weight errors relative to the row, so a slice is compared with the definition applied to the slice.
    let path = try write(everything)
    let planned = try plan("Q5_0", path, partition: .afd(.init(ffnEP: 2, ffnTP: 2)))
    _ = try await Conversion(planned, options: ConversionOptions(threads: 2))
      .run(into: harness.directory.path("output"))
    let part = try Checkpoint.open(harness.directory.path("output/ffn-ep1-tp1"))
    let source = try values(of: "model.layers.1.moe.down_proj.weight", in: Checkpoint.open(tiny))
    let matrix = try ImportanceMatrix(InputFile(path))
    let codec = try #require(BlockCodec.codec(for: .q5_0))
    let found = try TensorBytes("blk.1.ffn_down_exps.weight", in: part).bytes
    var expected: [UInt8] = []
    for expert in 4..<8 {
      let weights = try #require(
        try matrix.weights(for: "blk.1.ffn_down_exps.weight", columns: 256, expert: expert))
      var slice: [Float] = []
      for row in 0..<256 {
        let start = (expert * 256 + row) * 256 + 128
        slice += source[start..<start + 128]
      }
      var encoded = [UInt8](repeating: 0, count: found.count / 4)
      do {
        var span = encoded.mutableSpan
        var bytes = span.mutableBytes
        try codec.encodeReference(
          slice.span, columns: 128, importance: Array(weights[128...]).span, into: &bytes)
      }
      expected += encoded
    }
    #expect(found == expected)
  }
}
