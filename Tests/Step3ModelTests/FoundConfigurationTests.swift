internal import CheckpointTesting
internal import Foundation
internal import Step3Model
internal import TensorFormats
internal import Testing

/// Configurations as rewritten by tools: the rotary embedding under newer names, nulls, settings of other models.
@Suite struct FoundConfigurationTests {
  /// The tiny model's `config.json` with members of `text_config` replaced; `nil` takes one out.
  private func configuration(
    _ changes: [String: Any?], root changesOfRoot: [String: Any?] = [:]
  ) throws -> Step3Configuration {
    let data = try Data(contentsOf: URL(filePath: Fixtures.path("checkpoints/tiny/config.json")))
    var object = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
    var text = try #require(object["text_config"] as? [String: Any])
    for (key, value) in changes { text[key] = value }
    object["text_config"] = text
    for (key, value) in changesOfRoot { object[key] = value }
    return try Step3Configuration(configJSON: Array(JSONSerialization.data(withJSONObject: object)))
  }

  private func error(_ changes: [String: Any?]) -> CheckpointError? {
    #expect(throws: CheckpointError.self) { try configuration(changes) }
  }

  @Test("the rope base is found wherever a version of transformers puts it") func baseAlone() throws {
    let parameters: [[String: Any]] = [
      ["rope_theta": 7000.0], ["rope_theta": 7000, "rope_type": "default"],
      ["full_attention": ["rope_theta": 7000.0, "rope_type": "default"]],
      ["full_attention": ["rope_theta": 7000.0], "sliding_attention": ["rope_theta": 7000.0]],
    ]
    for parameters in parameters {
      let read = try configuration(["rope_theta": nil, "rope_scaling": nil, "rope_parameters": parameters])
      #expect(read.text.ropeTheta == 7000 && read.text.ropeScaling == nil && read.unread.isEmpty)
    }
    // The older name without a base, the newer one with it.
    let both = try configuration([
      "rope_theta": nil, "rope_scaling": ["rope_type": "linear", "factor": 2],
      "rope_parameters": ["rope_theta": 7000.0, "rope_type": "linear", "factor": 2],
    ])
    #expect(both.text.ropeTheta == 7000 && both.text.ropeScaling?.factor == 2)
  }

  @Test func kindsOfLayersThatDisagree() throws {
    let kinds: [String: Any] = [
      "full_attention": ["rope_theta": 7.0], "sliding_attention": ["rope_theta": 8.0],
    ]
    let refused = error(["rope_theta": nil, "rope_scaling": nil, "rope_parameters": kinds])
    #expect(refused?.code == .unsupported)
    #expect(refused?.message.contains("full_attention, sliding_attention") == true)
    let told = try configuration([
      "rope_theta": nil, "rope_scaling": nil, "rope_parameters": kinds,
      "layer_types": Array(repeating: "full_attention", count: 4),
    ])
    #expect(told.text.ropeTheta == 7)
    let mixed: [String: Any] = ["rope_theta": 5.0, "full_attention": ["rope_theta": 7.0]]
    #expect(error(["rope_scaling": nil, "rope_parameters": mixed])?.code == .unsupported)
  }

  @Test func contextLengthUnderItsNames() throws {
    let none: [String: Any?] = ["max_seq_len": nil, "max_position_embedding": nil]
    #expect(
      try configuration(none.merging(["max_position_embeddings": 777]) { $1 }).text.contextLength == 777)
    #expect(
      try configuration(none.merging(["max_position_embedding": 778]) { $1 }).text.contextLength == 778)
  }

  @Test("null counts as missing") func nulls() throws {
    let read = try configuration(
      ["rope_scaling": NSNull(), "rope_parameters": NSNull(), "sliding_window": NSNull()],
      root: ["quantization_config": NSNull(), "vision_config": NSNull()])
    #expect(read.quantization == nil && read.vision == nil && read.unread.isEmpty)
  }

  @Test(
    "unsupported settings that change the arithmetic are noted",
    arguments: [
      ("sliding_window", "4096"), ("attention_bias", "true"), ("partial_rotary_factor", "0.5"),
      ("hidden_act", "\"gelu\""), ("scoring_func", "\"sigmoid\""), ("final_logit_softcapping", "30.0"),
      ("layer_types", "[\"sliding_attention\", \"full_attention\"]"), ("routed_scaling_factor", "2.5"),
      ("rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 2, \"long_factor\": [1, 2]}"),
    ])
  func unreadSettings(key: String, value: String) throws {
    let parsed = try JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
    let read = try configuration([key: parsed])
    #expect(read.unread.count == 1, "\(read.unread)")
    let error = #expect(throws: CheckpointError.self) { try read.requireAllRead(path: "x/config.json") }
    #expect(error?.code == .unsupported && error?.path == "x/config.json")
    #expect(error?.message.contains(key == "rope_scaling" ? "rope_scaling.long_factor" : key) == true)
  }

  @Test("the same settings at neutral values are not noted") func neutralSettings() throws {
    let read = try configuration([
      "sliding_window": NSNull(), "attention_bias": false, "partial_rotary_factor": 1.0, "hidden_act": "silu",
      "scoring_func": "softmax", "layer_types": Array(repeating: "full_attention", count: 4),
      "routed_scaling_factor": 1, "router_aux_loss": 0.1, "attention_dropout": 0.0, "use_cache": true,
    ])
    #expect(read.unread.isEmpty)
    #expect(throws: Never.self) { try read.requireAllRead(path: "x") }
  }
}
