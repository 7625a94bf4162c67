package import Checkpoint
package import TensorFormats

extension PlannedConversion {
  /// Makes the conversion of a plan that was stored, without planning again.
  ///
  /// - Parameters:
  ///   - plan: Untrusted; the caller checks names.
  ///   - headers: Those of all files, one after the other in the order of the plan.
  ///   - checkpoint: The source, as it was opened.
  ///   - importance: The importance matrix, if the plan has one.
  /// - Throws: `.sourceChanged` if the source is not the one that was planned for, naming the file; `.malformed` or
  ///   `.unsupported` for a plan that contradicts itself or its source, naming what is wrong; `.invalidRequest` for an
  ///   importance matrix that is not the plan's.
  /// - Complexity: O(*n* log *n*) in the number of output tensors; reads no weights.
  package init(
    executing plan: ShardPlan, headers: [UInt8], checkpoint: Checkpoint, importance: ImportanceFile?
  ) throws(CheckpointError) {
    try PlanCheck(plan).run()
    guard plan.tool == toolkitVersion else {
      throw CheckpointError(
        .unsupported,
        "was made by version \(plan.tool.printable) of step3-convert, but this is version \(toolkitVersion)",
        remedy: "plan again with this version, or run it with that one")
    }
    try SourceCheck.checkFiles(of: checkpoint, against: plan.source)
    let source = try PlannedSource(checkpoint, reopening: plan)
    let check = SourceCheck(plan: plan, source: source)
    try check.run()
    try check.check(importance)
    self.init(
      plan: plan, headers: try PlanHeaders(headers, of: plan).byPath, importance: importance?.matrix,
      checkpoint: source.model.checkpoint)
  }
}
