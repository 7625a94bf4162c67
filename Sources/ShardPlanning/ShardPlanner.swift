internal import ByteStreams
public import Checkpoint
internal import GGUF
public import QuantizationRecipes
internal import Step3Model
public import TensorFormats

/// Makes plans.
public enum ShardPlanner {
  /// Plans a conversion from the headers of `checkpoint`, its configuration, the recipe and the request.
  ///
  /// - Parameter importance: The importance matrix to encode with, if any.
  /// - Returns: The plan and the headers of its files. The same arguments always give the same plan.
  /// - Throws: `.invalidRequest` for what does not fit together, `.unsupported` for what the target format cannot
  ///   hold or needs knowledge of another model, `.malformed` for a broken configuration.
  /// - Complexity: O(*n* log *n*) in the number of output tensors; reads no weights.
  public static func plan(
    _ checkpoint: Checkpoint, request: ShardPlan.Request, recipe: Recipe, importance: ImportanceFile? = nil
  ) throws(CheckpointError) -> PlannedConversion {
    guard checkpoint.parts.isEmpty else {
      throw CheckpointError(
        .unsupported, "this is a partition set of \(checkpoint.parts.count) parts", path: checkpoint.path,
        remedy: "convert the checkpoint it was made from, or one of its parts")
    }
    let model = try SourceModel(checkpoint, router: request.router)
    try model.check(request)
    let placement = try Placement(
      model.tensors, partition: request.partition, headCount: model.step3?.text.headCount ?? 0)
    let choice = FormatChoice(
      recipe: recipe, container: Container(request.format),
      sourceContainer: Container(checkpoint.format), layerCount: model.layerCount,
      expertCount: model.expertCount, importance: importance?.matrix, scaleSearch: request.scaleSearch)
    let decisions = try choice.decide(placement.tensors, hasTiedEmbedding: model.hasTiedEmbedding)
    let outputs = try OutputTensors(
      decisions.tensors, parts: placement.parts.count, of: model, format: request.format)
    let tokenizer = try model.tokenizer(for: request).tokenizer
    var headers: [String: [UInt8]] = [:]
    var parts = placement.parts
    let placed = Dictionary(grouping: decisions.tensors, by: \.part)
    var amendments: [ShardPlan.Amendment] = []
    for index in parts.indices {
      let amended = try OutputPart(
        model: model, request: request, tokenizer: tokenizer, weights: placed[index] ?? [],
        tensors: outputs.parts[index]
      ).fill(&parts[index], headers: &headers)
      for amendment in amended where !amendments.contains(amendment) { amendments.append(amendment) }
    }
    let plan = ShardPlan(
      tool: toolkitVersion, source: try describe(checkpoint, model), request: request, parts: parts,
      replicated: outputs.withScales(placement.replicated), fallbacks: decisions.fallbacks,
      absorbed: outputs.absorbed, scaleGroups: outputs.scaleGroups, amendments: amendments,
      importance: importance?.described(for: decisions.tensors, unweighted: decisions.unweighted))
    try plan.checkCoverage(of: checkpoint)
    return PlannedConversion(plan: plan, headers: headers, importance: importance?.matrix)
  }

  private static func describe(
    _ checkpoint: Checkpoint, _ model: SourceModel
  ) throws(CheckpointError) -> ShardPlan.Source {
    var files: [ShardPlan.SourceFile] = []
    for file in checkpoint.files {
      let header = try file.source.readBytes(0..<file.dataOffset)
      files.append(
        ShardPlan.SourceFile(
          path: file.name, bytes: file.source.byteCount, dataOffset: file.dataOffset,
          headerXXH3: digest(of: header)))
    }
    return ShardPlan.Source(
      format: checkpoint.format, architecture: checkpoint.architecture, files: files,
      tensorCount: checkpoint.tensors.count)
  }
}

extension Container {
  init(_ format: Checkpoint.Format) {
    self =
      switch format {
      case .safetensors: .safetensors
      case .gguf: .gguf
      }
  }
}
