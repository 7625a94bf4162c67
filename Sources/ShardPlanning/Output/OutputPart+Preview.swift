internal import Checkpoint
internal import JSON
internal import Step3Model
internal import TensorFormats

/// The configuration of Step-5-Preview under vLLM's names.
///
/// Its BF16 copies use model names that no engine knows. Sources: the configuration of these copies; vLLM 0.33,
/// `transformers_utils/configs/step5.py` and `models/step5/nvidia/model.py`.
extension OutputPart {
  /// Corrects what keeps vLLM from reading it.
  func amendPreview(
    _ text: inout ConfigurationText, _ step3: Step3Configuration
  ) throws(CheckpointError) -> [ShardPlan.Amendment] {
    var amendments: [ShardPlan.Amendment] = []
    let nested = try text.object(Self.textKey)
    let isWhole = nested != nil
    amendments += Self.rename(
      &text, isWhole ? ("step5_vl", "Step5ForConditionalGeneration") : ("step5", "Step5ForCausalLM"), at: "")
    guard var inner = nested else {
      return amendments + Self.amendText(&text, step3.text, at: "")
    }
    amendments += Self.rename(&inner, ("step5", "Step5ForCausalLM"), at: "\(Self.textKey).")
    amendments += Self.amendText(&inner, step3.text, at: "\(Self.textKey).")
    if !amendments.isEmpty { text[Self.textKey] = inner.text(indentation: 2) }
    return amendments
  }

  private static func rename(
    _ text: inout ConfigurationText, _ names: (type: String, architecture: String), at place: String
  ) -> [ShardPlan.Amendment] {
    var amendments: [ShardPlan.Amendment] = []
    for (key, value) in [
      ("model_type", JSONText.quoted(names.type)),
      ("architectures", "[\(JSONText.quoted(names.architecture))]"),
    ] where text[key]?.filter({ !$0.isWhitespace }) != value {
      let old = text.stated(key).map { "was \($0.filter { !$0.isWhitespace }.printable)" } ?? "was missing"
      text[key] = value
      amendments.append(
        ShardPlan.Amendment(key: place + key, reason: "\(old), but vLLM knows the model as \(value)"))
    }
    return amendments
  }

  private static func amendText(
    _ text: inout ConfigurationText, _ model: Step3Configuration.Text, at place: String
  ) -> [ShardPlan.Amendment] {
    var amendments: [ShardPlan.Amendment] = []
    func set(_ key: String, _ value: String?, _ reason: String) {
      text[key] = value
      amendments.append(ShardPlan.Amendment(key: place + key, reason: reason))
    }
    if text.stated("moe_layers_enum") == nil, text.stated("moe_layer_list") == nil {
      let layers = model.moeLayers.map(String.init).joined(separator: ",")
      set(
        "moe_layers_enum", JSONText.quoted(layers),
        "was missing, and vLLM would assume experts in all layers but the first")
    }
    if let old = text["max_position_embedding"] {
      if text.stated("max_position_embeddings") == nil { text["max_position_embeddings"] = old }
      set(
        "max_position_embedding", nil, "is spelled max_position_embeddings in vLLM, which rejects this name")
    }
    if let sliding = model.sliding, !hasKindOfOtherAttention(text),
      text.stated("attention_other_setting") != nil || sliding.headCount != model.headCount
        || sliding.keyValueHeadCount != model.keyValueHeadCount
    {
      let setting = [
        #""attention_type": "sliding_attention""#, "\"num_attention_heads\": \(sliding.headCount)",
        "\"num_attention_groups\": \(sliding.keyValueHeadCount)", "\"head_dim\": \(model.headDimension)",
      ]
      set(
        "attention_other_setting", "{\(setting.joined(separator: ", "))}",
        "did not say which layers it is for, which vLLM requires")
    }
    return amendments
  }

  private static func hasKindOfOtherAttention(_ text: ConfigurationText) -> Bool {
    guard let setting = try? text.object("attention_other_setting") else { return false }
    return setting.stated("attention_type") != nil
  }
}
