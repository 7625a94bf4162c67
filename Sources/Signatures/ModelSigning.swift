internal import ByteStreams
internal import Checkpoint
internal import Conversion
public import TensorFormats

/// Signs a model: using the digests in its manifest, so that no weights are read again, or by hashing the files.
public struct ModelSigning: Sendable {
  private let model: SignedModel
  private let key: SigningKey
  private let file: SignatureFile
  private let provenanceFile: SignatureFile?
  private let options: Options
  private let manifest: Manifest?
  /// The paths recorded as left out of the signature.
  private let ignoredPaths: [String]
  /// The names of the signature and the provenance statement, if they are in the model.
  private let provenanceName: String?
  /// The manifest's digests of existing files.
  private let recorded: [(path: String, digest: Digest)]
  /// The pieces that are read.
  private let pieces: [FileHashing.Piece]

  /// How to sign.
  public struct Options: Sendable {
    /// The number of files read at a time.
    public var threads: Int
    /// Whether every file is read and compared with the manifest's digests, where there is a manifest.
    public var hashesFiles: Bool
    /// Whether symbolic links to files are followed.
    public var followsLinks: Bool

    /// Describes how to sign.
    public init(threads: Int, hashesFiles: Bool = false, followsLinks: Bool = false) {
      self.threads = threads
      self.hashesFiles = hashesFiles
      self.followsLinks = followsLinks
    }
  }

  /// The maximum size of files missing from the manifest, such as a README, that are read without `hashesFiles`.
  private static let mostUnlisted = 256 << 20

  /// Finds the files to sign: lists them and compares their sizes with the manifest's, without reading any.
  ///
  /// - Parameters:
  ///   - model: What to sign. It has to be local.
  ///   - key: What to sign with.
  ///   - file: Where the signature goes.
  ///   - provenance: Where the provenance statement goes; `nil` for none.
  ///   - options: How to sign.
  /// - Throws: Errors of the manifest; `.notFound` if there is none and files are not to be hashed, or one of its files
  ///   is missing; `.malformed` for a file of another size; `.unsupported` for files that a signature cannot describe;
  ///   `.invalidRequest` for conflicting paths.
  public init(
    _ model: SignedModel, key: SigningKey, to file: SignatureFile, provenance: SignatureFile? = nil,
    options: Options
  ) throws(CheckpointError) {
    self.model = model
    self.key = key
    self.file = file
    provenanceFile = provenance
    self.options = options
    let marker = try model.store.kind(of: Self.archiveManifest)
    let isArchive = model.file == nil && marker == .file
    let manifest = try Self.manifest(of: model)
    self.manifest = manifest
    guard options.hashesFiles || (manifest != nil && !isArchive) else {
      throw CheckpointError(
        .notFound,
        isArchive
          ? "is an archive, and only the digests of the files it was made from are known"
          : "there is no \(OutputMarkers.manifest) with the digests of these files", path: model.path,
        remedy: "give --hash to read every file and sign what is there")
    }
    let (own, provenanceName) = try Self.names(of: file, provenance, in: model, manifest)
    self.provenanceName = provenanceName
    let ignored = [own].compactMap(\.self) + SignedModel.gitPaths
    ignoredPaths = ignored
    var paths = [model.file].compactMap(\.self)
    if paths.isEmpty {
      // Leftovers of an interrupted run are replaced when they are written.
      let written = [own, provenanceName].compactMap(\.self).flatMap { [$0, $0 + temporarySuffix] }
      paths = try SignedModel.files(in: model.store, followingLinks: options.followsLinks) { path in
        ModelStatement.ignores(path, ignored) || written.contains(path)
      }
    }
    guard !paths.isEmpty else {
      throw CheckpointError(.notFound, "there is no file to sign", path: model.path)
    }
    let records = Dictionary(
      (manifest?.files ?? []).map { (Bytewise(text: $0.path), $0) }, uniquingKeysWith: { first, _ in first })
    if model.file == nil, !isArchive, let manifest {
      try Self.check(manifest, against: Set(paths.map(Bytewise.init)), model.store)
    }
    var recorded: [(String, Digest)] = []
    var pieces: [FileHashing.Piece] = []
    var unlisted = 0
    for path in paths {
      guard let size = try model.store.size(of: path) else {
        throw CheckpointError(.notFound, "no longer exists", path: model.store.path(of: path))
      }
      let record = records[Bytewise(text: path)]
      if let record, record.bytes != size {
        throw CheckpointError(
          .malformed, "has \(size) bytes, but \(record.bytes) were written", path: model.store.path(of: path),
          remedy: "check it with: step3-verify checksums")
      }
      if let digest = record.flatMap({ Digest(hexadecimal: $0.sha256) }) { recorded.append((path, digest)) }
      if options.hashesFiles || record == nil { pieces.append(.init(path: path, range: 0..<size)) }
      if record == nil { unlisted = unlisted.addingReportingOverflow(size).partialValue }
    }
    self.recorded = recorded
    self.pieces = pieces
    guard options.hashesFiles || unlisted <= Self.mostUnlisted else {
      let largest = pieces.max { $0.range.count < $1.range.count }
      throw CheckpointError(
        .unsupported,
        "\(unlisted) bytes are not in the manifest, most of them in '\((largest?.path ?? "").printable)'",
        path: model.path,
        remedy:
          "move away what is not part of the model, or give --hash to read every file and sign what is there")
    }
  }

