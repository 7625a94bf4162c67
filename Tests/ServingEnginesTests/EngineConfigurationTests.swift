import JSON
import ServingEngines
import Step3Model
import Testing
import TensorFormats

@Suite("Faults in config.json and files")
struct EngineConfigurationTests {
  private func list(_ texts: String...) -> JSONValue { .array(texts.map { .string($0) }) }

  // MARK: config.json

  @Test(
    "moe-layers-enum: a list, a missing value and an empty item stop both engines",
    arguments: [JSONValue.array([.integer(1), .integer(2)]), nil, .string("1,2,")])
  func moeLayersEnum(value: JSONValue?) throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.config.set(["text_config", "moe_layers_enum"], to: value)
    for engine in Engine.allCases {
      let report = try checkpoint.report(engine)
      #expect(report.severity(.moeLayersEnum) == .error)
      // If it is missing, all layers but the first have experts, and then names differ as well.
      if value != nil { #expect(report.faults == [.moeLayersEnum]) }
    }
  }

  @Test("architecture: SGLang has no class for the language model alone")
  func architecture() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.config.set(["architectures"], to: list("Step3TextForCausalLM"))
    checkpoint.tensors.removeAll { $0.name.hasPrefix("v") }
    #expect(try checkpoint.report(.vllm).ok)
    #expect(try checkpoint.report(.sglang).faults == [.architecture])
  }

  @Test("activation-scheme: fp8 requires it")
  func activationScheme() throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    checkpoint.config.set(["quantization_config", "activation_scheme"], to: nil)
    #expect(try checkpoint.report(.vllm).faults == [.activationScheme])
    #expect(try checkpoint.report(.sglang).faults == [.activationScheme])
  }

  @Test("quantization_config is found in text_config, and under its other name")
  func places() throws {
    for path in [["text_config", "quantization_config"], ["compression_config"]] {
      var checkpoint = try SyntheticCheckpoint(.fp8Block)
      guard case .object(let members) = checkpoint.config else { return }
      let settings = members["quantization_config"]
      checkpoint.config.set(["quantization_config"], to: nil)
      #expect(try checkpoint.report(.vllm).faults == [.moduleIgnored])
      checkpoint.config.set(path, to: settings)
      #expect(try checkpoint.report(.vllm).ok)
    }
  }

  @Test("An unknown method is refused, and what it hides is listed as unchecked")
  func unknownMethod() throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    checkpoint.config.set(["quantization_config", "quant_method"], to: .string("bitsandbytes"))
    let report = try checkpoint.report(.vllm)
    #expect(report.faults == [.schemeUnsupported])
    #expect(report.checksSkipped.count == 1)
  }

  // MARK: Lists of modules

  @Test("module-not-ignored: q, k and v listed without qkv_proj stay quantised in vLLM")
  func fusedNameMissing() throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    let names = SyntheticScheme.exactNames.filter { !$0.hasSuffix("qkv_proj") }
    checkpoint.config.set(
      ["quantization_config", "modules_to_not_convert"], to: .array(names.map { .string($0) }))
    let vllm = try checkpoint.report(.vllm)
    #expect(vllm.faults == [.moduleNotIgnored])
    #expect(vllm.findings.first?.tensor == "model.layers.0.self_attn.qkv_proj")
    #expect(vllm.findings.first?.count == 4)
    #expect(try checkpoint.report(.sglang).ok)
  }

  @Test("mixed-module: q listed without k and v stops SGLang")
  func partlyListed() throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    let names = SyntheticScheme.exactNames.filter {
      !$0.hasSuffix("qkv_proj") && !$0.hasSuffix("k_proj") && !$0.hasSuffix("v_proj")
    }
    checkpoint.config.set(
      ["quantization_config", "modules_to_not_convert"], to: .array(names.map { .string($0) }))
    #expect(try checkpoint.report(.sglang).faults == [.mixedModule])
  }

  @Test("pattern-anchored: a pattern that begins with model. matches nothing in vLLM")
  func anchoredPattern() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16)
    checkpoint.config.set(
      ["quantization_config", "ignore"],
      to: list(
        "lm_head", #"re:^model\.layers\.\d+\.self_attn\..*"#, #"re:.*share_expert\..*"#,
        #"re:.*layers\.(0|3)\.mlp\..*"#))
    let vllm = try checkpoint.report(.vllm)
    #expect(vllm.severity(.patternAnchored) == .warning)
    #expect(vllm.faults == [.moduleNotIgnored])
    #expect(vllm.findings.first?.severity == .error)
    #expect(try checkpoint.report(.sglang).ok)
  }

  @Test("module-ignored: a pattern for all of mlp catches SGLang's experts")
  func mlpPattern() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16)
    checkpoint.config.set(
      ["quantization_config", "ignore"],
      to: list("lm_head", #"re:.*self_attn\..*"#, #"re:.*share_expert\..*"#, #"re:.*\.mlp\..*"#))
    #expect(try checkpoint.report(.vllm).ok)
    let sglang = try checkpoint.report(.sglang)
    #expect(sglang.faults == [.moduleIgnored])
    #expect(sglang.findings.first?.remedy.contains("mlp.experts") == true)
  }

  @Test("A target with tensor names of experts matches none of vLLM's modules")
  func expertTarget() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16)
    checkpoint.config.set(
      ["quantization_config", "config_groups", "group_0", "targets"], to: list(#"re:.*moe\.gate_proj"#))
    #expect(try checkpoint.report(.vllm).faults == [.moduleIgnored])
    checkpoint.config.set(
      ["quantization_config", "config_groups", "group_0", "targets"],
      to: list(#"re:.*moe\.experts\..*_proj$"#))
    #expect(try checkpoint.report(.vllm).ok)
  }

  @Test("module-not-ignored: plain experts under a quantising configuration; the suggested remedy works")
  func plainExperts() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    guard case .object(let members) = try SyntheticCheckpoint(.w4a16).config else { return }
    checkpoint.config.set(["quantization_config"], to: members["quantization_config"])
    for engine in Engine.allCases {
      let report = try checkpoint.report(engine)
      #expect(report.faults == [.moduleNotIgnored])
      #expect(report.findings.first?.remedy.contains(#"re:.*model\.layers\.N\.moe\.experts.*"#) == true)
    }
    checkpoint.config.set(
      ["quantization_config", "ignore"],
      to: list(
        "lm_head", #"re:.*self_attn\..*"#, #"re:.*share_expert\..*"#, #"re:.*layers\.(0|3)\.mlp\..*"#,
        #"re:.*model\.layers\.1\.moe\.experts.*"#, #"re:.*model\.layers\.1\.mlp\.experts.*"#,
        #"re:.*model\.layers\.2\.moe\.experts.*"#, #"re:.*model\.layers\.2\.mlp\.experts.*"#))
    for engine in Engine.allCases { #expect(try checkpoint.report(engine).ok) }
  }

  @Test("An absurdly long list of patterns is refused, not evaluated")
  func hostileList() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16, expertsOnly: false)
    let hostile = JSONValue.string("re:(?:[a-z._0-9]|[a-z._])*[#!]")
    checkpoint.config.set(
      ["quantization_config", "ignore"], to: .array(Array(repeating: hostile, count: 2000)))
    #expect(try checkpoint.report(.vllm).severity(.patternUnreadable) == .error)
    checkpoint.config.set(["quantization_config", "ignore"], to: list("lm_head", "re:(?:[a-z._0-9]+)+[#!]"))
    #expect(try checkpoint.report(.sglang).severity(.patternUnreadable) == .error)
    // A long list of plain names is fine.
    let plain = JSONValue.string("re:[ab]{199}")
    checkpoint.config.set(
      ["quantization_config", "ignore"],
      to: .array([.string("lm_head")] + Array(repeating: plain, count: 2000)))
    #expect(try checkpoint.report(.vllm).ok)
  }

  @Test("pattern-unreadable: an invalid pattern")
  func unreadablePattern() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16)
    checkpoint.config.set(["quantization_config", "ignore"], to: list("re:(", "lm_head"))
    #expect(try checkpoint.report(.vllm).severity(.patternUnreadable) == .error)
  }

  @Test("A hostile pattern takes no longer than any other")
  func hostilePattern() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16, expertsOnly: false)
    checkpoint.config.set(
      ["quantization_config", "ignore"], to: list("lm_head", "re:(([a-z._0-9]+)+)+#"))
    #expect(try checkpoint.report(.vllm).ok)
  }

  @Test("lm-head-not-listed: reported for SGLang")
  func lmHeadNotListed() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16, expertsOnly: false)
    checkpoint.config.set(["quantization_config", "ignore"], to: list("re:.*vision_model.*"))
    let report = try checkpoint.report(.sglang)
    #expect(report.severity(.lmHeadNotListed) == .warning)
    #expect(report.ok)
  }

  @Test(
    "ModelOpt's nested configuration needs all its keys in vLLM; NVFP4 without activations is weight-only")
  func modelOptForms() throws {
    var nested = try SyntheticCheckpoint(.modelOptA16, expertsOnly: false)
    nested.config.set(
      ["quantization_config"],
      to: .object([
        "quant_method": .string("modelopt"),
        "quantization": .object([
          "quant_algo": .string("W4A16_NVFP4"), "group_size": .integer(16),
          "exclude_modules": list("lm_head"),
        ]),
      ]))
    #expect(try nested.report(.vllm).faults == [.quantizationConfig])
    nested.config.set(["quantization_config", "quantization", "kv_cache_quant_algo"], to: .null)
    #expect(try nested.report(.vllm).ok)
    var flat = try SyntheticCheckpoint(.modelOptA16)
    flat.config.set(["quantization_config", "quant_algo"], to: .string("NVFP4"))
    #expect(try !flat.report(.vllm).ok)
    flat.config.set(
      ["quantization_config", "config_groups"],
      to: .object(["group_0": .object(["input_activations": .null])]))
    #expect(try flat.report(.vllm).ok)
  }

  // MARK: Files

  @Test("duplicate-tensor: the shard that is read last wins")
  func duplicateTensor() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.add("model.norm.weight", "BF16", [512], file: "other.safetensors")
    #expect(try checkpoint.report(.vllm).faults == [.duplicateTensor])
    #expect(try checkpoint.report(.sglang).severity(.duplicateTensor) == .silent)
  }

  @Test("index: disagreements are named, and a sound index passes")
  func index() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.addIndex()
    #expect(try checkpoint.report(.vllm).findings.isEmpty)
    var size = checkpoint
    size.index?.totalSize = 1
    #expect(try size.report(.vllm).severity(.totalSize) == .warning)
    var stray = checkpoint
    stray.index?.weightMap["model.norm.weight"] = nil
    #expect(try stray.report(.vllm).severity(.indexMismatch) == .warning)
    var missing = checkpoint
    missing.index?.weightMap["model.nothing.weight"] = "model.safetensors"
    #expect(try missing.report(.vllm).faults == [.indexMismatch])
    var orphan = checkpoint
    orphan.orphans = ["old.safetensors"]
    #expect(try orphan.report(.vllm).severity(.orphanShard) == .warning)
    #expect(try orphan.report(.vllm).ok)
  }

  @Test("header-too-large: beyond 100,000,000 bytes no reader accepts it, beyond 25 MB the Hub does not")
  func header() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.headerBytes = 100_000_001
    #expect(try checkpoint.report(.vllm).severity(.headerTooLarge) == .error)
    checkpoint.headerBytes = 100_000_000
    #expect(try checkpoint.report(.vllm).severity(.headerTooLarge) == .warning)
    checkpoint.headerBytes = 25_000_000
    #expect(try checkpoint.report(.vllm).findings.isEmpty)
  }
}
