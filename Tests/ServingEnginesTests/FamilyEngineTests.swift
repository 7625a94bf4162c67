import Checkpoint
import CheckpointTesting
import Foundation
import JSON
import ServingEngines
import Step3Model
import TensorFormats
import Testing

/// The loaders of later family members: what differs from Step-3's, engine by engine.
@Suite("Loaders of Step-3.5, 3.7, Step-5 and Step3-VL-10B")
struct FamilyEngineTests {
  /// The members whose experts vLLM and SGLang load, and in which schemes: taken from the loaders, not from the rules.
  private func isLoaded(_ scheme: SyntheticScheme, _ family: ModelFamily, _ engine: Engine) -> Bool {
    guard engine == .vllm else { return family != .step5 && scheme.isLoaded.sglang }
    // Unlike Step-3's, these classes have a place for an input_scale of experts.
    return scheme.isLoaded.vllm || scheme == .modelOptW4A4
  }

  @Test(
    "Experts in each scheme pass exactly the engines that load it",
    arguments: [ModelFamily.step3p5, .step3p7, .step5], SyntheticScheme.allCases)
  func experts(family: ModelFamily, scheme: SyntheticScheme) throws {
    for engine in Engine.allCases {
      let report = try SyntheticCheckpoint(family, scheme).report(engine)
      #expect(report.ok == isLoaded(scheme, family, engine), "\(engine): \(report.findings)")
      guard report.ok else { continue }
      #expect(report.findings.filter { $0.code != .lmHeadNotListed }.isEmpty, "\(engine): \(report.findings)")
      #expect(report.checksSkipped.count == 1 && report.checksSkipped[0].contains("predict further tokens"))
    }
  }

  @Test(
    "So do all linear layers", arguments: [ModelFamily.step3p5, .step3p7, .step5, .step3VL10B],
    [SyntheticScheme.bf16, .fp8Block, .fp8Dynamic, .fp8BlockCT, .w4a16, .nvfp4A16, .modelOptA16])
  func linear(family: ModelFamily, scheme: SyntheticScheme) throws {
    for engine in Engine.allCases {
      let report = try SyntheticCheckpoint(family, scheme, expertsOnly: false).report(engine)
      #expect(report.ok == isLoaded(scheme, family, engine), "\(engine): \(report.findings)")
    }
  }

  @Test("SGLang has no class for Step-5")
  func previewInSGLang() throws {
    let report = try SyntheticCheckpoint(.step5, .bf16).report(.sglang)
    #expect(report.faults == [.architecture] && report.checksSkipped == ["all others"])
  }

  // MARK: Lists

  private func without(_ checkpoint: SyntheticCheckpoint, _ left: (String) -> Bool) -> SyntheticCheckpoint {
    var checkpoint = checkpoint
    for key in ["modules_to_not_convert", "ignore"] {
      guard let stated = checkpoint.config["quantization_config"]?[key]?.items else { continue }
      checkpoint.config.set(
        ["quantization_config", key], to: .array(stated.filter { $0.text.map { !left($0) } ?? true }))
    }
    return checkpoint
  }