  /// The number of bytes that ``run(progress:)`` reads.
  public var byteCount: Int { pieces.reduce(0) { $0 + $1.range.count } }

  /// Reads the files that need hashing, signs and writes.
  ///
  /// - Parameter progress: Called from any thread with the bytes read since the last call, and their file.
  /// - Throws: What reading and writing throw; `.malformed` if a file does not match the manifest; `CancellationError`.
  public func run(
    progress: @escaping @Sendable (_ bytes: Int, _ file: String) -> Void = { _, _ in }
  ) async throws -> SigningSummary {
    var digests = Dictionary(
      recorded.map { (Bytewise(text: $0.path), $0.digest) }, uniquingKeysWith: { first, _ in first })
    let found = try await FileHashing(store: model.store, threads: options.threads).digests(
      of: pieces, progress: progress)
    for (piece, result) in zip(pieces, found) {
      let digest = try result.get()
      let expected = digests.updateValue(digest, forKey: Bytewise(text: piece.path))
      guard expected == nil || expected == digest else {
        throw CheckpointError(
          .malformed,
          "is not what was written: its SHA-256 is \(digest), the manifest has \(expected ?? digest)",
          path: model.store.path(of: piece.path),
          remedy: "check it with: step3-verify checksums")
      }
    }
    if let provenanceFile, let manifest, let digest = digests[Bytewise(text: OutputMarkers.manifest)] {
      let text = try SigstoreBundle(signing: Provenance(manifest, digest: digest).statement, with: key).text
      try provenanceFile.write(text)
      if let provenanceName { digests[Bytewise(text: provenanceName)] = Digest.sha256(of: text) }
    }
    let statement = ModelStatement(
      name: model.name,
      files: digests.map { path, digest in
        .init(path: model.file == nil ? path.text : ModelStatement.loneFile, sha256: digest)
      }, ignoredPaths: ignoredPaths, allowsSymbolicLinks: options.followsLinks)
    try file.write(SigstoreBundle(signing: statement.statement, with: key).text)
    return SigningSummary(
      signature: file.path, provenance: provenanceFile?.path, subject: statement.name,
      rootDigest: "\(statement.rootDigest)", files: digests.count,
      filesRead: pieces.count, bytesRead: byteCount, key: KeySummary(key.publicKey))
  }
}

/// The outcome of signing.
public struct SigningSummary: Codable, Hashable, Sendable {
  /// Where the signature is.
  public var signature: String
  /// Where the provenance statement is; `nil` if none was asked for.
  public var provenance: String?
  /// The model's name in the signature.
  public var subject: String
  /// SHA-256 of the digests of all files.
  public var rootDigest: String
  /// The number of signed files.
  public var files: Int
  /// The number of them that were read; the digests of the others come from the manifest.
  public var filesRead: Int
  /// The number of bytes read.
  public var bytesRead: Int
  /// The key that it was signed with.
  public var key: KeySummary
}

/// A key, for reports.
public struct KeySummary: Codable, Hashable, Sendable {
  /// Its curve.
  public var curve: EllipticCurve
  /// ``VerifyingKey/fingerprint`` in hexadecimal.
  public var sha256: String

  init(_ key: VerifyingKey) {
    curve = key.curve
    sha256 = "\(key.fingerprint)"
  }
}

// MARK: - What there is

extension ModelSigning {
  /// Marks an archive.
  static let archiveManifest = "archive.json"

  /// The manifest that has the digests; `nil` if there is none, or it does not cover the file named.
  private static func manifest(of model: SignedModel) throws(CheckpointError) -> Manifest? {
    do throws(CheckpointError) {
      let manifest = try Manifest.read(in: model.store)
      guard let file = model.file else { return manifest }
      return manifest.files.contains { $0.path == file } ? manifest : nil
    } catch {
      guard error.code == .notFound else { throw error }
      return nil
    }
  }

  /// The names of both bundles in the model; `nil` for those outside it.
  private static func names(
    of file: SignatureFile, _ provenance: SignatureFile?, in model: SignedModel, _ manifest: Manifest?
  ) throws(CheckpointError) -> (signature: String?, provenance: String?) {
    let names = (signature: try file.name(in: model), provenance: try provenance?.name(in: model))
    guard let provenance else { return names }
    guard manifest != nil, model.file == nil else {
      throw CheckpointError(
        .notFound, "only a directory with a \(OutputMarkers.manifest) has a provenance", path: model.path,
        remedy: "sign the output of step3-convert, or omit --provenance")
    }
    guard !file.isSame(as: provenance) else {
      throw CheckpointError(
        .invalidRequest, "is also the path of the signature", path: provenance.path,
        remedy: "give the provenance statement another name")
    }
    for name in [names.signature, names.provenance].compactMap(\.self)
    where manifest?.files.contains(where: { $0.path == name }) ?? false {
      throw CheckpointError(.invalidRequest, "is a file of the model", path: joinPath(model.path, name))
    }
    return names
  }

  /// - Throws: `.notFound` if a file of the manifest is missing.
  private static func check(
    _ manifest: Manifest, against paths: Set<Bytewise>, _ store: any ByteStore
  ) throws(CheckpointError) {
    guard let missing = manifest.files.first(where: { !paths.contains(Bytewise(text: $0.path)) }) else {
      return
    }
    throw CheckpointError(
      .notFound, "is in the manifest, but is missing or would not be signed",
      path: store.path(of: missing.path),
      remedy: "restore it, or convert again")
  }
}
