internal import JSON
internal import Step3Model
internal import TensorFormats

extension EngineQuantization {
  /// The result of parsing a `quantization_config`.
  enum Parsed {
    case quantization(EngineQuantization)
    /// Unknown to the engine, or to these rules; a finding says which.
    case unknown
  }

  /// The settings where engines look for them: in `config.json`, or otherwise in ModelOpt's own file.
  ///
  /// - Parameter besides: `hf_quant_config.json`, parsed.
  static func settings(in root: JSONValue, besides: JSONValue?) -> JSONValue? {
    let stated =
      root["quantization_config"] ?? root["text_config"]?["quantization_config"] ?? root["compression_config"]
    guard stated == nil, case .object(var members)? = besides, members["quantization"] != nil else {
      return stated
    }
    members["quant_method"] = .string("modelopt")
    return .object(members)
  }

  /// Reads a configuration as an engine does.
  static func parse(
    _ settings: JSONValue, _ model: EngineModel, _ findings: inout FindingCollector
  ) -> Parsed {
    let reader = Reader(settings: settings, model: model)
    let engine = model.engine
    guard let method = settings["quant_method"]?.text?.lowercased() else {
      findings.add(
        .error, .quantizationConfig, file: "config.json", "quantization_config has no quant_method",
        consequence: "\(engine.name) stops: ValueError", remedy: "state quant_method")
      return .unknown
    }
    let result: Result<EngineQuantization, EngineRefusal> =
      switch method {
      case "fp8": reader.fp8(&findings)
      case "mxfp8":
        reader.uniform(
          method, .mxfp8(scales: engine == .vllm ? "weight_scale" : "weight_scale_inv"),
          reader.list(["ignored_layers", "modules_to_not_convert"], .exact))
      case "compressed-tensors": reader.compressedTensors()
      case "modelopt", "modelopt_fp8", "modelopt_fp4", "modelopt_mxfp8": reader.modelOpt(method)
      case "mxfp4":
        .success(
          EngineQuantization(
            model: model, method: method, rule: .uniform(linear: .plain, experts: .mxfp4),
            ignored: reader.list([], .exact)))
      case "w8a8_int8":
        reader.uniform(
          method, .int8Channel(isCompressedTensors: false), reader.list(["ignore"], .compressedTensors))
      case "awq", "awq_marlin": reader.awq()
      case "gptq", "gptq_marlin": reader.gptq()
      default:
        .failure(
          EngineRefusal(
            "quant_method '\(method.printable)' is not known to load \(model.family.name)",
            "\(engine.name) stops, or loads by rules that are not replayed here",
            "use fp8, compressed-tensors or modelopt"))
      }
    switch result {
    case .success(let quantization):
      for reason in quantization.unreadable { reader.report(unreadable: reason, &findings) }
      reader.reportAnchored(quantization, &findings)
      return .quantization(quantization)
    case .failure(let refusal):
      findings.add(
        .error, refusal.code, file: "config.json", refusal.message, consequence: refusal.consequence,
        remedy: refusal.remedy)
      return .unknown
    }
  }

  /// Reads the keys of one method.
  private struct Reader {
    let settings: JSONValue
    let model: EngineModel
    var engine: Engine { model.engine }

    func list(_ keys: [String], _ style: ModuleList.Style) -> ModuleList {
      let texts = keys.lazy.compactMap { settings[$0]?.strings }.first { !$0.isEmpty } ?? []
      return ModuleList(texts, style: style, model: model)
    }

    func uniform(
      _ method: String, _ layout: EngineLayout, _ ignored: ModuleList
    ) -> Result<EngineQuantization, EngineRefusal> {
      .success(
        EngineQuantization(
          model: model, method: method, rule: .uniform(linear: layout, experts: layout), ignored: ignored))
    }

