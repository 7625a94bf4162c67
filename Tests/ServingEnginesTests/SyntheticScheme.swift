/// The schemes of the engines' loaders, written down a second time: tests must not trust the module's own table.
enum SyntheticScheme: String, CaseIterable {
  case bf16, fp8Block, fp8Tensor, fp8Dynamic, fp8BlockCT, int8CT, int8SGLang, w4a16, w4a16Asymmetric
  case nvfp4A16, nvfp4W4A4, modelOptA16, modelOptW4A4, mxfp4, fp8WithMXFP4, mxfp4CT, mxfp8, mxfp8SGLang, awq,
    gptq

  /// Whether vLLM and SGLang load it for routed experts.
  var isLoaded: (vllm: Bool, sglang: Bool) {
    switch self {
    case .bf16, .fp8Block, .fp8Tensor, .fp8Dynamic, .fp8BlockCT, .w4a16, .nvfp4A16, .modelOptA16: (true, true)
    case .int8CT, .w4a16Asymmetric, .mxfp4, .fp8WithMXFP4, .mxfp4CT, .mxfp8: (true, false)
    case .int8SGLang, .nvfp4W4A4, .modelOptW4A4, .mxfp8SGLang, .awq, .gptq: (false, true)
    }
  }

  /// Whether q, k and v must be fused for vLLM, because of their per-matrix scales.
  var needsFusedAttention: Bool {
    switch self {
    case .fp8Tensor, .nvfp4A16, .nvfp4W4A4, .modelOptA16, .modelOptW4A4: true
    default: false
    }
  }

  /// A weight tensor's suffix, its type, and its shape without the expert dimension.
  typealias Part = (suffix: String, type: String, shape: [Int])

  /// The tensors of a weight; `isExpert` for a stack, whose leading dimension the caller adds.
  func parts(rows: Int, columns: Int, isExpert: Bool) -> [Part] {
    let scalar = isExpert ? [] : [1]
    let weight: Part = ("weight", "F8_E4M3", [rows, columns])
    switch self {
    case .bf16: return [("weight", "BF16", [rows, columns])]
    case .fp8Block: return [weight, ("weight_scale_inv", "F32", [rows / 128, columns / 128])]
    case .fp8Tensor: return [weight, ("weight_scale", "F32", scalar)]
    case .fp8Dynamic: return [weight, ("weight_scale", "F32", [rows, 1])]
    case .fp8BlockCT: return [weight, ("weight_scale", "F32", [rows / 128, columns / 128])]
    case .int8CT, .int8SGLang:
      return [("weight", "I8", [rows, columns]), ("weight_scale", "F32", [rows, 1])]
    case .w4a16:
      // Optional, and not possible for q, k and v in vLLM: only experts have it.
      return [
        ("weight_packed", "I32", [rows, columns / 8]), ("weight_scale", "BF16", [rows, columns / 128]),
      ]
        + (isExpert ? [("weight_shape", "I64", [2])] : [])
    case .w4a16Asymmetric:
      return [
        ("weight_packed", "I32", [rows, columns / 8]), ("weight_scale", "BF16", [rows, columns / 128]),
        ("weight_zero_point", "I32", [rows / 8, columns / 128]),
      ]
    case .nvfp4A16, .nvfp4W4A4:
      return [
        ("weight_packed", "U8", [rows, columns / 2]), ("weight_scale", "F8_E4M3", [rows, columns / 16]),
        ("weight_global_scale", "F32", scalar),
      ] + (self == .nvfp4W4A4 ? [("input_global_scale", "F32", scalar)] : [])
    case .modelOptA16, .modelOptW4A4:
      return [
        ("weight", "U8", [rows, columns / 2]), ("weight_scale", "F8_E4M3", [rows, columns / 16]),
        ("weight_scale_2", "F32", scalar),
      ] + (self == .modelOptW4A4 ? [("input_scale", "F32", scalar)] : [])
    case .mxfp4:
      return isExpert ? mxfp4Parts("weight", rows, columns) : [("weight", "BF16", [rows, columns])]
    case .fp8WithMXFP4:
      return isExpert
        ? mxfp4Parts("weight", rows, columns)
        : SyntheticScheme.fp8Block.parts(rows: rows, columns: columns, isExpert: false)
    case .mxfp4CT: return mxfp4Parts("weight_packed", rows, columns)
    case .mxfp8: return [weight, ("weight_scale", "U8", [rows, columns / 32])]
    case .mxfp8SGLang: return [weight, ("weight_scale_inv", "U8", [rows, columns / 32])]
    case .awq:
      return [
        ("qweight", "I32", [columns, rows / 8]), ("qzeros", "I32", [columns / 128, rows / 8]),
        ("scales", "F16", [columns / 128, rows]),
      ]
    case .gptq:
      return [
        ("qweight", "I32", [columns / 8, rows]), ("qzeros", "I32", [columns / 128, rows / 8]),
        ("scales", "F16", [columns / 128, rows]), ("g_idx", "I32", [columns]),
      ]
    }
  }

  private func mxfp4Parts(_ suffix: String, _ rows: Int, _ columns: Int) -> [Part] {
    [(suffix, "U8", [rows, columns / 2]), ("weight_scale", "U8", [rows, columns / 32])]
  }

  // MARK: quantization_config

