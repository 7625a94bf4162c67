import CommandSupport
import ShardPlanning
import TensorFormats

/// Where an output differs from what was requested, or lacks something: users should not have to learn it from an
/// engine.
struct PlanNotes: Encodable {
  let fallbacks: [ShardPlan.Fallback]
  let absorbed: [ShardPlan.Absorption]
  let excluded: [ShardPlan.Exclusion]
  let omissions: [ShardPlan.Omission]
  /// Tensors that could have been weighted, but are not in the importance matrix.
  let unweighted: [String]
  let warnings: [String]
  /// Tensors that were not read from disk as they are: renamed, stacked, merged or decoded ones.
  let derived: [ShardPlan.DerivedTensor]
  private let importance: ShardPlan.Importance?

  private enum CodingKeys: CodingKey {
    case fallbacks, absorbed, excluded, omissions, unweighted, warnings, derived
  }

  init(_ plan: ShardPlan) {
    fallbacks = plan.fallbacks
    absorbed = plan.absorbed
    excluded = plan.excluded
    omissions = plan.omissions
    unweighted = plan.importance?.unweighted ?? []
    warnings = plan.warnings
    derived = plan.source.derived
    importance = plan.importance
  }

  /// Refuses a plan that has any unrequested notes.
  ///
  /// - Throws: `.invalidRequest` with the first of it.
  func requireNone() throws(CheckpointError) {
    let first =
      fallbacks.first.map { "\($0.tensor.printable) would be \($0.stored), not \($0.wanted): \($0.reason)" }
      ?? omissions.first.map { "the output would lack \($0.what.printable): \($0.reason)" }
      ?? unweighted.first.map { "\($0.printable) would be encoded without importance weights" }
      ?? warnings.first
    guard let first else { return }
    throw CheckpointError(
      .invalidRequest, "--strict: \(first)", remedy: "step3-convert plan lists everything")
  }

  // MARK: - For people

  /// Names that share one note.
  struct Group {
    let reason: String?
    var names: [String]

    /// One group for each reason, in the order of the reasons.
    static func grouping<Item>(_ items: [Item], by key: (Item) -> (reason: String, name: String)) -> [Group] {
      var groups: [String: Group] = [:]
      for item in items {
        let (reason, name) = key(item)
        groups[reason, default: Group(reason: reason, names: [])].names.append(name)
      }
      return groups.sorted { $0.key < $1.key }.map(\.value)
    }

    var text: String {
      guard let first = names.first else { return reason ?? "" }
      let examples = names.count == 1 ? first.printable : "\(names.count): \(first.printable), ..."
      return reason.map { "\($0) (\(examples))" } ?? examples
    }
  }

  /// A section of a plan: a title and a line for each group; empty without groups.
  static func section(_ title: String, _ groups: [Group], width: Int) -> String {
    groups.isEmpty ? "" : "\n\(title):\n" + groups.map { wrapped($0.text, width: width) }.joined()
  }

  /// All notes in sections.
  func text(width: Int) -> String {
    var text = Self.section(
      "Not stored as the recipe asked",
      Group.grouping(fallbacks) { ("\($0.wanted) -> \($0.stored): \($0.reason)", $0.tensor) }, width: width)
    text += Self.section(
      "Made from other tensors during the conversion", Group.grouping(derived) { ($0.operation, $0.tensor) },
      width: width)
    text += Self.section(
      "Not stored on their own", Group.grouping(absorbed) { ($0.reason, $0.tensor) }, width: width)
    text += Self.section(
      "Left out", Group.grouping(excluded) { ("--exclude \($0.pattern.printable)", $0.tensor) }, width: width)
    text += Self.section(
      "Not in the output", Group.grouping(omissions) { ($0.reason, $0.what) }, width: width)
    if let importance {
      var groups = [
        Group(reason: "\(importance.weighted) tensors are encoded with weights from it", names: [])
      ]
      if !unweighted.isEmpty { groups.append(Group(reason: "without weights", names: unweighted)) }
      text += Self.section("Importance matrix \(importance.file.printable)", groups, width: width)
    }
    return text
  }

  /// Wrapped and indented lines; a word longer than a line is not broken.
  static func wrapped(_ sentence: String, width: Int) -> String {
    "  \(sentence)".wrapped(to: width) + "\n"
  }
}
