import Checkpoint
import QuantizationRecipes
import TensorFormats

/// A model's tensors as recipes see them, without data.
struct Inventory {
  var subjects: [RecipeSubject] = []
  var layerCount: Int
  var expertCount: Int
  var sourceType: ElementType = .bf16

  mutating func add(
    _ name: String, _ role: TensorRole, _ dimensions: [Int], layer: Int? = nil, gguf: String? = nil,
    type: ElementType? = nil
  ) {
    subjects.append(
      RecipeSubject(
        name: name, otherNames: gguf.map { [$0] } ?? [], role: role, layer: layer, layerCount: layerCount,
        shape: TensorShape(dimensions), sourceType: type ?? sourceType, expertCount: expertCount))
  }

  /// Finds a tensor by name.
  subscript(name: String) -> RecipeSubject? { subjects.first { $0.name == name } }
}

extension Inventory {
  /// Widths of a Step-3 language model.
  struct Widths {
    var hidden: Int
    var query: Int
    var heads: Int
    var keyValue: Int
    var dense: Int
    var expert: Int
    var shared: Int
    var experts: Int
    var vocabulary: Int
  }

  /// The published Step-3, all 320,969,912,832 parameters.
  static let step3: Inventory = {
    let widths = Widths(
      hidden: 7168, query: 2048, heads: 16384, keyValue: 256, dense: 18432, expert: 5120, shared: 5120,
      experts: 48,
      vocabulary: 128_815)
    var inventory = language(widths, layers: 61, denseLayers: [0, 1, 2, 3, 60])
    inventory.addVision(width: 1792, feedForward: 15360, layers: 63, positions: 2705)
    inventory.add("vit_downsampler.weight", .vision, [4096, 1792, 2, 2])
    inventory.add("vit_downsampler.bias", .vision, [4096])
    inventory.add("vit_downsampler2.weight", .vision, [8192, 4096, 3, 3])
    inventory.add("vit_downsampler2.bias", .vision, [8192])
    inventory.add("vit_large_projector.weight", .projector, [7168, 8192])
    return inventory
  }()

  /// The language model of the `odd` fixture, whose rows are not multiples of 256, and some not of 32.
  static let odd = language(
    Widths(
      hidden: 192, query: 96, heads: 240, keyValue: 48, dense: 416, expert: 160, shared: 224, experts: 5,
      vocabulary: 500),
    layers: 3, denseLayers: [1])

  /// The tensors of the language model alone.
  var language: [RecipeSubject] { subjects.filter { $0.role != .vision && $0.role != .projector } }

  static func language(_ widths: Widths, layers: Int, denseLayers: Set<Int>) -> Inventory {
    var inventory = Inventory(layerCount: layers, expertCount: widths.experts)
    inventory.add(
      "model.embed_tokens.weight", .embedding, [widths.vocabulary, widths.hidden], gguf: "token_embd.weight")
    inventory.add("lm_head.weight", .lmHead, [widths.vocabulary, widths.hidden], gguf: "output.weight")
    inventory.add("model.norm.weight", .norm, [widths.hidden], gguf: "output_norm.weight")
    for layer in 0..<layers {
      inventory.addAttention(widths, layer)
      if denseLayers.contains(layer) {
        inventory.addFFN("mlp", .denseFFN, "", [], inner: widths.dense, widths.hidden, layer)
      } else {
        let router = "model.layers.\(layer).moe.gate.weight"
        inventory.add(router, .router, [widths.experts, widths.hidden], layer: layer)
        inventory.addFFN(
          "moe", .routedExperts, "_exps", [widths.experts], inner: widths.expert, widths.hidden, layer)
        inventory.addFFN(
          "share_expert", .sharedExpert, "_shexp", [], inner: widths.shared, widths.hidden, layer)
      }
    }
    return inventory
  }

  private mutating func addAttention(_ widths: Widths, _ layer: Int) {
    let prefix = "model.layers.\(layer)."
    for norm in ["input_layernorm", "post_attention_layernorm"] {
      add("\(prefix)\(norm).weight", .norm, [widths.hidden], layer: layer)
    }
    add("\(prefix)self_attn.inter_norm.weight", .attention, [widths.query], layer: layer)
    let projections = [
      ("q_proj", "attn_q_a", [widths.query, widths.hidden]),
      ("wq", "attn_q_b", [widths.heads, widths.query]),
      ("k_proj", "attn_k", [widths.keyValue, widths.hidden]),
      ("v_proj", "attn_v", [widths.keyValue, widths.hidden]),
      ("o_proj", "attn_output", [widths.hidden, widths.heads]),
    ]
    for (name, gguf, shape) in projections {
      add(
        "\(prefix)self_attn.\(name).weight", .attention, shape, layer: layer,
        gguf: "blk.\(layer).\(gguf).weight")
    }
  }

  private mutating func addFFN(
    _ module: String, _ role: TensorRole, _ suffix: String, _ stack: [Int], inner: Int, _ hidden: Int,
    _ layer: Int
  ) {
    for (name, shape) in [("gate", [inner, hidden]), ("up", [inner, hidden]), ("down", [hidden, inner])] {
      add(
        "model.layers.\(layer).\(module).\(name)_proj.weight", role, stack + shape, layer: layer,
        gguf: "blk.\(layer).ffn_\(name)\(suffix).weight")
    }
  }

  private mutating func addVision(width: Int, feedForward: Int, layers: Int, positions: Int) {
    add("vision_model.embeddings.class_embedding", .vision, [1, width])
    add("vision_model.embeddings.patch_embedding.weight", .vision, [width, 3, 14, 14])
    add("vision_model.embeddings.patch_embedding.bias", .vision, [width])
    add("vision_model.embeddings.position_embedding.weight", .vision, [positions, width])
    for layer in 0..<layers {
      let prefix = "vision_model.transformer.layers.\(layer)."
      for part in ["layer_norm1.weight", "layer_norm1.bias", "layer_norm2.weight", "layer_norm2.bias"] {
        add(prefix + part, .vision, [width])
      }
      let linear = [
        ("self_attn.qkv_proj", 3 * width, width), ("self_attn.out_proj", width, width),
        ("mlp.fc1", feedForward, width), ("mlp.fc2", width, feedForward),
      ]
      for (name, rows, columns) in linear {
        add("\(prefix)\(name).weight", .vision, [rows, columns])
        add("\(prefix)\(name).bias", .vision, [rows])
      }
    }
  }
}
