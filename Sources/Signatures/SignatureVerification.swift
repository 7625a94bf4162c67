internal import ByteStreams
internal import Checkpoint
internal import Conversion
public import TensorFormats

/// Checks a model against its signature: the envelope against the key, then every file against its signed digest.
public struct SignatureVerification: Sendable {
  private let key: VerifyingKey
  private let options: Options
  private let signature: BundleFile
  private let provenance: BundleFile?
  /// `nil` if the key did not make the signature.
  private let statement: ModelStatement?
  private let store: any ByteStore
  /// The file named.
  private let file: String?
  /// Findings made before any file is read.
  private var findings: [SignatureReport.Finding] = []
  private var ignored: [String] = []
  private var filesByManifest = 0
  /// The pieces that are read, and their signed digests.
  private var pieces: [(piece: FileHashing.Piece, digest: Digest)] = []

  /// How to check.
  public struct Options: Sendable {
    /// The number of files read at a time.
    public var threads: Int
    /// Whether signed digests are compared with the manifest's where it has them: those files are then not read, and
    /// nothing is known about their bytes.
    public var trustsManifest: Bool
    /// Whether unsigned files are ignored.
    public var ignoresUnsignedFiles: Bool
    /// Whether symbolic links to files are followed.
    public var followsLinks: Bool

    /// Describes how to check.
    public init(
      threads: Int, trustsManifest: Bool = false, ignoresUnsignedFiles: Bool = false,
      followsLinks: Bool = false
    ) {
      self.threads = threads
      self.trustsManifest = trustsManifest
      self.ignoresUnsignedFiles = ignoresUnsignedFiles
      self.followsLinks = followsLinks
    }
  }

  /// Reads the signature and checks its envelope, then lists the files.
  ///
  /// - Parameters:
  ///   - model: The model whose signature is checked.
  ///   - signature: The signature's file; `nil` for the default one next to the model.
  ///   - provenance: A provenance statement to check as well.
  ///   - key: The key that should have made the signature.
  ///   - options: How to check.
  /// - Throws: `.notFound` without a signature or, where it is needed, a manifest; `.malformed` and `.unsupported` for
  ///   invalid bundles and statements or those of another kind, and for files that cannot have been signed;
  ///   `.inputOutput`.
  public init(
    _ model: SignedModel, signature: String? = nil, provenance: String? = nil, key: VerifyingKey,
    options: Options
  ) throws(CheckpointError) {
    self.key = key
    self.options = options
    self.signature = try BundleFile(signature, of: model)
    self.provenance = try provenance.map { (path) throws(CheckpointError) in try BundleFile(path, of: model) }
    file = model.file
    if let fault = self.signature.fault(key) {
      (statement, store) = (nil, model.store)
      findings.append(fault)
      return
    }
    let statement = try self.signature.read(ModelStatement.init)
    self.statement = statement
    // Either an archive's own files or its original files may be signed.
    let isArchive = try model.store.kind(of: ModelSigning.archiveManifest) == .file
    store =
      isArchive && !statement.files.contains { $0.path == ModelSigning.archiveManifest }
      ? model.unpacked : model.store
    guard statement.rootDigest == statement.statedRootDigest else {
      findings.append(
        .init(
          kind: .root, file: self.signature.path,
          message: "the root digest is \(statement.statedRootDigest), and the digests below it give "
            + "\(statement.rootDigest)"))
      return
    }
    try compareFiles(statement)
    try checkProvenance(statement)
  }

  /// The number of bytes that ``run(progress:)`` reads.
  public var byteCount: Int { pieces.reduce(0) { $0 + $1.piece.range.count } }

