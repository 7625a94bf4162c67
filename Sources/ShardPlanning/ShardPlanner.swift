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
  /// - Parameters:
  ///   - checkpoint: The source.
  ///   - request: What is asked for.
  ///   - recipe: Decides the format of each weight.
  ///   - importance: The importance matrix to encode with, if any.
  /// - Returns: The plan and the headers of its files. The same arguments always give the same plan.
  /// - Throws: `.invalidRequest` for a contradictory request, `.unsupported` for what the target format cannot hold or
  ///   what needs knowledge of another model, `.malformed` for a broken configuration. Errors in the source name its
  ///   file.
  /// - Complexity: O(*n* log *n*) in the number of output tensors; reads no weights.
  public static func plan(
    _ checkpoint: Checkpoint, request: ShardPlan.Request, recipe: Recipe, importance: ImportanceFile? = nil
  ) throws(CheckpointError) -> PlannedConversion {
    do throws(CheckpointError) {
      return try plan(PlannedSource(checkpoint, request, recipe), request, recipe, importance)
    } catch {
      // No file is at fault for a bad request.
      throw error.code == .invalidRequest && error.tensor == nil ? error : checkpoint.locating(error)
    }
  }

  private static func plan(
    _ source: PlannedSource, _ request: ShardPlan.Request, _ recipe: Recipe, _ importance: ImportanceFile?
  ) throws(CheckpointError) -> PlannedConversion {
    let model = source.model
    let checkpoint = model.checkpoint
    try model.check(request)
    if model.step3 == nil, !model.isRaw {
      try recipe.requireNoKnownModel(called: checkpoint.architecture)
    }
    let completeness = try Completeness(model) { name throws(CheckpointError) in
      try source.exclusions.pattern(for: name) != nil
    }
    if request.partition != .none {
      try completeness.require("cut for attention and FFN", path: checkpoint.path)
    } else if request.format == .gguf {
      try completeness.require("written as GGUF", path: checkpoint.path)
    }
    let (tensors, dropped) = try ObsoleteScales.beforeCutting(model.tensors, request, recipe)
    let placement = try Placement(
      tensors, partition: request.partition,
      headCount: model.step3.map { $0.text.dividedHeads(of: $0.family) } ?? 0)
    let choice = FormatChoice(
      recipe: recipe, container: request.format,
      sourceContainer: checkpoint.format, layerCount: model.layerCount,
      expertCount: model.expertCount, importance: importance?.matrix, scaleSearch: request.scaleSearch)
    var decisions = try choice.decide(placement.tensors, hasTiedEmbedding: model.hasTiedEmbedding)
    if let importance, !decisions.isCovered {
      throw CheckpointError(
        .invalidRequest,
        "the importance matrix \(importance.name.printable) covers none of the tensors",
        path: checkpoint.path, remedy: "give the one measured on this model")
    }
    let obsolete = ObsoleteScales(&decisions.tensors)
    let outputs = try OutputTensors(
      decisions.tensors, parts: placement.parts.count, of: model, format: request.format)
    let (tokenizer, notes) = try model.tokenizer(for: request)
    var headers: [String: [UInt8]] = [:]
    var parts = placement.parts
    let placed = Dictionary(grouping: decisions.tensors, by: \.part)
    var amendments: [ShardPlan.Amendment] = []
    var omissions = source.omissions + notes.map { ShardPlan.Omission(what: $0.what, reason: $0.reason) }
    for index in parts.indices {
      let filled = try OutputPart(
        model: model, request: request, tokenizer: tokenizer, weights: placed[index] ?? [],
        tensors: outputs.parts[index]
      ).fill(&parts[index], headers: &headers)
      for amendment in filled.amendments where !amendments.contains(amendment) {
        amendments.append(amendment)
      }
      for omission in filled.omissions where !omissions.contains(omission) { omissions.append(omission) }
    }
    var plan = ShardPlan(
      tool: toolkitVersion, source: try describe(model.checkpoint, isRaw: model.isRaw), request: request,
      parts: parts,
      replicated: outputs.withScales(placement.replicated), fallbacks: decisions.fallbacks,
      absorbed: (outputs.absorbed + obsolete.absorbed + dropped).sorted { $0.tensor < $1.tensor },
      excluded: source.excluded, omissions: omissions, scaleGroups: outputs.scaleGroups,
      amendments: amendments,
      importance: importance?.described(for: decisions.tensors, unweighted: decisions.unweighted))
    plan.warnings = source.warnings
    if let warning = completeness.warning { plan.warnings.append(warning) }
    try plan.checkCoverage(of: model.checkpoint)
    try checkReadable(plan, model.checkpoint)
    return PlannedConversion(
      plan: plan, headers: headers, importance: importance?.matrix, checkpoint: model.checkpoint,
      rules: decisions.rules)
  }

  /// A source may be sound and stranger than any plan that is read back, such as one with a dimension of 2^62 beside one of
  /// 0. Better not to begin than to write what `checksums` then refuses.
  ///
  /// - Throws: `.unsupported` with the tensor.
  private static func checkReadable(_ plan: ShardPlan, _ checkpoint: Checkpoint) throws(CheckpointError) {
    do throws(CheckpointError) {
      try PlanCheck(plan).run()
    } catch {
      throw CheckpointError(
        .unsupported, "cannot be written so that it can be read back: \(error.message)",
        path: checkpoint.path,
        tensor: error.tensor, remedy: "leave such tensors out with --exclude")
    }
  }

  static func describe(
    _ checkpoint: Checkpoint, isRaw: Bool
  ) throws(CheckpointError) -> ShardPlan.Source {
    var files: [ShardPlan.SourceFile] = []
    var derived = checkpoint.namesOnDisk.sorted { $0.key.precedesBytewise($1.key) }.map {
      ShardPlan.DerivedTensor(tensor: $0.key, operation: "renamed", origins: [$0.value])
    }
    let inUse = Set(checkpoint.tensors.map(\.name))
    for file in checkpoint.files {
      let header = try file.source.readBytes(0..<file.dataOffset)
      var position = 0
      var origins: [ShardPlan.SourceFile.Origin] = []
      for derivation in file.derivations {
        origins.append(
          ShardPlan.SourceFile.Origin(
            offset: position, file: derivation.lastOrigin.file, end: derivation.lastOrigin.end))
        position += derivation.bytes
      }
      derived += file.derivations.compactMap { derivation in
        guard inUse.contains(derivation.name) else { return nil }
        return ShardPlan.DerivedTensor(
          tensor: derivation.name, operation: derivation.operation, origins: derivation.origins)
      }
      files.append(
        ShardPlan.SourceFile(
          path: file.name, bytes: file.source.byteCount, dataOffset: file.dataOffset,
          headerXXH3: digest(of: header), isDerived: file.isDerived, origins: origins))
    }
    return ShardPlan.Source(
      format: checkpoint.format, architecture: checkpoint.architecture, files: files,
      tensorCount: checkpoint.tensors.count, derived: derived, isRaw: isRaw,
      configurationXXH3: checkpoint.configurationDocument.map { digest(of: $0.text) })
  }
}
