internal import JSON
internal import Step3Model
internal import TensorFormats

extension EngineCheck {
  /// The language model's members.
  private var text: JSONValue { root["text_config"] ?? root }

  /// What engines need from `config.json` apart from quantisation.
  mutating func checkConfiguration() {
    checkArchitecture()
    if !configuration.text.moeLayers.isEmpty || model.family == .step3 { checkMoELayers() }
    switch model.family {
    case .step3: checkKeyValueHeads()
    case .step3p5, .step3p7: checkFlash()
    case .step5: checkPreview()
    case .step3VL10B: break
    }
  }

  private mutating func checkKeyValueHeads() {
    guard configuration.text.keyValueHeadCount != 1 else { return }
    findings.add(
      .error, .keyValueHeads, file: "config.json",
      "num_attention_groups is \(configuration.text.keyValueHeadCount)",
      consequence: "\(engine.name) stops: its Step-3 has one key and value head",
      remedy: "no remedy is known")
  }

  private mutating func checkArchitecture() {
    let known = model.rules.architectures.map(\.name)
    let found = root["architectures"]?.strings?.first
    guard found.map({ known.contains($0) }) ?? false else {
      findings.add(
        .error, .architecture, file: "config.json",
        "architectures begins with \(found.map { "'\($0.printable)'" } ?? "nothing"); supported are \(known.joined(separator: ", "))",
        consequence: "\(engine.name) stops: it has no model of that name",
        remedy: engine == .sglang && found == "Step3TextForCausalLM"
          ? "SGLang serves the vision-language model only" : "write \"architectures\": [\"\(known[0])\"]")
      return
    }
    guard isMultimodal, let inner = root["text_config"]?["architectures"]?.strings?.first,
      !model.rules.languageArchitectures.isEmpty, !model.rules.languageArchitectures.contains(inner)
    else { return }
    findings.add(
      .error, .architecture, file: "config.json",
      "text_config.architectures begins with '\(inner.printable)'",
      consequence: "\(engine.name) stops: it creates the language model by that name, and has none",
      remedy: "write \"architectures\": [\"\(model.rules.languageArchitectures[0])\"] into text_config")
  }

  /// Engines split a string; Step-3's configuration class has a tuple as default, so the key is required there.
  private mutating func checkMoELayers() {
    guard case .object(let members) = text else { return }
    let fault: String
    switch members["moe_layers_enum"] {
    case nil where model.family != .step3: return checkAbsentMoELayers(members)
    case nil: fault = "is missing, for which the engines' default is a tuple"
    case .null?: return
    case .array? where model.family == .step5: return
    case .string(let list)?:
      let parts = list.split(separator: ",", omittingEmptySubsequences: false)
      if parts.allSatisfy({ Int($0.filter { $0 != " " }) != nil }) { return }
      fault = "is '\(list.printable)', which has an empty item"
    case let other?: fault = "is \(other.kind)"
    }
    let numbers = configuration.text.moeLayers.map(String.init).joined(separator: ",")
    findings.add(
      .error, .moeLayersEnum, file: "config.json", "text_config.moe_layers_enum \(fault)",
      consequence: "\(engine.name) stops: it splits a string at commas (AttributeError or ValueError)",
      remedy: "write \"moe_layers_enum\": \"\(numbers)\"")
  }

  private mutating func checkAbsentMoELayers(_ members: JSONMembers) {
    let isSaid =
      engine == .vllm && members[model.family == .step5 ? "moe_layer_list" : "mlp_layer_types"] != nil
    let isDefault =
      engine == .vllm && configuration.text.moeLayers == Array(1..<configuration.text.layerCount)
    guard !isSaid, !isDefault else { return }
    let numbers = configuration.text.moeLayers.map(String.init).joined(separator: ",")
    findings.add(
      .error, .moeLayersEnum, file: "config.json", "text_config.moe_layers_enum is missing",
      consequence: engine == .vllm
        ? "vLLM assumes experts in all layers but the first, so the names differ"
        : "SGLang assumes the released model's layers, so the names differ if this one has others",
      remedy: "write \"moe_layers_enum\": \"\(numbers)\"")
  }

  // MARK: Later members

  private mutating func refuse(_ key: String, _ fault: String, _ consequence: String, _ remedy: String) {
    let place = root["text_config"] == nil ? "" : "text_config."
    findings.add(
      .error, .setting, file: "config.json", "\(place)\(key) \(fault)",
      consequence: "\(engine.name) stops: \(consequence)", remedy: remedy)
  }