  /// Reads the files and compares them.
  ///
  /// Memory: the signature, and four megabytes for each file in progress.
  ///
  /// - Parameter progress: Called from any thread with the bytes read since the last call, and their file.
  /// - Throws: `CancellationError`. Problems with files are findings, not errors.
  public func run(
    progress: @escaping @Sendable (_ bytes: Int, _ file: String) -> Void = { _, _ in }
  ) async throws -> SignatureReport {
    var findings = findings
    let found = try await FileHashing(store: store, threads: options.threads).digests(
      of: pieces.map(\.piece), progress: progress)
    for ((piece, digest), result) in zip(pieces, found) {
      switch result {
      case .success(let found) where found == digest: break
      case .success(let found):
        let isPart = statement?.method != .files
        findings.append(
          .init(
            kind: .changed, file: piece.path,
            message: (isPart ? "bytes \(piece.range.lowerBound) to \(piece.range.upperBound): " : "")
              + "SHA-256 is \(found), \(digest) is signed"))
      case .failure(let error):
        let kind: SignatureReport.Finding.Kind =
          switch error.code {
          case .notFound: .missing
          case .inputOutput: .unreadable
          default: .changed
          }
        findings.append(.init(kind: kind, file: piece.path, message: error.message))
      }
    }
    return SignatureReport(
      ok: findings.isEmpty, signature: signature.path, provenance: provenance?.path, key: KeySummary(key),
      subject: statement?.name, rootDigest: statement.map { "\($0.statedRootDigest)" },
      files: statement?.files.count ?? 0, filesByManifest: filesByManifest, bytes: byteCount,
      ignored: ignored.sorted { $0.precedesBytewise($1) },
      findings: findings.sorted { ($0.file, $0.message) < ($1.file, $1.message) })
  }
}

// MARK: - What there is to compare

extension SignatureVerification {
  private mutating func compareFiles(_ statement: ModelStatement) throws(CheckpointError) {
    let signed = statement.files
    let isLone = signed.first?.path == ModelStatement.loneFile
    guard isLone == (file != nil) else {
      throw CheckpointError(
        .unsupported, isLone ? "is the signature of one file" : "is the signature of a directory",
        path: signature.path,
        remedy: isLone ? "name that file" : "name the directory that the file is in")
    }
    var there: [Bytewise: String] = [:]
    if let file {
      there[Bytewise(text: ModelStatement.loneFile)] = file
    } else {
      var left: [String] = []
      let files = try SignedModel.files(in: store, followingLinks: options.followsLinks) { path in
        guard statement.ignores(path), !signed.contains(where: { Self.lies($0.path, in: path) }) else {
          return false
        }
        left.append(path)
        return true
      }
      for path in left where try !isOwn(path) { ignored.append(path) }
      for path in files { there[Bytewise(text: path)] = path }
    }
    let records = try recordedFiles(statement)
    for file in signed {
      guard let path = there.removeValue(forKey: Bytewise(text: file.path)),
        let size = try store.size(of: path)
      else {
        findings.append(.init(kind: .missing, file: file.path, message: "is signed, but missing"))
        continue
      }
      compare(file, at: path, size, records[Bytewise(text: path)])
    }
    guard !options.ignoresUnsignedFiles else { return }
    for path in there.values where try !isOwn(path) {
      // Empty files have no pieces.
      if statement.method != .files, try store.size(of: path) == 0 { continue }
      findings.append(.init(kind: .extra, file: path, message: "is not signed"))
    }
  }

  private mutating func compare(
    _ file: SignedFile, at path: String, _ size: Int, _ record: Manifest.FileRecord?
  ) {
    if let count = file.byteCount, count != size {
      findings.append(
        .init(kind: .changed, file: path, message: "has \(size) bytes, but \(count) are signed"))
      return
    }
    guard let record, let piece = file.pieces.first else {
      for piece in file.pieces {
        pieces.append((.init(path: path, range: piece.range ?? 0..<size), piece.sha256))
      }
      return
    }
    filesByManifest += 1
    if record.bytes != size {
      findings.append(
        .init(
          kind: .changed, file: path, message: "has \(size) bytes, but \(record.bytes) in the manifest"))
    } else if record.sha256 != "\(piece.sha256)" {
      findings.append(
        .init(
          kind: .changed, file: path,
          message: "the manifest has SHA-256 \(record.sha256), \(piece.sha256) is signed"))
    }
  }

