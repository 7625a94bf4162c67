package import ByteStreams
public import Checkpoint
public import ShardPlanning
public import TensorFormats

/// A plan in a file, with all that is needed to run it: where its source is, and, in a second file beside it, the
/// headers of all output files.
///
/// Reading trusts nothing: an edited plan is either consistent with itself and the source, and is then executed as
/// edited, or refused with an explanation.
public struct StoredPlan: Sendable {
  /// Where it is.
  public let path: String
  private let envelope: Envelope

  /// What is converted and how.
  public var plan: ShardPlan { envelope.plan }
  /// Where the source was when planned.
  public var source: String { envelope.source }
  /// Where the importance matrix was; `nil` if there is none.
  public var importance: String? { envelope.importance }

  /// The layout of the file; raised when a field changes its meaning.
  public static let currentVersion = 1

  /// The suffix of the headers file.
  public static let headersSuffix = ".headers"

  private struct Envelope: Codable, Sendable {
    static let formatName = "step3-convert plan"

    var format = Self.formatName
    var version = StoredPlan.currentVersion
    var source: String
    var importance: String?
    var headers: Headers
    var plan: ShardPlan

    struct Headers: Codable, Sendable {
      /// The file's name, in the directory of the plan.
      var file: String
      var bytes: Int
      /// XXH3-128 of the file.
      var xxh3: String
    }
  }

  private static var document: VersionedDocument<Envelope> {
    VersionedDocument(name: "stored plan", version: currentVersion) { $0.version }
  }

  /// The most headers that are read: a vocabulary for each of a thousand ranks.
  private static let largestHeaders = 1 << 34
}

// MARK: - Reading

extension StoredPlan {
  /// Reads a plan, and checks all of it that can be checked without its source.
  ///
  /// - Throws: `.notFound`; `.malformed` if it is not a plan, or contradicts itself; `.unsupported` for one of another
  ///   version.
  public init(reading path: String) throws(CheckpointError) { try self.init(reading: InputFile(path)) }

  /// The same for an open file.
  ///
  /// - Throws: `.malformed`, `.unsupported`; what reading throws.
  package init(reading file: any ByteSource) throws(CheckpointError) {
    path = file.path
    do throws(CheckpointError) {
      envelope = try Self.document.read(file)
    } catch {
      guard error.code == .malformed, error.remedy == nil else { throw error }
      var error = error
      error.remedy = "write one with: step3-convert plan SOURCE ... --output FILE"
      throw error
    }
    do throws(CheckpointError) {
      guard envelope.format == Envelope.formatName else {
        throw CheckpointError(.malformed, "is not a plan but '\(envelope.format.printable)'")
      }
      try PlanCheck(plan).run()
      try PlanNames(plan).check()
      guard OutputPath.isPlain(envelope.headers.file, components: 1) else {
        throw CheckpointError(
          .malformed, "the headers file is called '\(envelope.headers.file.printable)'")
      }
    } catch {
      throw Self.unsound(error, path)
    }
  }

  /// Makes the conversion of the plan, without planning again.
  ///
  /// - Parameters:
  ///   - checkpoint: The source, as it was opened.
  ///   - importance: The importance matrix, if the plan has one.
  /// - Throws: `.sourceChanged` if the source or the importance matrix is not the one that was planned with, naming the
  ///   file; `.malformed` or `.unsupported` for a plan that does not match its source or its headers; what reading
  ///   throws.
  /// - Complexity: O(*n* log *n*) in the number of output tensors; reads no weights.
  public func conversion(
    of checkpoint: Checkpoint, importance: ImportanceFile? = nil
  ) throws(CheckpointError) -> PlannedConversion {
    if let calibration = plan.request.calibration {
      throw CheckpointError(
        .unsupported,
        "needs codes made by \(calibration.method.rawValue), which a stored plan cannot run",
        path: path, remedy: "convert with --method \(calibration.method.rawValue) and the text")
    }
    let headers = try readHeaders()
    do throws(CheckpointError) {
      return try PlannedConversion(
        executing: plan, headers: headers, checkpoint: checkpoint, importance: importance)
    } catch {
      throw error.path == nil ? Self.unsound(error, path) : error
    }
  }