  @Test("The head gate is a layer in vLLM, but not in SGLang")
  func gates() throws {
    let checkpoint = without(try SyntheticCheckpoint(.step3p5, .fp8Block)) { $0.hasSuffix("g_proj") }
    let vllm = try checkpoint.report(.vllm)
    #expect(vllm.faults == [.moduleNotIgnored])
    #expect(
      vllm.findings.first?.tensor == "model.layers.0.self_attn.g_proj" && vllm.findings.first?.count == 4)
    #expect(try checkpoint.report(.sglang).ok)
  }

  @Test("vLLM quantises vision layers that are not listed", arguments: [ModelFamily.step3p7, .step5])
  func vision(family: ModelFamily) throws {
    let checkpoint = without(try SyntheticCheckpoint(family, .fp8Block)) { $0.hasPrefix("vi") }
    let vllm = try checkpoint.report(.vllm)
    #expect(vllm.faults == [.moduleNotIgnored] && vllm.findings.allSatisfy { $0.severity == .silent })
    #expect(vllm.findings.map(\.count).reduce(0, +) == 5)
    if family == .step3p7 { #expect(try checkpoint.report(.sglang).ok) }
    // The loader renames the names in the files.
    var published = checkpoint
    let names = ["attn.qkv_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj"].map {
      "model.vision_model.transformer.resblocks.0.\($0)"
    }
    let stated = published.config["quantization_config"]?["modules_to_not_convert"]?.items ?? []
    published.config.set(
      ["quantization_config", "modules_to_not_convert"],
      to: .array(stated + (names + ["model.vit_large_projector"]).map { .string($0) }))
    #expect(try published.report(.vllm).ok)
  }

  @Test("SGLang also quantises Step3-VL-10B's vision side, under its own names")
  func visionOfSmall() throws {
    let checkpoint = try SyntheticCheckpoint(.step3VL10B, .fp8Block, expertsOnly: false)
    let exact = without(checkpoint) { $0 == "vision_model" }
    #expect(try exact.report(.vllm).ok)
    #expect(try exact.report(.sglang).faults == [.moduleNotIgnored])
  }

  @Test("vLLM derives a fused module's members from its classes, so listing the parts is enough")
  func members() throws {
    let flash = without(try SyntheticCheckpoint(.step3p7, .fp8Block)) {
      $0.hasSuffix("qkv_proj") && !$0.hasPrefix("vi") || $0.hasSuffix("gate_up_proj")
    }
    for engine in Engine.allCases { #expect(try flash.report(engine).ok) }
    let part = without(try SyntheticCheckpoint(.step3p7, .fp8Block)) {
      $0.hasSuffix("qkv_proj") && !$0.hasPrefix("vi") || $0.hasSuffix(".k_proj")
    }
    for engine in Engine.allCases { #expect(try part.report(engine).faults == [.mixedModule], "\(engine)") }
  }

  @Test("SGLang only looks for the fused module's own name")
  func fusedNames() throws {
    let checkpoint = without(try SyntheticCheckpoint(.step3p5, .fp8Block)) {
      ["q_proj", "k_proj", "v_proj"].contains($0.split(separator: ".").last.map(String.init) ?? "")
    }
    #expect(try checkpoint.report(.vllm).ok)
    #expect(try checkpoint.report(.sglang).faults == [.moduleNotIgnored])
  }

  @Test("ModelOpt quantises lm_head unless it is listed", arguments: [ModelFamily.step3p5, .step3p7])
  func head(family: ModelFamily) throws {
    let checkpoint = without(try SyntheticCheckpoint(family, .modelOptA16)) { $0 == "lm_head" }
    for engine in Engine.allCases {
      let report = try checkpoint.report(engine)
      #expect(report.faults == [.moduleNotIgnored] && report.findings.contains { $0.tensor == "lm_head" })
    }
    #expect(try without(SyntheticCheckpoint(family, .w4a16)) { $0 == "lm_head" }.report(.vllm).ok)
  }

  @Test("A pattern that begins with model. matches nothing inside a vision-language model, in either engine")
  func anchored() throws {
    var checkpoint = try SyntheticCheckpoint(.step3p7, .w4a16)
    let stated = checkpoint.config["quantization_config"]?["ignore"]?.items ?? []
    checkpoint.config.set(
      ["quantization_config", "ignore"],
      to: .array(
        stated.map { $0.text?.contains("self_attn") == true ? .string(#"re:^model\..*self_attn.*"#) : $0 }))
    for engine in Engine.allCases {
      let report = try checkpoint.report(engine)
      #expect(report.severity(.patternAnchored) == .warning && report.faults == [.moduleNotIgnored])
    }
  }

  // MARK: Names

  @Test("The NVFP4 release's wrapped names are accepted", arguments: Engine.allCases)
  func wrapped(engine: Engine) throws {
    var checkpoint = try SyntheticCheckpoint(.step3p7, .modelOptW4A4)
    for index in checkpoint.tensors.indices {
      let name = checkpoint.tensors[index].name
      if name.hasPrefix("model.") {
        checkpoint.tensors[index].name = "model.language_model." + name.dropFirst("model.".count)
      } else if name.hasPrefix("vi") {
        checkpoint.tensors[index].name = "model." + name
      }
    }
    let report = try checkpoint.report(engine)
    #expect(report.ok && report.findings.isEmpty, "\(report.findings)")
  }

  @Test("vLLM loads experts one by one, SGLang does not")
  func singleExperts() throws {
    var checkpoint = try SyntheticCheckpoint(.step3p5, .w4a16)
    let stacks = checkpoint.tensors.filter { $0.name.contains(".moe.") && $0.name.contains("_proj.") }
    checkpoint.tensors.removeAll { stacks.contains($0) }
    for stack in stacks {
      for expert in 0..<SyntheticCheckpoint.experts {
        checkpoint.add(
          stack.name.replacing(".moe.", with: ".moe.experts.\(expert)."), stack.elementType.rawValue,
          Array(stack.shape.dimensions.dropFirst()))
      }
    }
    let vllm = try checkpoint.report(.vllm)
    #expect(vllm.ok, "\(vllm.findings)")
    #expect(try checkpoint.report(.sglang).faults.contains(.perExpertNames))
    checkpoint.remove("2.moe.experts.40.down_proj.weight_scale")
    #expect(try checkpoint.report(.vllm).faults == [.missingScale])
    // One expert is missing, and an inflated count in the configuration costs no time.
    checkpoint.tensors.removeAll { $0.name.contains("1.moe.experts.17.") }
    #expect(try checkpoint.report(.vllm).findings.contains { $0.tensor?.contains("experts.17.") == true })
    checkpoint.config.set(["moe_num_experts"], to: .integer(65_536))
    #expect(try checkpoint.report(.vllm).faults.isSuperset(of: [.missingTensor]))
  }

  @Test("Names without a parameter are dropped silently")
  func dropped() throws {
    var checkpoint = try SyntheticCheckpoint(.step3p5, .fp8Block)
    checkpoint.add("model.layers.1.moe.correction", "F32", [48])
    checkpoint.add("model.layers.1.self_attn.k_proj.k_scale", "F32", [])
    for engine in Engine.allCases {
      let report = try checkpoint.report(engine)
      #expect(report.severity(.unknownMoE) == .silent && report.severity(.keyValueScale) == .silent)
    }
    var outside = try SyntheticCheckpoint(.step3p7, .bf16)
    outside.add("vision_model.class_embedding", "BF16", [64])
    for engine in Engine.allCases { #expect(try outside.report(engine).severity(.unknownTensor) == .error) }
  }

  @Test("SGLang notices missing tensors, vLLM does not in a quantised model")
  func missing() throws {
    var checkpoint = try SyntheticCheckpoint(.step3p5, .fp8Block)
    checkpoint.remove("1.moe.down_proj.weight_scale_inv")
    #expect(try checkpoint.report(.sglang).severity(.missingScale) == .error)
    #expect(try checkpoint.report(.vllm).severity(.missingScale) == .silent)
    checkpoint.remove("2.moe.router_bias")
    #expect(try checkpoint.report(.vllm).severity(.missingTensor) == .silent)
  }

  @Test("Both engines stop at a stack with another number of experts")
  func expertCount() throws {
    var checkpoint = try SyntheticCheckpoint(.step3p5, .bf16)
    checkpoint.change("1.moe.up_proj.weight") { $0.shape = TensorShape([40, 1024, 512]) }
    for engine in Engine.allCases {
      #expect(try checkpoint.report(engine).severity(.tooFewExperts) == .error)
    }
  }

  // MARK: config.json

  @Test("Settings that the classes refuse are faults")
  func settings() throws {
    for (path, value, engines) in [
      (["text_config", "use_moe_router_bias"], JSONValue.bool(false), [Engine.vllm]),
      (["text_config", "need_fp32_gate"], .bool(false), [.vllm]),
      (
        ["text_config", "swiglu_limits"],
        .array([.integer(0), .integer(0), .integer(5), .integer(0), .integer(0)]), [.vllm]
      ),
      (
        ["text_config", "swiglu_limits"],
        .array([.null, .integer(0), .integer(7), .integer(0), .integer(0)]),
        [.sglang]
      ),
      (["text_config", "attention_other_setting"], nil, [.sglang]),
    ] as [([String], JSONValue?, [Engine])] {
      var checkpoint = try SyntheticCheckpoint(.step3p7, .bf16)
      if value == nil {
        checkpoint.config.set(["text_config", "num_sliding_attention_heads"], to: .integer(32))
      }
      checkpoint.config.set(path, to: value)
      // Without the bias in the configuration there is also a surplus tensor.
      for engine in Engine.allCases {
        let found = try checkpoint.report(engine).findings.contains { $0.code == .setting }
        #expect(found == engines.contains(engine), "\(path) \(engine)")
      }
    }
  }

  @Test("The language model's class is chosen by the name in text_config")
  func languageModel() throws {
    var checkpoint = try SyntheticCheckpoint(.step3p7, .bf16)
    checkpoint.config.set(["text_config", "architectures"], to: .array([.string("Step3p6ForCausalLM")]))
    #expect(try checkpoint.report(.vllm).faults == [.architecture])
    #expect(try checkpoint.report(.sglang).ok)
  }

  @Test("Step-5 under the names of its copies is accepted")
  func previewNames() throws {
    var checkpoint = try SyntheticCheckpoint(.step5, .bf16)
    checkpoint.config.set(["architectures"], to: .array([.string("MMGPTStepRoboticsForCausalLM")]))
    checkpoint.config.set(["model_type"], to: .string("step3p5v"))
    checkpoint.config.set(["text_config", "model_type"], to: .string("step4"))
    let report = try checkpoint.report(.vllm)
    #expect(report.faults == [.architecture] && report.findings.count == 3)
  }

  @Test(
    "Step-5's sparse attention supports certain sizes only",
    arguments: [
      ("proxy_dim", 128), ("region_block_size", 16), ("topk", 2000), ("num_provider_groups", 2),
      ("sparse_indexer_num_heads", 4),
    ])
  func previewSizes(key: String, value: Int) throws {
    var checkpoint = try SyntheticCheckpoint(.step5, .bf16)
    checkpoint.config.set(["text_config", "sparse_config", key], to: .integer(value))
    #expect(try checkpoint.report(.vllm).faults.contains(.setting))
  }

  // MARK: Step-5's indexer

  @Test("Weights that are fused with the indexer cannot be quantised")
  func indexer() throws {
    let scheme = SyntheticScheme.fp8Block
    var checkpoint = without(try SyntheticCheckpoint(.step5, scheme, expertsOnly: false)) {
      $0.hasPrefix("model.layers.3.self_attn")
    }
    #expect(try checkpoint.report(.vllm).faults == [.moduleNotIgnored])
    #expect(try checkpoint.report(.vllm).findings.first?.severity == .error)
    // Listed as plain, but stored quantised.
    checkpoint = try SyntheticCheckpoint(.step5, scheme, expertsOnly: false)
    checkpoint.change("3.self_attn.k_proj.weight") { $0.elementType = .f8E4M3 }
    checkpoint.add("model.layers.3.self_attn.k_proj.weight_scale_inv", "F32", [4, 4])
    #expect(try checkpoint.report(.vllm).faults == [.moduleIgnored])
    // Some of the fused parts listed and others not.
    checkpoint = without(try SyntheticCheckpoint(.step5, scheme)) { $0.hasSuffix("sparse_indexer_z") }
    #expect(try checkpoint.report(.vllm).faults == [.mixedModule])
    checkpoint = try SyntheticCheckpoint(.step5, .bf16)
    checkpoint.remove("3.self_attn.sparse_indexer_k.weight")
    #expect(try checkpoint.report(.vllm).faults == [.missingTensor])
  }

  // MARK: Ranks

  @Test("The heads of every kind of layer and the blocks limit the number of ranks")
  func ranks() throws {
    // The vision tower and the full layers have 16 heads.
    #expect(try SyntheticCheckpoint(.step3p7, .bf16).report(.vllm).largestTP == 16)
    #expect(try SyntheticCheckpoint(.step3p5, .fp8Block).report(.vllm).largestTP == 8)
    // Heads of 128 are whole blocks, and keys are replicated beyond four ranks.
    let linear = try SyntheticCheckpoint(.step3p5, .fp8Block, expertsOnly: false).report(.vllm)
    #expect(linear.schemes.first { $0.kind == .attention && $0.scheme != "BF16" }?.largestTP == 16)
    // Sixteen ranks would leave one query head per key.
    #expect(try SyntheticCheckpoint(.step5, .bf16).report(.vllm).largestTP == 4)
    let report = try SyntheticCheckpoint(.step5, .bf16).report(.vllm, tensorParallel: 8)
    #expect(report.faults == [.tensorParallel])
  }

  @Test(
    "The whole models load, judged by their headers alone",
    arguments: [(ModelFamily.step3p5, 32), (.step3p7, 16), (.step3VL10B, 16)])
  func published(family: ModelFamily, ranks: Int) throws {
    let directory = try TemporaryDirectory()
    let model = Step3Configuration.published(family)
    try SparseCheckpoint.write(model, to: URL(fileURLWithPath: directory.path))
    let subject = try EngineSubject(Checkpoint.open(directory.path))
    for engine in Engine.allCases {
      let report = try EngineReport(subject, engine: engine, tensorParallel: ranks)
      #expect(report.ok && report.findings.isEmpty, "\(engine): \(report.findings)")
      #expect(report.largestTP == ranks)
    }
  }
}
