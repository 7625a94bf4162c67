import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import QuantizationRecipes
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

/// Sources that are not in the published form: partition sets, wrapped names, experts saved one by one, tensors of
/// unknown meaning, missing tensors.
@Suite struct SourceFormTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")
  private let tinyFP8 = Fixtures.path("checkpoints/tiny-fp8")

  init() throws { harness = try ConversionHarness() }

  /// Every tensor's type, shape and bytes.
  private func tensors(of path: String) throws -> [String: [String]] {
    let checkpoint = try Checkpoint.open(path)
    #expect(checkpoint.parts.isEmpty)
    return try Dictionary(
      uniqueKeysWithValues: checkpoint.tensors.map { tensor in
        var digester = XXH3Digester()
        digester.update(try checkpoint.files[tensor.file].source.readBytes(tensor.byteRange))
        return (tensor.name, ["\(tensor.elementType)", "\(tensor.shape)", "\(digester.finalize())"])
      })
  }

  /// A checkpoint's weights under other names, in one file.
  ///
  /// - Parameter change: The tensors that replace a tensor: names, shapes and bytes.
  private func rewrite(
    _ source: String, as name: String,
    _ change: (String, [Int], Data) -> [(name: String, shape: [Int], bytes: Data)]
  ) throws -> String {
    let checkpoint = try Checkpoint.open(source)
    var file = WeightFile()
    for tensor in checkpoint.tensors {
      let bytes = Data(try checkpoint.files[tensor.file].source.readBytes(tensor.byteRange))
      for made in change(tensor.name, tensor.shape.dimensions, bytes) {
        file.add(made.name, "\(tensor.elementType)", made.shape, made.bytes)
      }
    }
    let path = harness.directory.path(name)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try file.write(to: "\(path)/model.safetensors")
    for side in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    where try FileSystem.kind(of: "\(source)/\(side)") == .file {
      try FileManager.default.copyItem(atPath: "\(source)/\(side)", toPath: "\(path)/\(side)")
    }
    return path
  }

  // MARK: Partition sets

  static let layouts = [
    ShardPlan.AFDLayout(), ShardPlan.AFDLayout(ffnEP: 2), ShardPlan.AFDLayout(ffnTP: 2, attentionTP: 2),
    ShardPlan.AFDLayout(ffnEP: 2, ffnTP: 2, attentionTP: 2, router: .ffn),
  ]

  @Test("a partition set is merged byte for byte", arguments: layouts, ["tiny", "tiny-fp8"])
  func merging(layout: ShardPlan.AFDLayout, name: String) async throws {
    let source = Fixtures.path("checkpoints/\(name)")
    // Tiles of 128 do not fit the cuts of the small model.
    let recipe = name == "tiny" || layout.ffnTP * layout.attentionTP == 1 ? "keep" : "BF16"
    let whole = try await harness.convert(source, .init(recipe: recipe), into: "whole")
    try await harness.convert(source, .init(recipe: recipe, partition: .afd(layout)), into: "set")
    let merged = try await harness.convert(harness.directory.path("set"), .init(), into: "merged")
    #expect(merged.plan.warnings.isEmpty)
    #expect(try tensors(of: harness.directory.path("merged")) == tensors(of: harness.directory.path("whole")))
    #expect(!whole.tensors.isEmpty)
    let configuration = try String(
      contentsOfFile: harness.directory.path("merged/config.json"), encoding: .utf8)
    #expect(!configuration.contains("step3_partition"))
    #expect(configuration.contains("quantization_config") == (recipe == "keep" && name == "tiny-fp8"))
    try #expect(FileSystem.kind(of: harness.directory.path("merged/tokenizer.json")) == .file)
  }

  @Test(
    "a set in a scheme is merged, although its parts' configurations differ",
    arguments: ["FP8_BLOCK", "W4A16_G32", "NVFP4A16", "FP8_DYNAMIC", "MXFP4A16"],
    [SchemeRecipe.Scope.experts, .linear])
  func mergingSchemes(recipe: String, scope: SchemeRecipe.Scope) async throws {
    // Tiles of FP8 do not fit the cuts of the small model.
    let cut = ShardPlan.AFDLayout(ffnEP: 2, ffnTP: recipe == "FP8_BLOCK" || scope == .linear ? 1 : 2)
    try await harness.convert(tiny, .init(recipe: recipe, scope: scope), into: "whole")
    try await harness.convert(tiny, .init(recipe: recipe, partition: .afd(cut), scope: scope), into: "set")
    try await harness.convert(harness.directory.path("set"), .init(), into: "merged")
    #expect(try tensors(of: harness.directory.path("merged")) == tensors(of: harness.directory.path("whole")))
    func configuration(_ name: String) throws -> Data {
      try Data(contentsOf: URL(filePath: harness.directory.path("\(name)/config.json")))
    }
    #expect(try configuration("merged") == configuration("whole"))
  }

  @Test("a part of another conversion is not merged into a set") func foreignPart() async throws {
    let layout = ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnEP: 2))
    try await harness.convert(tiny, .init(partition: layout), into: "set")
    let other = try rewrite(tiny, as: "other") { name, shape, bytes in
      [(name, shape, name.contains(".moe.up_proj") ? Data(bytes.reversed()) : bytes)]
    }
    try await harness.convert(other, .init(partition: layout), into: "other-set")
    let part = harness.directory.path("set/ffn-ep1")
    try FileManager.default.removeItem(atPath: part)
    try FileManager.default.copyItem(atPath: harness.directory.path("other-set/ffn-ep1"), toPath: part)
    let set = try Checkpoint.open(harness.directory.path("set"))
    let conversion = Conversion(
      try harness.plan(set.path, .init()),
      options: ConversionOptions(threads: 2, expectedDigests: try ExpectedDigests(ofSet: set)))
    let error = await #expect(throws: CheckpointError.self) {
      try await conversion.run(into: harness.directory.path("merged"))
    }
    #expect(error?.code == .digestMismatch && error?.path?.contains("ffn-ep1") == true)
  }

  @Test("a set in GGUF blocks is merged, and re-encoded as the whole model would be") func mergingGGUF()
    async throws
  {
    let layout = ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnEP: 2, ffnTP: 2, attentionTP: 2))
    try await harness.convert(tiny, .init(format: .gguf, recipe: "Q8_0"), into: "whole")
    try await harness.convert(tiny, .init(format: .gguf, recipe: "Q8_0", partition: layout), into: "set")
    try await harness.convert(harness.directory.path("set"), .init(format: .gguf), into: "merged")
    #expect(try tensors(of: harness.directory.path("merged")) == tensors(of: harness.directory.path("whole")))

    try await harness.convert(tiny, .init(partition: layout), into: "plain-set")
    try await harness.convert(
      harness.directory.path("plain-set"), .init(format: .gguf, recipe: "Q4_K"), into: "encoded")
    try await harness.convert(tiny, .init(format: .gguf, recipe: "Q4_K"), into: "expected")
    #expect(
      try tensors(of: harness.directory.path("encoded")) == tensors(of: harness.directory.path("expected")))
  }

  @Test("a set with a missing part is refused with its name") func missingPart() async throws {
    let layout = ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnEP: 2))
    try await harness.convert(tiny, .init(partition: layout), into: "set")
    try FileManager.default.removeItem(atPath: harness.directory.path("set/ffn-ep1"))
    let error = #expect(throws: CheckpointError.self) {
      try harness.plan(harness.directory.path("set"), .init())
    }
    #expect(error?.description.contains("of 2 ffn parts the ranks 1 are missing") == true)
  }

  @Test("resuming a merge gives the same bytes, and digests of the files on disk")
  func resuming() async throws {
    let layout = ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnEP: 2, ffnTP: 2))
    try await harness.convert(tiny, .init(partition: layout), into: "set")
    let set = harness.directory.path("set")
    let expected = try await harness.convert(set, .init(format: .gguf, recipe: "Q8_0"), into: "expected")
    let output = harness.directory.path("output")
    let conversion = Conversion(
      try harness.plan(set, .init(format: .gguf, recipe: "Q8_0")), options: ConversionOptions(threads: 1))
    let task = Task {
      try await conversion.run(into: output) { step in
        if step.tensor?.contains("exps") == true { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect(throws: CancellationError.self) { try await task.value }
    let resumed = try await Conversion(
      harness.plan(set, .init(format: .gguf, recipe: "Q8_0")),
      options: ConversionOptions(threads: 2, resume: true)
    ).run(into: output)
    #expect(resumed.reusedUnits > 0)
    #expect(resumed.manifest == expected)
    for record in expected.sources {
      #expect(try digests(ofFile: "\(set)/\(record.path)").sha256 == record.sha256)
    }
    #expect(expected.sources.count == (try Checkpoint.open(set)).files.count)
  }

  // MARK: Names

  private func perExpert(_ source: String, experts: String, as name: String) throws -> String {
    try rewrite(source, as: name) { name, shape, bytes in
      guard let range = name.range(of: ".moe."), !name.hasSuffix("moe.gate.weight") else {
        return [(name, shape, bytes)]
      }
      let size = bytes.count / shape[0]
      return (0..<shape[0]).map { expert in
        (
          name.replacingCharacters(in: range, with: ".\(experts).\(expert)."), Array(shape.dropFirst()),
          bytes[bytes.startIndex + expert * size..<bytes.startIndex + (expert + 1) * size]
        )
      }
    }
  }

  @Test(
    "experts that were saved one by one are stacked, scales included",
    arguments: ["moe.experts", "moe", "mlp.experts"], ["tiny", "tiny-fp8"])
  func experts(spelling: String, name: String) async throws {
    let source = Fixtures.path("checkpoints/\(name)")
    let single = try perExpert(source, experts: spelling, as: "single")
    for (index, request) in [
      ConversionHarness.Request(format: .gguf, recipe: "Q8_0"), .init(recipe: "BF16"),
      .init(partition: .afd(ShardPlan.AFDLayout(ffnEP: 2))),
    ].enumerated() {
      try await harness.convert(source, request, into: "expected\(index)")
      try await harness.convert(single, request, into: "stacked\(index)")
      let parts = request.partition == .none ? [""] : ["/attention", "/ffn-ep0", "/ffn-ep1", "/vision"]
      for part in parts {
        #expect(
          try tensors(of: harness.directory.path("stacked\(index)\(part)"))
            == tensors(of: harness.directory.path("expected\(index)\(part)")))
      }
    }
  }

  @Test(
    "a wrapper's prefixes are removed from names",
    arguments: ["model.language_model.", "language_model.model."])
  func wrapped(prefix: String) async throws {
    let source = try rewrite(tiny, as: "wrapped") { name, shape, bytes in
      let other: String
      if name.hasPrefix("model.") {
        other = prefix + name.dropFirst("model.".count)
      } else if name.hasPrefix("lm_head") {
        other = "language_model.\(name)"
      } else {
        other = "model.\(name)"
      }
      return [(other, shape, bytes)]
    }
    try await harness.convert(tiny, .init(format: .gguf, recipe: "BF16"), into: "expected")
    let manifest = try await harness.convert(source, .init(format: .gguf, recipe: "BF16"), into: "output")
    #expect(
      try tensors(of: harness.directory.path("output")) == tensors(of: harness.directory.path("expected")))
    // The manifest uses the names on disk.
    #expect(manifest.tensors.allSatisfy { $0.sources.allSatisfy { !$0.hasPrefix("model.layers") } })
    #expect(manifest.plan.source.derived.count == manifest.tensors.count)
  }

  @Test("missing or duplicate experts are refused by name") func oddExperts() throws {
    func refused(_ change: @escaping (String) -> String?) throws -> String {
      let single = try perExpert(tiny, experts: "moe.experts", as: "a\(Int.random(in: 0..<Int.max))")
      let odd = try rewrite(single, as: "b\(Int.random(in: 0..<Int.max))") { name, shape, bytes in
        change(name).map { [($0, shape, bytes)] } ?? []
      }
      let error = #expect(throws: CheckpointError.self) {
        try harness.plan(odd, .init(format: .gguf, recipe: "Q8_0"))
      }
      return error?.description ?? ""
    }
    let victim = "model.layers.1.moe.experts.2.up_proj.weight"
    #expect(try refused { $0 == victim ? nil : $0 }.contains("experts are missing: 2"))
    #expect(
      try refused { $0 == victim ? "model.layers.1.moe.experts.9.up_proj.weight" : $0 }.contains("missing: 2")
    )
    #expect(try refused { $0 == victim ? "model.layers.1.moe.1.up_proj.weight" : $0 }.contains("and so is"))
  }

  @Test(
    "an unknown tensor beside a single expert's codes is refused, not dropped",
    arguments: [".pre_quant_scale", ".zeros", "_scale", "_scale_inv"])
  func expertSiblings(suffix: String) throws {
    let single = try perExpert(tinyFP8, experts: "moe.experts", as: "single")
    let source = try rewrite(single, as: "beside") { name, shape, bytes in
      guard name.contains(".experts."), name.hasSuffix(".weight_scale_inv") else {
        return [(name, shape, bytes)]
      }
      let module = name.dropLast(".weight_scale_inv".count)
      return suffix.hasPrefix("_")
        ? [("\(module)\(suffix)", shape, bytes)]
        : [(name, shape, bytes), ("\(module)\(suffix)", shape, bytes)]
    }
    let error = #expect(throws: CheckpointError.self) { try harness.plan(source, .init(recipe: "BF16")) }
    #expect(error?.tensor?.contains("moe") == true, "\(error?.description ?? "")")
  }

  // MARK: Copies

  @Test("keep copies what is not understood: tensors, configuration, side files") func copying() async throws
  {
    let source = harness.directory.path("strange")
    try FileManager.default.createDirectory(
      atPath: "\(source)/additional_chat_templates", withIntermediateDirectories: true)
    var file = WeightFile()
    file.add("a.weight", "F8_E4M3", [4, 8], [UInt8](0..<32))
    file.add("a.scale", "F32", [1], [2] as [Float])
    file.add("a.weight_scale", "F16", [3], [1, 2, 3] as [UInt16])
    file.add("b.weight", "BF16", [2, 2], WeightFile.bfloat16([1, 2, 3, 4]))
    file.add("b.input_scale", "F32", [], [0.5] as [Float])
    file.add("c.qweight", "I32", [2, 2], [1, 2, 3, 4] as [Int32])
    file.add("d.weight.absmax", "U8", [0], [] as [UInt8])
    try file.write(to: "\(source)/model.safetensors")
    let sides = [
      "config.json":
        #"{"model_type":"step3_vl","quantization_config":{"quant_method":"hqq"}, "moe_layers_enum": [1]}"#,
      "hf_quant_config.json": "{}", "chat_template.jinja": "x", "README.md": "y", "notes.txt": "z",
      "modeling_x.py": "pass", "additional_chat_templates/tool.jinja": "t",
    ]
    for (name, text) in sides {
      try Data(text.utf8).write(to: URL(filePath: "\(source)/\(name)"))
    }
    try Data(count: 10).write(to: URL(filePath: "\(source)/optimizer.pt"))
    let manifest = try await harness.convert(source, .init(), into: "copy")
    #expect(try tensors(of: harness.directory.path("copy")) == tensors(of: source))
    for (name, text) in sides {
      #expect(try String(contentsOfFile: harness.directory.path("copy/\(name)"), encoding: .utf8) == text)
    }
    #expect(manifest.plan.omissions.map(\.what) == ["optimizer.pt"])
    // Anything other than keep needs to interpret the tensors.
    #expect(throws: CheckpointError.self) { try harness.plan(source, .init(recipe: "BF16")) }
  }

  @Test(
    "weights in an unsupported quantisation are never quantised further",
    arguments: ["bitsandbytes", "hqq", "torchao", "quanto"])
  func foreignQuantisation(method: String) throws {
    let source = harness.directory.path("foreign")
    try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
    var file = WeightFile()
    file.add("model.layers.0.mlp.up_proj.weight", "U8", [512, 1], [UInt8](repeating: 1, count: 512))
    file.add(
      "model.layers.0.mlp.down_proj.weight", "BF16", [128, 128], [UInt16](repeating: 0x3f80, count: 16384))
    try file.write(to: "\(source)/model.safetensors")
    try Data(#"{"model_type":"llama","quantization_config":{"quant_method":"\#(method)"}}"#.utf8)
      .write(to: URL(filePath: "\(source)/config.json"))
    let error = #expect(throws: CheckpointError.self) { try harness.plan(source, .init(recipe: "FP8_BLOCK")) }
    #expect(error?.description.contains(method) == true)
    #expect(error?.tensor == "model.layers.0.mlp.up_proj.weight")
  }

  // MARK: Completeness

  @Test(
    "an incomplete Step-3 is refused for GGUF and AFD, and gets a warning otherwise",
    arguments: ["missing", "extra", "shape"])
  func incomplete(kind: String) throws {
    let victim = "model.layers.1.moe.up_proj.weight"
    let source = try rewrite(tiny, as: kind) { name, shape, bytes in
      switch kind {
      case "missing" where name == victim: return []
      case "extra" where name == victim:
        return [
          (name, shape, bytes), ("model.layers.1.moe.router_bias", [shape[0]], bytes.prefix(shape[0] * 2)),
        ]
      case "shape" where name == victim:
        return [
          (name, [shape[0] - 1] + shape.dropFirst(), bytes.prefix(bytes.count / shape[0] * (shape[0] - 1)))
        ]
      default: return [(name, shape, bytes)]
      }
    }
    let culprit = kind == "extra" ? "model.layers.1.moe.router_bias" : victim
    for request in [
      ConversionHarness.Request(format: .gguf, recipe: "Q8_0"),
      .init(partition: .afd(ShardPlan.AFDLayout(ffnEP: 2))),
    ] {
      let error = #expect(throws: CheckpointError.self) { try harness.plan(source, request) }
      #expect(error?.description.contains(culprit) == true, "\(error?.description ?? "")")
    }
    for recipe in ["keep", "BF16"] {
      let warnings = try harness.plan(source, .init(recipe: recipe)).plan.warnings
      #expect(warnings.count == 1 && warnings[0].contains(culprit))
    }
    #expect(try harness.plan(tiny, .init()).plan.warnings.isEmpty)
  }

  @Test("excluded tensors are left out together with their scales") func excluding() throws {
    func plan(_ patterns: [String], _ format: Checkpoint.Format = .safetensors) throws -> ShardPlan {
      try ShardPlanner.plan(
        Checkpoint.open(tinyFP8),
        request: ShardPlan.Request(format: format, recipe: "BF16", exclude: patterns),
        recipe: Recipe.named("BF16", for: format == .gguf ? .gguf : .safetensors)
      ).plan
    }
    let name = "model.layers.1.moe.up_proj.weight"
    let excluded = try plan(["1.moe.up_proj.weight$"]).excluded
    #expect(Set(excluded.map(\.tensor)) == [name, "\(name)_scale_inv"])
    // An excluded tensor does not count as missing.
    #expect(try plan(["vision_model|vit_"], .gguf).files.map(\.path) == ["model.gguf"])
    let idle = #expect(throws: CheckpointError.self) { try plan(["nothing"]) }
    #expect(idle?.code == .invalidRequest)
    // Codes without their scales are not weights, with or without a configuration that describes them.
    #expect(throws: CheckpointError.self) { try plan(["up_proj.weight_scale_inv"]) }
  }

  @Test("a recipe that falls back for most parameters is refused") func fallbacks() throws {
    let cut = ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnTP: 4))
    let plan = try harness.plan(tiny, .init(recipe: "FP8_BLOCK", partition: cut)).plan
    #expect(plan.fallbackShare > 0.5)
    let error = #expect(throws: CheckpointError.self) { try plan.requireRecipe() }
    #expect(error?.code == .invalidRequest && error?.remedy?.contains("--allow-fallback") == true)
    try harness.plan(tiny, .init(recipe: "FP8_BLOCK")).plan.requireRecipe()
    // A recipe with its own fallback is followed.
    let file = try Recipe(
      yaml: "name: mine\nrules: [{format: FP8_BLOCK, fallback: [BF16]}]\n", path: "mine.yaml")
    let foreseen = try ShardPlanner.plan(
      Checkpoint.open(tiny), request: ShardPlan.Request(format: .safetensors, recipe: "mine", partition: cut),
      recipe: file)
    #expect(!foreseen.plan.fallbacks.isEmpty)
    try foreseen.plan.requireRecipe()
  }
}