  private func readHeaders() throws(CheckpointError) -> [UInt8] {
    let file = try InputFile(joinPath(splitPath(path).directory, envelope.headers.file))
    func fault(_ message: String) -> CheckpointError {
      CheckpointError(
        .malformed, message, path: file.path,
        remedy: "keep the file that was written with the plan beside it, or plan again")
    }
    guard file.byteCount == envelope.headers.bytes, file.byteCount <= Self.largestHeaders else {
      throw fault("has \(file.byteCount) bytes, but the headers of the plan have \(envelope.headers.bytes)")
    }
    let bytes = try file.readBytes(0..<file.byteCount)
    guard "\(Digest.xxh3(of: bytes))" == envelope.headers.xxh3 else {
      throw fault("does not hold the headers of the plan")
    }
    return bytes
  }

  private static func unsound(_ error: CheckpointError, _ path: String) -> CheckpointError {
    guard error.code == .malformed else { return error.at(path: path) }
    var error = error
    error.message = "is not a sound plan: \(error.message)"
    error.remedy = "plan again"
    return error.at(path: path)
  }
}

// MARK: - Writing

extension StoredPlan {
  /// Writes a plan and, beside it, the headers of its files. Each file is written completely or not at all.
  ///
  /// - Parameters:
  ///   - planned: What was planned.
  ///   - path: Where the plan goes. The headers get the same name and ``headersSuffix``.
  ///   - source: Where the source is, for running the plan later: a relative path is resolved from the working
  ///     directory.
  ///   - importance: Where the importance matrix is.
  ///   - overwriting: Whether an earlier plan may be replaced.
  /// - Throws: `.cannotCreate` if something is in the way, or the file would be in the source; `.inputOutput`.
  public static func write(
    _ planned: PlannedConversion, to path: String, source: String, importance: String? = nil,
    overwriting: Bool = false
  ) throws(CheckpointError) {
    let headersPath = path + headersSuffix
    let overlap = try SourceOverlap(planned.checkpoint, planned.plan)
    for file in [path, headersPath] { try overlap.check(file: file) }
    try checkWay(path, headersPath, overwriting: overwriting)
    let headers = PlanHeaders.joined(planned)
    let envelope = Envelope(
      source: planned.checkpoint.store.directory == nil ? source : FileSystem.absolute(source),
      importance: importance.map(FileSystem.absolute),
      headers: Envelope.Headers(
        file: splitPath(headersPath).name, bytes: headers.count, xxh3: "\(Digest.xxh3(of: headers))"),
      plan: planned.plan)
    let text = document.text(of: envelope)
    guard text.count <= OutputMarkers.largestRecord else {
      throw CheckpointError(
        .unsupported,
        "the plan has \(text.count) bytes, more than the limit of \(OutputMarkers.largestRecord) for reading",
        path: path, remedy: "convert without a stored plan")
    }
    // The plan last: without it the headers file is ignored.
    try unsafe FileSystem.writeAtomically(headers.span.bytes, to: headersPath)
    try unsafe FileSystem.writeAtomically(text.span.bytes, to: path)
    try FileSystem.synchronizeDirectory(splitPath(path).directory)
  }

  /// Only an earlier plan and its headers may be replaced.
  private static func checkWay(
    _ path: String, _ headersPath: String, overwriting: Bool
  ) throws(CheckpointError) {
    var taken: [String] = []
    for path in [path, headersPath] { if try FileSystem.isTaken(path) { taken.append(path) } }
    guard let first = taken.first else { return }
    guard overwriting else {
      throw CheckpointError(
        .cannotCreate, "already exists", path: first,
        remedy: "choose another name, or give --overwrite to replace a plan")
    }
    let old = try FileSystem.kind(of: path) == .file ? try? StoredPlan(reading: path) : nil
    let headerBytes = try FileSystem.size(of: headersPath)
    guard let old, taken.count == 1 || headerBytes == old.envelope.headers.bytes else {
      throw CheckpointError(
        .cannotCreate, "is not a plan that step3-convert wrote", path: first,
        remedy: "move it away yourself, or choose another name")
    }
  }
}
