import PlanTesting
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// Parts for any number of ranks, merged, equal the unpartitioned conversion.
@Suite struct TensorParallelTests {
  private let harness: ConversionHarness

  init() throws { harness = try ConversionHarness() }

  struct Case: CustomTestStringConvertible, Sendable {
    let fixture: String
    let format: Checkpoint.Format
    let recipe: String
    let layout: ShardPlan.AFDLayout

    var testDescription: String {
      "\(fixture) \(recipe) ep\(layout.ffnEP) tp\(layout.ffnTP) attention-tp\(layout.attentionTP)"
    }
  }

  static let cases: [Case] = {
    var cases: [Case] = []
    for fixture in ["tiny", "odd"] {
      for ep in [1, 2, 4] {
        for tp in [1, 2, 4] {
          let attention = fixture == "odd" ? (tp == 2 ? 5 : 1) : tp
          let layout = ShardPlan.AFDLayout(ffnEP: ep, ffnTP: tp, attentionTP: attention)
          cases.append(Case(fixture: fixture, format: .safetensors, recipe: "keep", layout: layout))
          cases.append(Case(fixture: fixture, format: .gguf, recipe: "Q8_0", layout: layout))
        }
      }
    }
    for (ep, tp) in [(1, 2), (2, 1), (1, 1)] {
      let layout = ShardPlan.AFDLayout(ffnEP: ep, ffnTP: tp, attentionTP: 2)
      cases.append(Case(fixture: "tiny", format: .safetensors, recipe: "FP8_BLOCK", layout: layout))
      cases.append(Case(fixture: "tiny-fp8", format: .safetensors, recipe: "keep", layout: layout))
    }
    // Groups of 32 fit slices of 64 columns; a slice's row scales are those of the whole rows.
    for recipe in SchemeOutputTests.names where recipe != "FP8_BLOCK" && !recipe.hasPrefix("W4A16") {
      let layout = ShardPlan.AFDLayout(ffnEP: 2, ffnTP: 2, attentionTP: 2)
      cases.append(Case(fixture: "tiny", format: .safetensors, recipe: recipe, layout: layout))
    }
    cases.append(
      Case(
        fixture: "tiny", format: .safetensors, recipe: "W4A16",
        layout: .init(ffnEP: 4, ffnTP: 2, attentionTP: 2)))
    // Decoded weights can be cut anywhere.
    let four = ShardPlan.AFDLayout(ffnEP: 2, ffnTP: 2, attentionTP: 4)
    cases.append(Case(fixture: "tiny-fp8", format: .gguf, recipe: "BF16", layout: four))
    cases.append(
      Case(
        fixture: "odd-fp8", format: .safetensors, recipe: "BF16",
        layout: .init(ffnEP: 2, ffnTP: 4, attentionTP: 5)))
    return cases
  }()

