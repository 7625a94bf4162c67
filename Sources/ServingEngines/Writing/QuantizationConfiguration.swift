internal import JSON
internal import Quantization

/// The text of `quantization_config`, which tells vLLM and SGLang how a checkpoint's weights are stored.
///
/// Source: what the loaders of vLLM 0.33 and SGLang 0.5.23 read for each `quant_method`.
package struct QuantizationConfiguration {
  private let modules: QuantizedModules

  /// Describes what is quantised, and what is not.
  package init(_ modules: QuantizedModules) { self.modules = modules }

  /// The object, as a member of the configuration's outermost object.
  package var text: String {
    switch modules.scheme.method {
    case .fp8: fp8
    case .compressedTensors: compressedTensors
    case .modelOpt: modelOpt
    case .mxfp4: "{\n    \"quant_method\": \"mxfp4\"\n  }"
    case .w8a8Int8: w8a8Int8
    }
  }

  /// `activation_scheme` is required.
  private var fp8: String {
    var lines = [
      #""quant_method": "fp8""#, #""activation_scheme": "dynamic""#, #""fmt": "e4m3""#,
    ]
    if case .fp8Block(let rows, let columns) = modules.scheme.scheme {
      lines.append(#""weight_block_size": [\#(rows), \#(columns)]"#)
    }
    lines.append(#""modules_to_not_convert": \#(list(modules.plainNames))"#)
    return object(lines)
  }

  /// Activations are left in BF16. vLLM matches module names or parts of them; SGLang whole names and `*`.
  private var modelOpt: String {
    object([
      #""quant_method": "modelopt""#, #""quant_algo": "W4A16_NVFP4""#, #""group_size": 16"#,
      #""ignore": \#(list(modules.plainNames + modules.visionWildcards))"#,
    ])
  }

  private var w8a8Int8: String {
    object([
      #""quant_method": "w8a8_int8""#, #""is_dynamic": true"#,
      #""ignore": \#(list(modules.plainPatterns))"#,
    ])
  }

  private var compressedTensors: String {
    let (format, weights, activations) = description
    let group = """
      {
            "targets": ["Linear"],
            "input_activations": \(activations),
            "output_activations": null,
            "format": "\(format)",
            "weights": \(weights)
          }
      """
    return object([
      #""quant_method": "compressed-tensors""#, #""format": "\#(format)""#,
      #""quantization_status": "compressed""#, #""kv_cache_scheme": null"#,
      #""ignore": \#(list(modules.plainPatterns))"#,
      "\"config_groups\": {\n      \"group_0\": \(group)\n    }",
    ])
  }

  /// The format's name, and the treatment of weights and activations.
  private var description: (format: String, weights: String, activations: String) {
    func weights(_ bits: Int, _ type: String, _ rest: String) -> String {
      #"{"num_bits": \#(bits), "type": "\#(type)", "symmetric": true, \#(rest), "dynamic": false}"#
    }
    func tokens(_ type: String) -> String {
      #"{"num_bits": 8, "type": "\#(type)", "symmetric": true, "strategy": "token", "dynamic": true}"#
    }
    switch modules.scheme.scheme {
    case .fp8Channel:
      return ("float-quantized", weights(8, "float", #""strategy": "channel""#), tokens("float"))
    case .fp8Block(let rows, let columns):
      let activations =
        #"{"num_bits": 8, "type": "float", "symmetric": true, "strategy": "group", "group_size": \#(columns), "#
        + #""dynamic": true}"#
      let structure = #""strategy": "block", "block_structure": [\#(rows), \#(columns)]"#
      return ("float-quantized", weights(8, "float", structure), activations)
    case .int8Channel:
      return ("int-quantized", weights(8, "int", #""strategy": "channel""#), tokens("int"))
    case .int4Group(let length):
      let groups = #""strategy": "group", "group_size": \#(length), "actorder": null"#
      return ("pack-quantized", weights(4, "int", groups), "null")
    case .nvfp4:
      let groups =
        #""strategy": "tensor_group", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn""#
      return ("nvfp4-pack-quantized", weights(4, "float", groups), "null")
    case .mxfp4:
      let groups = #""strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8""#
      return ("mxfp4-pack-quantized", weights(4, "float", groups), "null")
    }
  }

  // MARK: - Layout

  private func object(_ lines: [String]) -> String {
    "{\n" + lines.map { "    \($0)" }.joined(separator: ",\n") + "\n  }"
  }

  private func list(_ names: [String]) -> String {
    if names.isEmpty { return "[]" }
    return "[\n" + names.map { "      \(JSONText.quoted($0))" }.joined(separator: ",\n") + "\n    ]"
  }
}
