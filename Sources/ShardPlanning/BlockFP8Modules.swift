internal import Checkpoint
internal import Safetensors
internal import TensorFormats

/// What `quantization_config` has to say about a checkpoint some of whose matrices are block-FP8, so that vLLM and
/// SGLang load it.
///
/// Both engines quantise every linear layer that is not listed, under the names of *their* modules: fused ones, and
/// experts under another name than the tensors'. So every matrix that is not FP8 is listed with all names it may have.
enum BlockFP8Modules {
  /// The text of `quantization_config`.
  ///
  /// Source: the FP8 configurations of vLLM 0.33 and SGLang 0.5.23, which require `activation_scheme` and match whole
  /// module names.
  static func configuration(_ tensors: [PlacedTensor], isStep3: Bool) -> String {
    let modules = excluded(tensors, isStep3: isStep3).map { "      \(ConfigurationText.quoted($0))" }
    let list = modules.isEmpty ? "[]" : "[\n\(modules.joined(separator: ",\n"))\n    ]"
    return """
      {
          "quant_method": "fp8",
          "activation_scheme": "dynamic",
          "fmt": "e4m3",
          "weight_block_size": [\(side), \(side)],
          "modules_to_not_convert": \(list)
        }
      """
  }

  private static let side = 128

  /// The modules that are not FP8, sorted, each once.
  private static func excluded(_ tensors: [PlacedTensor], isStep3: Bool) -> [String] {
    var modules: Set<String> = []
    for tensor in tensors where !tensor.isBlockFP8 && isLinear(tensor, isStep3: isStep3) {
      guard let module = module(of: tensor) else { continue }
      modules.insert(module)
      if let fused = fused(module) { modules.formUnion(fused) }
    }
    return modules.sorted { $0.precedesBytewise($1) }
  }

  /// Whether engines make a linear layer of it that they would quantise. Step-3's router, embedding and vision side
  /// are never quantised; of an unknown model that is not known.
  private static func isLinear(_ tensor: PlacedTensor, isStep3: Bool) -> Bool {
    guard tensor.derivation == .values, (2...3).contains(tensor.shape.rank) else { return false }
    switch tensor.source.role {
    case .attention, .denseFFN, .sharedExpert, .routedExperts, .lmHead, .other: return true
    case .router, .vision, .projector: return !isStep3
    case .embedding, .norm, .scale: return false
    }
  }

  private static func module(of tensor: PlacedTensor) -> String? {
    let suffix = ".weight"
    let name = tensor.source.safetensorsName
    return name.hasSuffix(suffix) ? String(name.dropLast(suffix.count)) : nil
  }

  /// The modules that engines make of this one together with its neighbours.
  private static func fused(_ module: String) -> [String]? {
    guard let dot = module.lastIndex(of: ".") else { return nil }
    let parent = module[..<dot]
    switch module[module.index(after: dot)...] {
    case "q_proj", "k_proj", "v_proj": return ["\(parent).qkv_proj"]
    case "gate_proj", "up_proj", "down_proj":
      // Step-3's experts: vLLM calls the module `moe.experts`, SGLang `mlp.experts`.
      if parent.hasSuffix(".moe") { return ["\(parent).experts", "\(parent.dropLast(4)).mlp.experts"] }
      return module.hasSuffix("down_proj") ? nil : ["\(parent).gate_up_proj"]
    default: return nil
    }
  }

  /// Refuses outputs that engines would load wrongly without a word: matrices that they fuse into one module, of
  /// which some are FP8 and some are not.
  ///
  /// - Throws: `.invalidRequest` naming one that differs.
  static func check(_ tensors: [PlacedTensor], of model: SourceModel) throws(CheckpointError) {
    guard model.step3 != nil, tensors.contains(where: { $0.derivation == .blockFP8Codes }) else { return }
    var groups: [String: (isFP8: Bool, tensor: String)] = [:]
    for tensor in tensors where isLinear(tensor, isStep3: true) || tensor.derivation == .blockFP8Codes {
      guard let module = module(of: tensor), let group = fused(module)?.first else { continue }
      let name = tensor.source.tensor.name
      guard let first = groups[group] else {
        groups[group] = (tensor.isBlockFP8, name)
        continue
      }
      guard first.isFP8 == tensor.isBlockFP8 else {
        throw CheckpointError(
          .invalidRequest,
          "engines load this tensor and \(first.tensor) as one module, and only one of them is block-FP8",
          tensor: name, remedy: "store both as FP8_BLOCK or neither")
      }
    }
  }
}
