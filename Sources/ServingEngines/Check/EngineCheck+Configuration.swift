internal import JSON
internal import Step3Model
internal import TensorFormats

extension EngineCheck {
  /// What engines need of `config.json` apart from the quantisation.
  mutating func checkConfiguration() {
    checkArchitecture()
    checkMoELayers()
    if configuration.text.keyValueHeadCount != 1 {
      findings.add(
        .error, .keyValueHeads, file: "config.json",
        "num_attention_groups is \(configuration.text.keyValueHeadCount)",
        consequence: "\(engine.name) stops: its Step-3 has one key and value head",
        remedy: "no remedy is known")
    }
  }

  private mutating func checkArchitecture() {
    let known =
      engine == .vllm
      ? ["Step3VLForConditionalGeneration", "Step3TextForCausalLM"] : ["Step3VLForConditionalGeneration"]
    let found = root["architectures"]?.strings?.first
    guard found.map({ known.contains($0) }) ?? false else {
      findings.add(
        .error, .architecture, file: "config.json",
        "architectures begins with \(found.map { "'\($0.printable)'" } ?? "nothing"); known are \(known.joined(separator: ", "))",
        consequence: "\(engine.name) stops: it has no model of that name",
        remedy: engine == .sglang && found == "Step3TextForCausalLM"
          ? "SGLang serves the vision-language model only" : "write \"architectures\": [\"\(known[0])\"]")
      return
    }
  }

  /// Both engines split a string; their configuration classes' own default is a tuple, so it may not be left out.
  private mutating func checkMoELayers() {
    let text: JSONValue = root["text_config"] ?? root
    guard case .object(let members) = text else { return }
    let fault: String
    switch members["moe_layers_enum"] {
    case nil: fault = "is missing, for which the engines' default is a tuple"
    case .null?: return
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
}
