/// The kinds of JSON documents that the tools print, each described by a schema in `Manuals/schema`.
///
/// A document names its kind in its first member, `schema`, whose value is the `$id` of that schema; if a document is
/// an array, each of its elements does. Adding, changing or removing a member raises the version of the kind.
public enum DocumentKind: String, Sendable, CaseIterable {
  case list
  case stats
  case diff
  case metadata
  case report
  case plan
  case memoryPlan = "memory-plan"
  case deploymentPlan = "deployment-plan"
  case conversion
  case share
  case calibration
  case recipe
  case archive
  case restore
  case sign
  case checksums
  case signature
  case tensors
  case logits
  case run
  case engine
  case all
  case error

  /// The version of its schema; for plans, the version of the plan format.
  public var version: Int { self == .plan ? 4 : 1 }

  /// The `$id` of its schema: `urn:step3-toolkit:list:1`.
  public var identifier: String { "urn:step3-toolkit:\(rawValue):\(version)" }
}
