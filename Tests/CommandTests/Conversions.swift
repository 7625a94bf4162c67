import Checkpoint
import CheckpointTesting
import Conversion
import QuantizationRecipes
import ShardPlanning

/// Converts a fixture with the library, for the tool to look at.
func convert(
  _ fixture: String, to format: Checkpoint.Format, recipe: String = "keep",
  partition: ShardPlan.Partition = .none, into output: String
) async throws {
  let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
  let plan = try ShardPlanner.plan(
    source, request: ShardPlan.Request(format: format, recipe: recipe, partition: partition),
    recipe: Recipe.named(recipe))
  _ = try await Conversion(source, plan, options: ConversionOptions(threads: 2)).run(into: output)
}
