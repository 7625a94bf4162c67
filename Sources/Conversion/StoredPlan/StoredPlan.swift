package import ByteStreams
public import Checkpoint
public import ShardPlanning
public import TensorFormats

/// A plan in a file, with all that is needed to run it: where its source is, and in a second file beside it the headers of
/// all files of the output.
///
/// Reading one believes nothing. What a hand changed in it either still fits together and to the source, and is then what
/// is done, or is refused with what is wrong.
public struct StoredPlan: Sendable {
  /// Where it is.
  public let path: String
  private let envelope: Envelope

  /// What is converted and how.
  public var plan: ShardPlan { envelope.plan }
  /// Where the source was when it was planned for.
  public var source: String { envelope.source }
  /// Where the importance matrix was; `nil` if there is none.
  public var importance: String? { envelope.importance }

  /// The layout of the file; raised when a field changes its meaning.
  public static let currentVersion = 1

  /// Ends the name of the file of headers.
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
  /// - Throws: `.notFound`; `.malformed` for what is no plan, or one that does not fit together; `.unsupported` for one of
  ///   another version.
  public init(reading path: String) throws(CheckpointError) { try self.init(reading: InputFile(path)) }

  /// The same of bytes that are open already.
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
        throw CheckpointError(.malformed, "is no plan but '\(envelope.format.printable)'")
      }
      try PlanCheck(plan).run()
      try PlanNames(plan).check()
      guard OutputPath.isPlain(envelope.headers.file, components: 1) else {
        throw CheckpointError(
          .malformed, "the file of headers is called '\(envelope.headers.file.printable)'")
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
  ///   file; `.malformed` or `.unsupported` for a plan that does not fit to its source or its headers; what reading throws.
  /// - Complexity: O(*n* log *n*) in the number of output tensors; reads no weights.
  public func conversion(
    of checkpoint: Checkpoint, importance: ImportanceFile? = nil
  ) throws(CheckpointError) -> PlannedConversion {
    if let calibration = plan.request.calibration {
      throw CheckpointError(
        .unsupported,
        "is of codes that \(calibration.method.rawValue) makes, which a stored plan does not run",
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
      throw fault("has \(file.byteCount) bytes, and the headers of the plan have \(envelope.headers.bytes)")
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
    error.message = "is no sound plan: \(error.message)"
    error.remedy = "plan again"
    return error.at(path: path)
  }
}

// MARK: - Writing

extension StoredPlan {
  /// Writes a plan and, beside it, the headers of its files. Each file is there whole or not at all.
  ///
  /// - Parameters:
  ///   - planned: What was planned.
  ///   - path: Where the plan goes. The headers get the same name and ``headersSuffix``.
  ///   - source: Where the source is, for whoever runs the plan: a relative path counts from the working directory.
  ///   - importance: Where the importance matrix is.
  ///   - overwriting: Whether an earlier plan may be replaced.
  /// - Throws: `.cannotCreate` if something is in the way, or the file would lie in the source; `.inputOutput`.
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
        "the plan has \(text.count) bytes, and no more than \(OutputMarkers.largestRecord) are read",
        path: path, remedy: "convert without a stored plan")
    }
    // The plan last: without it nobody takes the headers for anything.
    try unsafe FileSystem.writeAtomically(headers.span.bytes, to: headersPath)
    try unsafe FileSystem.writeAtomically(text.span.bytes, to: path)
    try FileSystem.synchronizeDirectory(splitPath(path).directory)
  }

  /// Nothing but an earlier plan and its headers is replaced.
  private static func checkWay(
    _ path: String, _ headersPath: String, overwriting: Bool
  ) throws(CheckpointError) {
    var taken: [String] = []
    for path in [path, headersPath] { if try FileSystem.isTaken(path) { taken.append(path) } }
    guard let first = taken.first else { return }
    guard overwriting else {
      throw CheckpointError(
        .cannotCreate, "exists already", path: first,
        remedy: "choose another name, or give --overwrite to replace a plan")
    }
    let old = try FileSystem.kind(of: path) == .file ? try? StoredPlan(reading: path) : nil
    let headerBytes = try FileSystem.size(of: headersPath)
    guard let old, taken.count == 1 || headerBytes == old.envelope.headers.bytes else {
      throw CheckpointError(
        .cannotCreate, "is no plan that step3-convert wrote", path: first,
        remedy: "move it away yourself, or choose another name")
    }
  }
}
