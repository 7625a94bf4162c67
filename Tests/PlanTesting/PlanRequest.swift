public import Checkpoint
public import Quantization
public import QuantizationRecipes
public import ShardPlanning

/// A test's request to the planner, without the source.
public struct PlanRequest: Sendable {
  public var format: Checkpoint.Format
  public var recipe: String
  public var partition: ShardPlan.Partition
  public var maximumShardBytes: Int?
  public var scope: SchemeRecipe.Scope?
  public var scaleSearch: ScaleSearch?
  public var allowNonFinite: Bool

  public init(
    format: Checkpoint.Format = .safetensors, recipe: String = "keep",
    partition: ShardPlan.Partition = .none, maximumShardBytes: Int? = nil, scope: SchemeRecipe.Scope? = nil,
    scaleSearch: ScaleSearch? = nil, allowNonFinite: Bool = false
  ) {
    self.format = format
    self.recipe = recipe
    self.partition = partition
    self.maximumShardBytes = maximumShardBytes
    self.scope = scope
    self.scaleSearch = scaleSearch
    self.allowNonFinite = allowNonFinite
  }

  /// Plans a conversion of the checkpoint at a path.
  public func plan(_ source: String) throws -> PlannedConversion {
    try ShardPlanner.plan(
      Checkpoint.open(source),
      request: ShardPlan.Request(
        format: format, recipe: recipe, partition: partition, maximumShardBytes: maximumShardBytes,
        scaleSearch: scaleSearch, allowNonFinite: allowNonFinite),
      recipe: Recipe.named(recipe, for: format == .gguf ? .gguf : .safetensors, scope: scope))
  }
}
