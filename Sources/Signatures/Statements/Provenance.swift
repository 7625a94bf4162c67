package import ByteStreams
internal import Checkpoint
package import Conversion
package import JSON
internal import ShardPlanning
package import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// Where an output came from, as SLSA provenance 1.0: its source files, the request, the plan and the tool version. All
/// of this is also in the manifest; a signed statement can be shown to someone who has neither manifest nor output.
///
/// It contains no time and no host: the same conversion gives the same statement.
package struct Provenance: Hashable, Sendable {
  package static let predicateType = "https://slsa.dev/provenance/v1"
  /// Defines the meaning of ``request`` and the other fields.
  package static let buildType = "urn:step3-toolkit:conversion:v1"
  private static let builder = "urn:step3-toolkit:step3-convert"
  private static let tool = "step3-convert"

  /// Every file that was written, and the manifest.
  package var outputs: [Statement.Resource]
  /// Every weight file that was read.
  package var sources: [Statement.Resource]
  /// The request, as stored in the plan.
  package var request: JSONValue
  /// SHA-256 of the plan as JSON with sorted keys and no whitespace.
  package var plan: Digest
  /// The plan's format version.
  package var planVersion: Int
  /// The tool version that wrote it.
  package var version: String

  /// Creates the provenance recorded in a manifest.
  ///
  /// - Parameter digest: SHA-256 of the manifest's file.
  /// - Throws: `.malformed` if the request cannot be parsed, which does not happen for a valid manifest.
  package init(_ manifest: Manifest, digest: Digest) throws(CheckpointError) {
    func resources(_ records: [Manifest.FileRecord]) -> [Statement.Resource] {
      records.compactMap { record in
        Digest(hexadecimal: record.sha256).map { Statement.Resource(name: record.path, sha256: $0) }
      }
    }
    outputs =
      resources(manifest.files) + [Statement.Resource(name: OutputMarkers.manifest, sha256: digest)]
    sources = resources(manifest.sources)
    request = try JSONValue(parsing: Self.encoded(manifest.plan.request)).sorted
    plan = Digest.sha256(of: Self.encoded(manifest.plan))
    planVersion = manifest.plan.version
    version = manifest.tool
  }

  private static func encoded(_ value: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return Array(try encoder.encode(value))
    } catch {
      preconditionFailure("a plan can always be encoded: \(error)")
    }
  }
}

// MARK: - Statements

extension Provenance {
  /// This as an in-toto statement.
  package var statement: Statement {
    let definition: JSONValue = .object([
      "buildType": .string(Self.buildType),
      "externalParameters": .object(["request": request]),
      "internalParameters": .object(["planVersion": .integer(planVersion)]),
      "resolvedDependencies": .array(sources.map(\.json)),
    ])
    let details: JSONValue = .object([
      "builder": .object([
        "id": .string(Self.builder), "version": .object([Self.tool: .string(version)]),
      ]),
      "byproducts": .array([Statement.Resource(name: "plan", sha256: plan).json]),
    ])
    return Statement(
      subjects: outputs, predicateType: Self.predicateType,
      predicate: .object(["buildDefinition": definition, "runDetails": details]))
  }

  /// Reads a statement created by ``statement``. Additional members are ignored.
  ///
  /// - Throws: `.malformed` if something is missing, `.unsupported` for other predicates and builds.
  package init(_ statement: Statement) throws(CheckpointError) {
    guard statement.predicateType == Self.predicateType else {
      throw CheckpointError(
        .unsupported,
        "signs a statement about something else, '\(statement.predicateType.printable)'; "
          + "\(Self.predicateType) is expected",
        remedy: statement.predicateType == ModelStatement.predicateType
          ? "give the signature of a model with --signature" : nil)
    }
    let definition = statement.predicate["buildDefinition"]
    guard definition?["buildType"]?.text == Self.buildType else {
      throw CheckpointError(
        .unsupported,
        "is the provenance of another kind of build, \(definition?["buildType"]?.kind ?? "which it does not name")"
      )
    }
    let details = statement.predicate["runDetails"]
    guard let request = definition?["externalParameters"]?["request"], request.members != nil,
      let planVersion = definition?["internalParameters"]?["planVersion"]?.whole,
      let sources = definition?["resolvedDependencies"]?.items,
      let version = details?["builder"]?["version"]?[Self.tool]?.text,
      let byproducts = details?["byproducts"]?.items,
      let plan = byproducts.first(where: { $0["name"]?.text == "plan" })
    else { throw Statement.fault("it lacks the request, its dependencies, its builder or the plan") }
    outputs = statement.subjects
    self.request = request.sorted
    self.planVersion = planVersion
    self.version = version
    self.sources = try sources.map { (item) throws(CheckpointError) in
      try Statement.Resource(item, "a dependency")
    }
    self.plan = try Statement.Resource(plan, "the plan").sha256
  }
}

// MARK: - Comparing

extension Provenance {
  /// The differences between this and the manifest's provenance, each in a few words.
  package func differences(from other: Provenance) -> [String] {
    var differences =
      Self.differences(outputs, other.outputs, "output file")
      + Self.differences(sources, other.sources, "source file")
    if version != other.version {
      differences.append(
        "was made by version \(version.printable), the manifest says \(other.version.printable)")
    }
    if request != other.request { differences.append("the request is not the one in the manifest") }
    if plan != other.plan || planVersion != other.planVersion {
      differences.append(
        "the plan is not the one in the manifest: SHA-256 \(plan), the manifest has \(other.plan)")
    }
    return differences
  }

  private static func differences(
    _ own: [Statement.Resource], _ others: [Statement.Resource], _ what: String
  ) -> [String] {
    guard own != others else { return [] }
    let stated = Dictionary(own.map { (Bytewise(text: $0.name), $0.sha256) }) { first, _ in first }
    let recorded = Dictionary(others.map { (Bytewise(text: $0.name), $0.sha256) }) { first, _ in first }
    var result: [String] = []
    for resource in others {
      let name = resource.name.printable
      switch stated[Bytewise(text: resource.name)] {
      case nil: result.append("the \(what) \(name) is missing")
      case resource.sha256?: break
      case let digest?:
        result.append("the \(what) \(name) has SHA-256 \(digest), \(resource.sha256) in the manifest")
      }
    }
    for resource in own where recorded[Bytewise(text: resource.name)] == nil {
      result.append("the \(what) \(resource.name.printable) is not in the manifest")
    }
    return result.isEmpty ? ["the \(what)s are in another order or appear twice"] : result
  }
}