  @Test(arguments: cases) func mergedPartsEqualTheWhole(_ test: Case) async throws {
    let source = Fixtures.path("checkpoints/\(test.fixture)")
    let request = ConversionHarness.Request(format: test.format, recipe: test.recipe)
    let whole = try await harness.convert(source, request, into: "whole")
    var cut = request
    cut.partition = .afd(test.layout)
    let parts = try await harness.convert(source, cut, into: "parts")
    #expect(
      parts.plan.parts.count { $0.role == .ffn } == test.layout.ffnRanks
        && parts.plan.parts.count { $0.role == .attention } == test.layout.attentionTP)
    let merged = try MergedPartition(parts.plan, at: harness.directory.path("parts"))
    #expect(merged.isExact)
    let checkpoint = try Checkpoint.open(harness.directory.path("whole"))
    let tensors = checkpoint.tensors.filter { !$0.name.hasSuffix(".weight_shape") }
    #expect(Set(merged.tensors.keys) == Set(tensors.map(\.name)))
    let fellBack = Set(parts.plan.fallbacks.map(\.tensor)).subtracting(whole.plan.fallbacks.map(\.tensor))
    let compared = tensors.filter { !isAffected($0.name, fellBack, in: parts.plan) }
    for tensor in compared {
      let found = try #require(merged.tensors[tensor.name])
      #expect(found.elementType == tensor.elementType)
      #expect(found.bytes == (try TensorBytes(tensor.name, in: checkpoint).bytes), "\(tensor.name)")
    }
    // Only formats whose blocks do not fit the slices may fall back.
    #expect(fellBack.isEmpty || test.recipe == "Q8_0")
  }

  private func isAffected(_ name: String, _ tensors: Set<String>, in plan: ShardPlan) -> Bool {
    guard !tensors.isEmpty else { return false }
    return plan.files.contains { file in
      file.tensors.contains { $0.name == name && tensors.contains($0.source.tensor) }
    }
  }

  @Test("slices that fall back to another format merge by value") func fallbacks() async throws {
    // 160 columns between 4 ranks are 40: no blocks of 32.
    let layout = ShardPlan.AFDLayout(ffnTP: 4)
    let manifest = try await harness.convert(
      Fixtures.path("checkpoints/odd"), .init(format: .gguf, recipe: "Q8_0", partition: .afd(layout)))
    let fallback = try #require(
      manifest.plan.fallbacks.first { $0.tensor == "model.layers.0.moe.down_proj.weight" })
    #expect(fallback.wanted == "Q8_0" && fallback.stored == "BF16")
    #expect(fallback.reason.contains("40"))
    let merged = try MergedPartition(manifest.plan, at: harness.directory.path("output"), asValues: true)
    #expect(merged.isExact)
    let source = try Checkpoint.open(Fixtures.path("checkpoints/odd"))
    let found = try merged.floats(of: "blk.0.ffn_down_exps.weight")
    #expect(found == (try values(of: "model.layers.0.moe.down_proj.weight", in: source)))
  }

  @Test("a part's configuration states which slice it holds") func configuration() throws {
    let layout = ShardPlan.AFDLayout(ffnEP: 2, ffnTP: 2, attentionTP: 4)
    let plan = try harness.plan(Fixtures.path("checkpoints/tiny"), .init(partition: .afd(layout))).plan
    #expect(
      plan.parts.map(\.directory) == [
        "attention-tp0", "attention-tp1", "attention-tp2", "attention-tp3", "ffn-ep0-tp0", "ffn-ep0-tp1",
        "ffn-ep1-tp0", "ffn-ep1-tp1", "vision",
      ])
    let part = plan.parts[7]
    let text = try #require(part.documents.first { $0.path == "ffn-ep1-tp1/config.json" }?.text)
    let json = try #require(
      JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let partition = try #require(json["step3_partition"] as? [String: Any])
    #expect(partition["role"] as? String == "ffn")
    #expect(partition["rank"] as? Int == 3 && partition["ranks"] as? Int == 4)
    #expect(partition["expert_parallel"] as? [String: Int] == ["rank": 1, "ranks": 2])
    #expect(partition["tensor_parallel"] as? [String: Int] == ["rank": 1, "ranks": 2])
    let slices = try #require(partition["slices"] as? [String: [String: [Int]]])
    #expect(
      slices["model.layers.1.moe.down_proj.weight"]
        == ["shape": [8, 256, 256], "origin": [4, 0, 128], "extent": [4, 256, 128]])
    #expect(
      slices["model.layers.1.share_expert.up_proj.weight"]
        == ["shape": [256, 256], "origin": [192, 0], "extent": [64, 256]])
    // The attention ranks hold whole norms, embeddings and low-rank projections, and their own heads.
    let attention = plan.parts[2]
    let names = Dictionary(uniqueKeysWithValues: attention.tensors.map { ($0.name, $0) })
    #expect(names["model.layers.0.self_attn.wq.weight"]?.source.origin == [128, 0])
    #expect(names["model.layers.0.self_attn.wq.weight"]?.shape == TensorShape([64, 256]))
    #expect(names["model.layers.0.self_attn.o_proj.weight"]?.source.origin == [0, 128])
    #expect(names["model.layers.0.self_attn.k_proj.weight"]?.source.isWhole == true)
    let replication = try #require(
      plan.replicated.first { $0.tensor == "model.layers.0.self_attn.k_proj.weight" })
    #expect(replication.parts.count == 4)
    #expect(replication.reason.contains("one key and value head"))
  }

  @Test("an impossible number of ranks is refused with the possible ones") func refusals() throws {
    func refusal(
      _ fixture: String, _ layout: ShardPlan.AFDLayout, _ recipe: String = "keep",
      _ format: Checkpoint.Format = .safetensors
    ) -> CheckpointError? {
      #expect(throws: CheckpointError.self) {
        try harness.plan(
          Fixtures.path("checkpoints/\(fixture)"),
          .init(format: format, recipe: recipe, partition: .afd(layout)))
      }
    }
    let uneven = refusal("tiny", .init(ffnTP: 3))
    #expect(uneven?.code == .invalidRequest)
    #expect(uneven?.remedy?.contains("--ffn-tp 1, 2, 4, 8") == true, "\(uneven?.remedy ?? "")")
    let heads = refusal("odd", .init(attentionTP: 2))
    #expect(heads?.message.contains("5 attention heads") == true)
    #expect(heads?.remedy == "--attention-tp 1 or 5 would fit")
    let experts = refusal("odd", .init(ffnEP: 6))
    #expect(experts?.remedy?.contains("--ffn-ep 1, 2 or 4 would fit") == true, "\(experts?.remedy ?? "")")
    // 256 between 4 ranks are 64: half a tile of the source.
    let tile = refusal("tiny-fp8", .init(ffnTP: 4))
    #expect(tile?.message.contains("falls inside an FP8 tile") == true)
    #expect(tile?.remedy?.contains("--ffn-tp 1 or 2 would fit") == true, "\(tile?.remedy ?? "")")
    #expect(refusal("tiny", .init(ffnEP: 0))?.code == .invalidRequest)
  }

  @Test("a cut inside an FP8 tile falls back as the recipe says") func tiles() throws {
    let source = Fixtures.path("checkpoints/tiny")
    let layout = ShardPlan.AFDLayout(ffnTP: 4)
    let plan = try harness.plan(source, .init(recipe: "FP8_BLOCK", partition: .afd(layout))).plan
    let fallback = try #require(
      plan.fallbacks.first { $0.tensor == "model.layers.1.moe.up_proj.weight" })
    #expect(fallback.stored == "BF16" && fallback.reason.contains("FP8 tile"))
    var strict = try Recipe.named("FP8_BLOCK")
    strict.onMisfit = .error
    let recipe = strict
    let refusal = #expect(throws: CheckpointError.self) {
      try ShardPlanner.plan(
        Checkpoint.open(source),
        request: .init(format: .safetensors, recipe: recipe.name, partition: .afd(layout)), recipe: recipe)
    }
    #expect(refusal?.code == .unsupported)
    #expect(refusal?.remedy?.contains("1 or 2 would fit") == true, "\(refusal?.remedy ?? "")")
  }

  @Test("a cut inside a group falls back, or is refused with the ranks that fit") func groups() throws {
    // 256 columns between 4 ranks are 64: half a group of 128.
    let tiny = Fixtures.path("checkpoints/tiny")
    let layout = ShardPlan.AFDLayout(ffnTP: 4)
    var strict = try Recipe.named("W4A16", for: .safetensors)
    strict.onMisfit = .error
    let recipe = strict
    let refusal = #expect(throws: CheckpointError.self) {
      try ShardPlanner.plan(
        Checkpoint.open(tiny),
        request: .init(format: .safetensors, recipe: recipe.name, partition: .afd(layout)),
        recipe: recipe)
    }
    #expect(
      refusal?.code == .unsupported && refusal?.message.contains("64") == true, "\(refusal?.message ?? "")")
    #expect(refusal?.remedy?.contains("--ffn-tp 1") == true, "\(refusal?.remedy ?? "")")
    let plan = try harness.plan(tiny, .init(recipe: "W4A16_G64", partition: .afd(layout))).plan
    #expect(plan.fallbacks.isEmpty)
  }

  @Test("a part cannot be partitioned again") func partsAsSources() async throws {
    let request = ConversionHarness.Request(partition: .afd(.init(ffnEP: 2)))
    try await harness.convert(Fixtures.path("checkpoints/tiny"), request, into: "set")
    let part = #expect(throws: CheckpointError.self) {
      try harness.plan(harness.directory.path("set/ffn-ep0"), request)
    }
    #expect(part?.message.contains("one part of a partitioned model") == true)
    // A part can be converted on its own, and stays that part.
    try await harness.convert(harness.directory.path("set/ffn-ep1"), .init(recipe: "F32"), into: "f32")
    let converted = try Checkpoint.open(harness.directory.path("f32"))
    let text = String(decoding: try #require(converted.configuration), as: UTF8.self)
    #expect(text.contains("step3_partition"))
    #expect(converted["model.layers.1.moe.up_proj.weight"]?.shape == TensorShape([4, 256, 256]))
  }
}
