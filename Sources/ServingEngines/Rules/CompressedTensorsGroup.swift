internal import JSON
internal import TensorFormats

/// One of the `config_groups` of compressed-tensors: targets, and how their weights are stored.
struct CompressedTensorsGroup {
  /// Names, patterns and classes.
  let targets: ModuleList
  /// The targets as written.
  let texts: [String]
  /// The scheme; `nil` if unknown to these rules.
  let layout: EngineLayout?
  /// Whether experts can have it: FP8 without quantised activations is for linear layers only.
  let suitsExperts: Bool
  /// The description of a group without a scheme, for messages.
  let description: String

  init(_ group: JSONValue, format outer: String?, model: EngineModel) {
    texts = group["targets"]?.strings ?? []
    targets = ModuleList(texts, style: .targets, model: model)
    let format = group["format"]?.text ?? outer ?? ""
    let activations = group["input_activations"]
    let weights = group["weights"]
    let bits = weights?["num_bits"]?.whole ?? 0
    let type = weights?["type"]?.text ?? "int"
    let strategy = weights?["strategy"]?.text ?? ""
    description =
      "\(type)\(bits) by \(strategy.isEmpty ? "nothing" : strategy.printable) under the format '\(format.printable)'"
    let isStatic = activations.map { !($0["dynamic"]?.isTrue ?? false) } ?? false
    layout = weights.flatMap {
      Self.layout($0, type, bits, strategy, format, activations, isStatic: isStatic)
    }
    suitsExperts = type != "float" || bits != 8 || activations != nil
  }

  private static func layout(
    _ weights: JSONValue, _ type: String, _ bits: Int, _ strategy: String, _ format: String,
    _ activations: JSONValue?, isStatic: Bool
  ) -> EngineLayout? {
    let group = weights["group_size"]?.whole
    // Only packed integers have zero points in these engines.
    if weights["symmetric"]?.isTrue == false, format != "pack-quantized" { return nil }
    switch (type, bits, strategy) {
    case ("float", 8, "channel") where format == "float-quantized": return .floatChannel(isStatic: isStatic)
    case ("float", 8, "tensor") where format == "float-quantized": return .floatTensor(isStatic: isStatic)
    case ("float", 8, "block") where format == "float-quantized":
      return weights["block_structure"]?.sides.map { .floatBlock(rows: $0.rows, columns: $0.columns) }
    case ("float", 8, "group") where format == "mxfp8-quantized" && group == 32:
      return .mxfp8(scales: "weight_scale")
    case ("int", 8, "channel") where format == "int-quantized" && activations != nil && !isStatic:
      return .int8Channel(isCompressedTensors: true)
    case ("int", 2...8, "group"), ("int", 2...8, "channel"):
      guard format == "pack-quantized", activations == nil else { return nil }
      guard strategy == "channel" || (group ?? 0) > 0 else { return nil }
      return .packed(
        bits: bits, group: strategy == "group" ? group : nil,
        isSymmetric: weights["symmetric"]?.isTrue ?? true,
        isReordered: ["group", "dynamic"].contains(weights["actorder"]?.text ?? ""))
    case ("float", 4, "tensor_group") where format == "nvfp4-pack-quantized" && group ?? 16 == 16:
      return .nvfp4(hasInputScale: activations != nil)
    case ("float", 4, "group") where format == "mxfp4-pack-quantized" && group == 32: return .packedMXFP4
    default: return nil
    }
  }

  /// Whether a target names the module's class: part of the name is enough for linear layers; experts match `Linear`.
  func namesClass(of module: EngineModule) -> Bool {
    if module.kind == .experts { return texts.contains("Linear") }
    return texts.contains { !$0.hasPrefix("re:") && module.className.lowercased().contains($0.lowercased()) }
  }
}
