import Checkpoint
import CheckpointTesting
import Conversion
import QuantizationRecipes
import ShardPlanning

/// Converts a fixture with the library, for the tool to look at.
func convert(
  _ fixture: String, to format: Checkpoint.Format, recipe: String = "keep",
  scope: SchemeRecipe.Scope? = nil, partition: ShardPlan.Partition = .none, into output: String
) async throws {
  try await convert(
    path: Fixtures.path("checkpoints/\(fixture)"), to: format, recipe: recipe, scope: scope,
    partition: partition, into: output)
}

/// Converts what is at a path.
func convert(
  path: String, to format: Checkpoint.Format, recipe: String = "keep", scope: SchemeRecipe.Scope? = nil,
  partition: ShardPlan.Partition = .none, into output: String
) async throws {
  let source = try Checkpoint.open(path)
  let plan = try ShardPlanner.plan(
    source, request: ShardPlan.Request(format: format, recipe: recipe, partition: partition),
    recipe: Recipe.named(recipe, for: format == .gguf ? .gguf : .safetensors, scope: scope))
  _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(into: output)
}
