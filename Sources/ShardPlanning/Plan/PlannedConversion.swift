public import Checkpoint
public import QuantizationRecipes

/// A plan together with derived data too large to print: the headers of its files, and the importance matrix.
///
/// Headers (a GGUF header holds the whole vocabulary) follow from the same source and options as the plan, which holds
/// their digests.
public struct PlannedConversion: Sendable {
  /// Where every byte goes.
  public let plan: ShardPlan
  /// For each file of the plan, by its path: everything before its tensor data.
  public let headers: [String: [UInt8]]
  /// The matrix that ``ShardPlan/Operation/importance`` names entries of; `nil` without one.
  public let importance: ImportanceMatrix?
  /// The source as the plan refers to it: with derived tensors (stacked experts, merged parts, decoded codes) in
  /// files of their own.
  public let checkpoint: Checkpoint
  /// Which rules of the recipe decided, by the tensors' names in GGUF: indices into ``Recipe/rules``. Empty for a
  /// stored plan.
  package var rules: [String: Int] = [:]

  /// The same conversion, reading its source through others: recording ones, for example.
  package func reading(_ checkpoint: Checkpoint) -> PlannedConversion {
    PlannedConversion(
      plan: plan, headers: headers, importance: importance, checkpoint: checkpoint, rules: rules)
  }
}
