import Checkpoint
import JSON
import ServingEngines
import Step3Model
import TensorFormats

/// Later members of the family as headers only: four layers, of which 1 and 2 have experts, and one that predicts a further
/// token.
extension SyntheticCheckpoint {
  /// The dimensions of a small member.
  static func dimensions(of family: ModelFamily) -> Step3Configuration {
    var model = Step3Configuration.published(family)
    model.text.hiddenSize = hidden
    model.text.intermediateSize = 2048
    model.text.layerCount = 4
    model.text.headCount = 16
    model.text.keyValueHeadCount = family == .step3VL10B ? 8 : 4
    model.text.headDimension = 128
    model.text.vocabularySize = 512
    if family != .step3VL10B {
      model.text.predictionLayerCount = 1
      model.text.rotaryDimension = 64
      model.text.moeLayers = [1, 2]
      model.text.expertCount = experts
      model.text.expertsPerToken = 2
      model.text.expertIntermediateSize = inner
      model.text.sharedExpertIntermediateSize = inner
      model.text.expertLimits = [0, 0, 7, 0, 0]
      model.text.sharedExpertLimits = [0, 0, 16, 0, 0]
      model.text.sliding?.layers = family == .step5 ? [0, 1, 2, 4] : [1, 2, 3, 4]
      model.text.sliding?.headCount = family == .step5 ? 16 : 32
      model.text.sliding?.keyValueHeadCount = 4
    }
    shrinkVision(&model, outputSize: 128)
    model.eosTokenIDs = [1]
    return model
  }

  /// The names that engines need in a list of unquantised modules, beside those of Step-3: written down here independently.
  static func furtherNames(of family: ModelFamily, expertsOnly: Bool) -> [String] {
    var names: [String] = []
    for layer in 0..<4 {
      let attention = "model.layers.\(layer).self_attn"
      names.append("\(attention).g_proj")
      guard family == .step5, layer == 3 else { continue }
      names += ["q", "k", "z"].map { "\(attention).sparse_indexer_\($0)" }
      names += ["q_proj", "k_proj", "v_proj"].map { "\(attention).\($0)" }
    }
    if family == .step3VL10B { names = [] }
    let block = "vision_model.transformer.resblocks.0."
    // SGLang's name for Step3-VL-10B's vision side; it matches any name with this component.
    return names + ["attn.qkv_proj", "attn.out_proj", "mlp.fc1", "mlp.fc2"].map { block + $0 }
      + ["vit_large_projector", "vision_model"]
  }

  /// A sound checkpoint: the experts in a scheme, or everything that engines quantise.
  init(_ family: ModelFamily, _ scheme: SyntheticScheme, expertsOnly: Bool = true) throws {
    let model = Self.dimensions(of: family)
    var config = try JSONValue.parse(model.configJSON(), name: "config.json")
    if family == .step5 {
      config.set(["architectures"], to: .array([.string("Step5ForConditionalGeneration")]))
      config.set(["model_type"], to: .string("step5_vl"))
      config.set(["text_config", "architectures"], to: .array([.string("Step5ForCausalLM")]))
      config.set(["text_config", "model_type"], to: .string("step5"))
    }
    if let text = scheme.configuration(expertsOnly: expertsOnly) {
      var settings = try JSONValue.parse(Array(text.utf8), name: "test")
      for key in ["modules_to_not_convert", "ignore"] {
        guard let stated = settings[key]?.items else { continue }
        let further = Self.furtherNames(of: family, expertsOnly: expertsOnly)
        settings.set([key], to: .array(stated + further.map { .string($0) }))
      }
      config.set(["quantization_config"], to: settings)
    }
    self.config = config
    tensors = []
    for tensor in try Step3Inventory(model).tensors {
      let shape = tensor.shape.dimensions
      let stem = String(tensor.publishedName.dropLast(".weight".count))
      let isBesideIndexer = family == .step5 && tensor.layer == 3
      let isLinear =
        ["q_proj", "k_proj", "v_proj"].contains { stem.hasSuffix($0) } && !isBesideIndexer
        || ["o_proj", "gate_proj", "up_proj", "down_proj"].contains { stem.hasSuffix($0) }
      if tensor.role == .routedExperts {
        for part in scheme.parts(rows: shape[1], columns: shape[2], isExpert: true) {
          add("\(stem).\(part.suffix)", part.type, [shape[0]] + part.shape)
        }
      } else if isLinear, !expertsOnly, tensor.layer != 4 {
        for part in scheme.parts(rows: shape[0], columns: shape[1], isExpert: false) {
          add("\(stem).\(part.suffix)", part.type, part.shape)
        }
      } else {
        add(tensor.publishedName, tensor.elementType.rawValue, shape)
      }
    }
  }
}