  /// Step-3.5 and 3.7: assertions of the classes and, in SGLang, the lists that only StepFun's spelling has.
  private mutating func checkFlash() {
    checkRouting(limits: engine == .vllm)
    if text["layer_types"]?.items == nil {
      refuse(
        "layer_types", "is not a list", "it looks up the kind of every layer", "write the kind of each layer")
    }
    guard engine == .sglang else {
      let turned = [configuration.text.rotaryDimension, configuration.text.sliding?.rotaryDimension]
      for turned in turned.compactMap(\.self) where 2 * turned != configuration.text.headDimension {
        refuse(
          "partial_rotary_factors", "rotates \(turned) of \(configuration.text.headDimension) elements",
          "AssertionError, it rotates all or half of a head", "no remedy is known")
      }
      return
    }
    for key in ["rope_theta", "partial_rotary_factors", "swiglu_limits"] {
      let items = text[key]?.items
      if items == nil || items?.contains(.null) == true {
        refuse(
          key, items == nil ? "is not a list" : "has null in it", "it reads a number for every layer from it",
          "write StepFun's spelling of the configuration, a number for each layer")
      }
    }
    if configuration.text.sliding != nil, text["attention_other_setting"]?["num_attention_heads"] == nil {
      refuse(
        "attention_other_setting", "is missing", "it reads the heads of sliding layers from it",
        "write StepFun's spelling of the configuration")
    }
  }

  /// Assertions of vLLM's routers.
  private mutating func checkRouting(limits: Bool) {
    for key in ["use_moe_router_bias", "need_fp32_gate"] {
      let stated = text[key]?.flag
      // If missing, Step-5's class defaults to false; other defaults are unknown here.
      guard engine == .vllm, stated == false || (stated == nil && model.family == .step5) else { continue }
      refuse(
        key, stated == nil ? "is missing" : "is false", "only true is supported", "write \"\(key)\": true")
    }
    guard limits else { return }
    let odd = configuration.text.moeLayers.first { layer in
      configuration.text.expertLimit(layer: layer).map { $0 != 7 } ?? false
    }
    if let odd {
      refuse(
        "swiglu_limits", "is \(configuration.text.expertLimit(layer: odd) ?? 0) in layer \(odd)",
        "its experts support no limit but 7", "no remedy is known")
    }
  }

  /// Step-5: the requirements of its configuration class and of sparse attention.
  private mutating func checkPreview() {
    checkRouting(limits: true)
    let model = configuration.text
    for (name, value, wanted) in [
      ("model_type", root["model_type"]?.text, isMultimodal ? "step5_vl" : "step5"),
      ("text_config.model_type", root["text_config"]?["model_type"]?.text, "step5"),
    ] where value != wanted && (name == "model_type" || root["text_config"] != nil) {
      findings.add(
        .error, .architecture, file: "config.json",
        "\(name) is \(value.map { "'\($0.printable)'" } ?? "missing")",
        consequence: "\(engine.name) stops: it has no configuration of that type",
        remedy: "write \"model_type\": \"\(wanted)\"; step3-convert does so unless it only copies")
    }
    if text["max_position_embedding"] != nil {
      refuse(
        "max_position_embedding", "is present", "ValueError, it expects max_position_embeddings",
        "rename it to max_position_embeddings")
    }
    let count = model.layerCount + model.predictionLayerCount
    if let kinds = text["layer_types"]?.items ?? text["layer_types_with_mtp"]?.items, kinds.count < count {
      refuse(
        "layer_types", "has \(kinds.count) entries for \(count) layers", "ValueError",
        "write the kind of each layer, those that predict further tokens included")
    }
    if text["rope_theta"] == nil {
      refuse(
        "rope_theta", "is missing", "silently, it uses 500000 for all layers and computes something else",
        "write a base for each layer")
    }
    if let setting = text["attention_other_setting"], setting["attention_type"] == nil {
      refuse(
        "attention_other_setting", "has no attention_type", "KeyError",
        "write \"attention_type\": \"sliding_attention\"")
    }
    checkSparseAttention(text["sparse_config"], model)
  }

  private mutating func checkSparseAttention(_ sparse: JSONValue?, _ model: Step3Configuration.Text) {
    guard let sparse else {
      refuse(
        "sparse_config", "is missing", "NotImplementedError, it has no dense version of the model",
        "no remedy is known")
      return
    }
    let remedy = "no remedy is known: vLLM's kernels are for the released model's sizes"
    for (key, value) in [("proxy_dim", 256), ("region_block_size", 8)] {
      if let stated = sparse[key]?.whole, stated != value {
        refuse("sparse_config.\(key)", "is \(stated)", "ValueError, it has to be \(value)", remedy)
      }
    }
    if let topk = sparse["topk"]?.whole, !(1...1024).contains(topk) {
      refuse("sparse_config.topk", "is \(topk)", "ValueError, it has to be 1 to 1024", remedy)
    }
    let groups = (sparse["index_tp_size"] ?? sparse["num_provider_groups"])?.whole ?? 4
    if groups != model.keyValueHeadCount {
      refuse(
        "sparse_config.num_provider_groups",
        "is \(groups), but there are \(model.keyValueHeadCount) key and value heads",
        "ValueError, the numbers have to be equal", "write the number of key and value heads")
    }
    let heads = sparse["sparse_indexer_num_heads"]?.whole ?? 16
    if groups < 1 || heads % groups != 0 || ![2, 4].contains(heads / max(1, groups)) {
      refuse(
        "sparse_config.sparse_indexer_num_heads", "is \(heads) for \(groups) groups",
        "ValueError, there have to be two or four per group", remedy)
    }
    if ![128, 192].contains(model.headDimension) {
      refuse(
        "head_dim", "is \(model.headDimension)", "ValueError, sparse attention is for 128 or 192", remedy)
    }
  }
}
