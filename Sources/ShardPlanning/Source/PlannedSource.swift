internal import Checkpoint
internal import StoredWeights
internal import QuantizationRecipes
internal import ServingEngines
internal import Step3Model
internal import TensorFormats

/// The source of a plan: partition sets merged, exclusions applied, with its model if needed.
struct PlannedSource {
  let model: SourceModel
  let exclusions: Exclusions
  /// The tensors that were left out.
  let excluded: [ShardPlan.Exclusion]
  /// What the source has and no output gets.
  private(set) var omissions: [ShardPlan.Omission] = []
  /// Warnings about a source that is only copied.
  private(set) var warnings: [String] = []

  /// - Throws: `.invalidRequest` for a pattern that leaves nothing out, and what merging and interpreting the source
  ///   throw.
  init(
    _ checkpoint: Checkpoint, _ request: ShardPlan.Request, _ recipe: Recipe
  ) throws(CheckpointError) {
    let whole = try Whole(checkpoint)
    let isCopy =
      recipe.isCopy && request.format == checkpoint.format && request.partition == .none
      && !request.publishedNames && whole.isQuantizationStated
    try self.init(whole, request, isRaw: isCopy)
    if isCopy { try warn(request) }
  }

  /// Brings the source of a stored plan into the form that the plan refers to.
  ///
  /// - Throws: What merging and interpreting the source throw.
  init(_ checkpoint: Checkpoint, reopening plan: ShardPlan) throws(CheckpointError) {
    try self.init(Whole(checkpoint), plan.request, isRaw: plan.source.isRaw)
  }

  private init(_ whole: Whole, _ request: ShardPlan.Request, isRaw: Bool) throws(CheckpointError) {
    exclusions = try Exclusions(request.exclude)
    let kept: Checkpoint
    (kept, excluded) = try exclusions.apply(to: whole.checkpoint)
    model =
      isRaw
      ? SourceModel(raw: kept, sideDirectory: whole.sideDirectory)
      : try SourceModel(
        kept, writtenAs: request.format, router: request.router, sideDirectory: whole.sideDirectory,
        isQuantizationStated: whole.isQuantizationStated)
  }

  /// A checkpoint as one model.
  private struct Whole {
    let checkpoint: Checkpoint
    /// Where the files beside the weights are, below the source's directory; empty for there.
    let sideDirectory: String
    let isQuantizationStated: Bool

    init(_ opened: Checkpoint) throws(CheckpointError) {
      guard !opened.parts.isEmpty else {
        (checkpoint, sideDirectory, isQuantizationStated) = (opened, "", true)
        return
      }
      let merged = try MergedPartition(opened)
      (checkpoint, sideDirectory) = (merged.checkpoint, merged.textPart)
      isQuantizationStated = merged.isQuantizationStated
    }
  }

  /// A copy requires no interpretation, but users who copy a Step-3 want to know what is wrong with it.
  private mutating func warn(_ request: ShardPlan.Request) throws(CheckpointError) {
    let (source, sideDirectory) = (model.checkpoint, model.sideDirectory)
    do throws(CheckpointError) {
      guard let configuration = try Step3Configuration(of: source) else { return }
      let model = try SourceModel(
        source, writtenAs: source.format, router: request.router, sideDirectory: sideDirectory)
      let completeness = try Completeness(model) { [exclusions] name throws(CheckpointError) in
        try exclusions.pattern(for: name) != nil
      }
      if let warning = completeness.warning { warnings.append(warning) }
      let isStacked = model.checkpoint.files.contains {
        $0.derivations.contains { $0.operation == "stacked" }
      }
      if isStacked || !model.checkpoint.namesOnDisk.isEmpty {
        warnings.append(
          "this \(configuration.family.name) is not stored under its published names, and neither is a copy of it; --published-names "
            + "restores them, with experts stacked")
      }
    } catch {
      warnings.append("copied as it is, but not understood: \(error)")
    }
  }
}
