import Checkpoint
import CheckpointTesting
import Conversion
import PlanTesting
import QuantizationRecipes
import ShardPlanning

/// Converts a fixture with the library, as input for the tool.
func convert(
  _ fixture: String, to format: Checkpoint.Format, recipe: String = "keep",
  scope: SchemeRecipe.Scope? = nil, partition: ShardPlan.Partition = .none, into output: String
) async throws {
  try await convert(
    path: Fixtures.path("checkpoints/\(fixture)"), to: format, recipe: recipe, scope: scope,
    partition: partition, into: output)
}

/// Converts the checkpoint at a path.
func convert(
  path: String, to format: Checkpoint.Format, recipe: String = "keep", scope: SchemeRecipe.Scope? = nil,
  partition: ShardPlan.Partition = .none, into output: String
) async throws {
  let plan = try PlanRequest(format: format, recipe: recipe, partition: partition, scope: scope).plan(path)
  _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(into: output)
}