    func fp8(_ findings: inout FindingCollector) -> Result<EngineQuantization, EngineRefusal> {
      let scheme = settings["activation_scheme"]?.text
      if scheme != "dynamic" && scheme != "static" {
        findings.add(
          .error, .activationScheme, file: "config.json",
          "quantization_config.activation_scheme is \(settings["activation_scheme"]?.kind ?? "missing")",
          consequence: "\(engine.name) stops: ValueError", remedy: "write \"activation_scheme\": \"dynamic\"")
      }
      let ignored = list(["ignored_layers", "modules_to_not_convert"], .exact)
      var linear = EngineLayout.fp8Tensor(isStatic: scheme == "static")
      if let block = settings["weight_block_size"] {
        guard let (rows, columns) = block.sides else {
          return .failure(
            EngineRefusal(
              .quantizationConfig, "weight_block_size is \(block.kind), not two positive numbers",
              "\(engine.name) stops: ValueError", "write [128, 128]"))
        }
        if scheme == "static" {
          findings.add(
            .error, .activationScheme, file: "config.json",
            "activation_scheme is static with weight_block_size",
            consequence: "\(engine.name) stops: ValueError, blocks need dynamic activations",
            remedy: "write \"activation_scheme\": \"dynamic\"")
        }
        linear = .fp8Block(rows: rows, columns: columns)
      }
      var experts = linear
      if settings["store_dtype"]?.text == "mxfp4" {
        guard engine == .vllm else {
          return .failure(
            EngineRefusal(
              "SGLang does not support store_dtype mxfp4, and takes the experts for FP8",
              "SGLang stops, or reads four-bit codes as FP8", "for SGLang, store the experts as FP8 blocks"))
        }
        experts = .mxfp4
      }
      return .success(
        EngineQuantization(
          model: model, method: "fp8", rule: .uniform(linear: linear, experts: experts), ignored: ignored))
    }

    func compressedTensors() -> Result<EngineQuantization, EngineRefusal> {
      guard case .object(let groups)? = settings["config_groups"], !groups.isEmpty else {
        return .failure(
          EngineRefusal(
            .quantizationConfig, "compressed-tensors without config_groups",
            "\(engine.name) leaves every module unquantised, or stops", "write config_groups"))
      }
      let format = settings["format"]?.text
      return .success(
        EngineQuantization(
          model: model, method: "compressed-tensors",
          rule: .groups(
            groups.sorted { $0.key < $1.key }.map {
              CompressedTensorsGroup($0.value, format: format, model: model)
            }), ignored: list(["ignore"], .compressedTensors)))
    }

    func modelOpt(_ method: String) -> Result<EngineQuantization, EngineRefusal> {
      let inner = settings["quantization"]
      let keys = inner ?? settings
      let algorithm = keys["quant_algo"]?.text?.uppercased() ?? ""
      if inner != nil, algorithm.contains("NVFP4") {
        let missing = ["group_size", "kv_cache_quant_algo", "exclude_modules"].filter {
          guard case .object(let members) = keys else { return true }
          return members[$0] == nil
        }
        if !missing.isEmpty, engine == .vllm {
          return .failure(
            EngineRefusal(
              .quantizationConfig, "ModelOpt's nested configuration lacks \(missing.joined(separator: ", "))",
              "vLLM stops: ValueError", "state the keys, with null or an empty list where nothing applies"))
        }
      }
      let texts =
        keys["exclude_modules"]?.strings ?? settings["ignore"]?.strings ?? settings["exclude_modules"]?
        .strings
        ?? []
      let ignored = ModuleList(texts, style: .modelOpt, model: model)
      switch (algorithm, engine) {
      case ("FP8", _): return uniform(method, .fp8Tensor(isStatic: true), ignored)
      case ("NVFP4", .vllm): return uniform(method, .modelOptNVFP4(hasInputScale: !isWeightOnly), ignored)
      case ("NVFP4", .sglang), ("NVFP4_AWQ", .sglang):
        return uniform(method, .modelOptNVFP4(hasInputScale: true), ignored)
      case ("W4A16_NVFP4", _): return uniform(method, .modelOptNVFP4(hasInputScale: false), ignored)
      case ("MXFP8", .vllm): return uniform(method, .mxfp8(scales: "weight_scale"), ignored)
      default:
        return .failure(
          EngineRefusal(
            "ModelOpt's quant_algo '\(algorithm.printable)' is not known to load \(model.family.name)",
            "\(engine.name) stops, or loads by rules that are not replayed here", "use NVFP4 or W4A16_NVFP4"))
      }
    }