  /// The text of `quantization_config`, with a list of modules that are not quantised; `nil` for BF16.
  func configuration(expertsOnly: Bool) -> String? {
    let patterns = Self.list(
      expertsOnly
        ? [
          "lm_head", "model.embed_tokens", "re:.*vision_model.*", "re:.*vit_.*", #"re:.*self_attn\\..*"#,
          #"re:.*share_expert\\..*"#, #"re:.*moe\\.gate$"#, #"re:.*layers\\.(0|3)\\.mlp\\..*"#,
        ] : ["lm_head", "re:.*vision_model.*", "re:.*vit_.*"])
    let names = Self.list(expertsOnly ? Self.exactNames : ["lm_head"])
    let parts = Self.list(
      expertsOnly
        ? ["lm_head", "self_attn", "share_expert", "layers.0.mlp", "layers.3.mlp"] : ["lm_head"])
    let wildcards = Self.list(
      expertsOnly
        ? ["lm_head", "*self_attn*", "*share_expert*", "model.layers.0.mlp*", "model.layers.3.mlp*"]
        : ["lm_head"])
    func compressed(_ format: String, _ weights: String, _ activations: String = "null") -> String {
      """
      {"quant_method":"compressed-tensors","format":"\(format)","quantization_status":"compressed","ignore":\(patterns),
       "config_groups":{"group_0":{"targets":["Linear"],"input_activations":\(activations),"output_activations":null,
        "weights":{\(weights),"dynamic":false}}}}
      """
    }
    let group4 = #""num_bits":4,"type":"float","symmetric":true"#
    let eight = #""num_bits":8,"type":"float","symmetric":true"#
    let token = #"{"num_bits":8,"type":"float","symmetric":true,"strategy":"token","dynamic":true}"#
    switch self {
    case .bf16: return nil
    case .fp8Block:
      return
        #"{"quant_method":"fp8","activation_scheme":"dynamic","fmt":"e4m3","weight_block_size":[128,128],"modules_to_not_convert":\#(names)}"#
    case .fp8Tensor:
      return #"{"quant_method":"fp8","activation_scheme":"dynamic","modules_to_not_convert":\#(names)}"#
    case .fp8WithMXFP4:
      return
        #"{"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[128,128],"store_dtype":"mxfp4","modules_to_not_convert":\#(names)}"#
    case .fp8Dynamic: return compressed("float-quantized", #"\#(eight),"strategy":"channel""#, token)
    case .fp8BlockCT:
      return compressed(
        "float-quantized", #"\#(eight),"strategy":"block","block_structure":[128,128]"#,
        #"{"num_bits":8,"type":"float","strategy":"group","group_size":128,"symmetric":true,"dynamic":true}"#)
    case .int8CT:
      return compressed(
        "int-quantized", #""num_bits":8,"type":"int","strategy":"channel","symmetric":true"#,
        #"{"num_bits":8,"type":"int","strategy":"token","symmetric":true,"dynamic":true}"#)
    case .int8SGLang: return #"{"quant_method":"w8a8_int8","ignore":\#(patterns)}"#
    case .w4a16, .w4a16Asymmetric:
      return compressed(
        "pack-quantized",
        #""num_bits":4,"type":"int","symmetric":\#(self == .w4a16),"strategy":"group","group_size":128,"actorder":null"#
      )
    case .nvfp4A16, .nvfp4W4A4:
      return compressed(
        "nvfp4-pack-quantized", #"\#(group4),"strategy":"tensor_group","group_size":16"#,
        self == .nvfp4A16
          ? "null"
          : #"{"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16,"dynamic":"local"}"#)
    case .modelOptA16:
      return #"{"quant_method":"modelopt","quant_algo":"W4A16_NVFP4","group_size":16,"ignore":\#(wildcards)}"#
    case .modelOptW4A4:
      return #"{"quant_method":"modelopt","quant_algo":"NVFP4","group_size":16,"ignore":\#(wildcards)}"#
    case .mxfp4: return #"{"quant_method":"mxfp4"}"#
    case .mxfp4CT:
      return compressed(
        "mxfp4-pack-quantized", #"\#(group4),"strategy":"group","group_size":32,"scale_dtype":"torch.uint8""#)
    case .mxfp8, .mxfp8SGLang:
      return #"{"quant_method":"mxfp8","activation_scheme":"dynamic","modules_to_not_convert":\#(names)}"#
    case .awq: return #"{"quant_method":"awq","bits":4,"group_size":128,"modules_to_not_convert":\#(parts)}"#
    case .gptq:
      let dynamic =
        expertsOnly
        ? #","dynamic":{"-:.*self_attn.*":{},"-:.*share_expert.*":{},"-:.*layers\\.(0|3)\\.mlp.*":{},"-:lm_head":{}}"#
        : #","dynamic":{"-:lm_head":{}}"#
      return #"{"quant_method":"gptq","bits":4,"group_size":128,"desc_act":false\#(dynamic)}"#
    }
  }

  private static func list(_ texts: [String]) -> String {
    "[" + texts.map { "\"\($0)\"" }.joined(separator: ",") + "]"
  }

  /// Every linear layer but the experts, under fused and unfused names.
  static var exactNames: [String] {
    var names = ["lm_head"]
    for layer in 0..<4 {
      let prefix = "model.layers.\(layer)"
      names += ["qkv_proj", "q_proj", "k_proj", "v_proj", "wq", "o_proj"].map { "\(prefix).self_attn.\($0)" }
      let parent = layer == 0 || layer == 3 ? "mlp" : "share_expert"
      names += ["gate_up_proj", "gate_proj", "up_proj", "down_proj"].map { "\(prefix).\(parent).\($0)" }
    }
    return names
  }
}