  /// The manifest's records where they suffice; empty where the files are read.
  private func recordedFiles(
    _ statement: ModelStatement
  ) throws(CheckpointError) -> [Bytewise: Manifest.FileRecord] {
    guard options.trustsManifest else { return [:] }
    guard statement.method == .files else {
      throw CheckpointError(
        .unsupported, "has digests of pieces of files, but the manifest has those of complete files",
        path: signature.path, remedy: "omit --manifest-only")
    }
    let manifest = try Manifest.read(in: store)
    return Dictionary(
      manifest.files.map { (Bytewise(text: $0.path), $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// Whether a path equals another one, or is below it.
  private static func lies(_ path: String, in folder: String) -> Bool {
    ModelStatement.ignores(path, [folder])
  }

  /// Whether a file of the model is one of the bundles being checked.
  private func isOwn(_ path: String) throws(CheckpointError) -> Bool {
    if path == signature.name || path == provenance?.name { return true }
    guard let directory = store.directory,
      let identity = try FileSystem.identity(of: joinPath(directory, path))
    else { return false }
    return identity == signature.identity || identity == provenance?.identity
  }
}

// MARK: - Provenance

extension SignatureVerification {
  private mutating func checkProvenance(_ statement: ModelStatement) throws(CheckpointError) {
    guard let provenance else { return }
    if let fault = provenance.fault(key) {
      findings.append(fault)
      return
    }
    let stated = try provenance.read(Provenance.init)
    guard file == nil else {
      throw CheckpointError(
        .unsupported, "is the provenance of a directory", path: provenance.path,
        remedy: "name the directory that the file is in")
    }
    let manifest = try Manifest.read(in: store)
    let text = try store.read(OutputMarkers.manifest, limit: OutputMarkers.largestRecord, as: "a manifest")
    let recorded = try Provenance(manifest, digest: Digest.sha256(of: text))
    var messages = stated.differences(from: recorded)
    let signed = Dictionary(
      statement.files.map { (Bytewise(text: $0.path), $0) }, uniquingKeysWith: { first, _ in first })
    for output in stated.outputs {
      guard let pieces = signed[Bytewise(text: output.name)]?.pieces, pieces.first?.range == nil,
        let digest = pieces.first?.sha256, digest != output.sha256
      else { continue }
      messages.append(
        "the output file \(output.name.printable) has SHA-256 \(output.sha256), \(digest) is signed")
    }
    findings += messages.map { .init(kind: .provenance, file: provenance.path, message: $0) }
  }
}

// MARK: - Bundles in files

/// A bundle, and where it was read from.
private struct BundleFile: Sendable {
  let path: String
  /// Its name in the model, if it was looked for there.
  var name: String?
  /// `nil` on a server.
  var identity: FileIdentity?
  private let bundle: SigstoreBundle

  /// Reads a bundle: the one at a path, or the default one next to the model.
  init(_ path: String?, of model: SignedModel) throws(CheckpointError) {
    let text: [UInt8]
    if let path {
      self.path = path
      let (directory, name) = splitPath(path)
      text = try DirectoryStore(directory).read(name, limit: SigstoreBundle.largestFile, as: "a signature")
      identity = try FileSystem.identity(of: path)
    } else {
      let name = model.signatureName
      self.path = model.store.path(of: name)
      guard try model.store.kind(of: name) == .file else {
        throw CheckpointError(
          .notFound, "there is no signature with this name", path: self.path,
          remedy: "name the signature's file with --signature")
      }
      text = try model.store.read(name, limit: SigstoreBundle.largestFile, as: "a signature")
      self.name = name
      identity = try model.store.directory.flatMap { (directory) throws(CheckpointError) in
        try FileSystem.identity(of: joinPath(directory, name))
      }
    }
    do throws(CheckpointError) {
      bundle = try SigstoreBundle(parsing: text)
    } catch {
      throw error.at(path: self.path)
    }
  }

  /// The problem with the envelope; `nil` if the key made it.
  func fault(_ key: VerifyingKey) -> SignatureReport.Finding? {
    let fingerprint = "\(key.fingerprint)"
    guard let hint = bundle.keyHint, hint != fingerprint else {
      return bundle.isSigned(by: key)
        ? nil
        : .init(
          kind: .signature, file: path,
          message: "was not made with this key, or has been changed since: its signature is invalid")
    }
    return .init(
      kind: .signature, file: path,
      message: "says that it was made with another key: \(hint.printable), this one is \(fingerprint)")
  }

  /// Reads the signed statement. Call only if there is no ``fault(_:)``.
  func read<Content>(
    _ content: (Statement) throws(CheckpointError) -> Content
  ) throws(CheckpointError) -> Content {
    do throws(CheckpointError) {
      return try content(Statement(in: bundle))
    } catch {
      throw error.at(path: path)
    }
  }
}