    /// Whether every group has unquantised activations, from which vLLM infers W4A16.
    private var isWeightOnly: Bool {
      guard case .object(let groups)? = settings["config_groups"], !groups.isEmpty else { return false }
      return groups.values.allSatisfy { $0["input_activations"] == nil }
    }

    func awq() -> Result<EngineQuantization, EngineRefusal> {
      let group = settings["group_size"]?.whole ?? settings["q_group_size"]?.whole ?? 0
      guard (settings["bits"] ?? settings["w_bit"])?.whole == 4, (1...65_536).contains(group) else {
        return .failure(
          EngineRefusal(
            .quantizationConfig, "AWQ needs bits 4 and a positive group_size",
            "\(engine.name) stops: ValueError",
            "state both"))
      }
      return uniform("awq", .awq(group: group), list(["modules_to_not_convert"], .parts))
    }

    func gptq() -> Result<EngineQuantization, EngineRefusal> {
      let (bits, group) = (settings["bits"]?.whole ?? 0, settings["group_size"]?.whole ?? 0)
      guard [2, 4, 8].contains(bits), (1...65_536).contains(group) else {
        return .failure(
          EngineRefusal(
            .quantizationConfig, "GPTQ needs bits 2, 4 or 8 and a positive group_size",
            "\(engine.name) stops, or loads by rules that are not replayed here", "state both"))
      }
      var skipped: [String] = []
      if case .object(let dynamic)? = settings["dynamic"] {
        skipped = dynamic.keys.filter { $0.hasPrefix("-:") }.sorted().map { String($0.dropFirst(2)) }
      }
      return uniform(
        "gptq", .gptq(bits: bits, group: group, isReordered: settings["desc_act"]?.isTrue ?? false),
        ModuleList(skipped, style: .patterns, model: model))
    }

    func report(unreadable reason: String, _ findings: inout FindingCollector) {
      findings.add(
        .error, .patternUnreadable, file: "config.json", reason,
        consequence: "it is unknown what \(engine.name) would leave unquantised",
        remedy: "write a plain Python regular expression")
    }

    /// An anchor before `model.` keeps a pattern from matching if the engine inserts `language_model.` there.
    func reportAnchored(_ quantization: EngineQuantization, _ findings: inout FindingCollector) {
      guard model.isMultimodal, !model.rules.languagePrefix.isEmpty,
        quantization.method == "compressed-tensors"
      else { return }
      for entry in quantization.ignored.entries where entry.pattern != nil {
        let pattern = entry.text.dropFirst(3).drop { $0 == "^" || $0 == "(" }
        guard pattern.hasPrefix("model") || pattern.hasPrefix("lm_head") else { continue }
        findings.add(
          .warning, .patternAnchored, file: "config.json",
          "the pattern '\(entry.text.printable)' in 'ignore' is anchored at the beginning of the name",
          consequence:
            "\(engine.name)'s modules are called \(model.rules.languagePrefix)model..., so it matches none",
          remedy: "begin the pattern with .*")
      }
    }
  }
}

extension JSONValue {
  /// Truth as in Python, as far as configurations use it.
  var isTrue: Bool { flag ?? false }

  /// Two positive whole numbers.
  var sides: (rows: Int, columns: Int)? {
    guard let items, items.count == 2, let rows = items[0].whole, let columns = items[1].whole,
      (1...1_048_576).contains(rows), (1...1_048_576).contains(columns)
    else { return nil }
    return (rows, columns)
  }
}
