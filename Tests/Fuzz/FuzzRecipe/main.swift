import ByteStreams
import Checkpoint
import Foundation
import FuzzSupport
import QuantizationRecipes
import TensorFormats

/// Tensors of each kind that recipes distinguish.
let subjects: [RecipeSubject] = [
  RecipeSubject(
    name: "model.layers.4.moe.up_proj.weight", otherNames: ["blk.4.ffn_up_exps.weight"], role: .routedExperts,
    layer: 4, layerCount: 61, shape: TensorShape([48, 5120, 7168]), sourceType: .bf16, expertCount: 48),
  RecipeSubject(
    name: "model.layers.0.self_attn.q_proj.weight", otherNames: ["blk.0.attn_q.weight"], role: .attention,
    layer: 0, layerCount: 61, shape: TensorShape([2048, 7168]), sourceType: .bf16, expertCount: 48),
  RecipeSubject(
    name: "model.norm.weight", otherNames: ["output_norm.weight"], role: .norm, layer: nil, layerCount: 61,
    shape: TensorShape([7168]), sourceType: .bf16, expertCount: 48),
  RecipeSubject(
    name: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", role: .other, layer: nil, layerCount: 2,
    shape: TensorShape([33, 7]),
    sourceType: .f32, hasTiedEmbedding: true),
]

/// Any bytes as a recipe file: refused with an error, or a recipe whose decisions are repeatable.
func check(_ text: [UInt8]) {
  guard let recipe = try? Recipe(file: MemorySource(text)) else { return }
  for subject in subjects {
    for container in [Checkpoint.Format.gguf, .safetensors] {
      guard let decision = try? recipe.decide(subject, in: container) else { continue }
      require((decision.rule == nil) == (decision.keptPrecise != nil), "nobody decided")
      require(decision.rule.map(recipe.rules.indices.contains) ?? true, "a rule that is not there decided")
      require((decision.format != decision.wanted) == (decision.reason != nil), "a fallback without a reason")
    }
  }
  // Patterns share one budget of steps, so the recipe is parsed again.
  let again = try? Recipe(file: MemorySource(text))
  require(
    again?.rules.count == recipe.rules.count && again?.name == recipe.name, "it reads differently again")
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
