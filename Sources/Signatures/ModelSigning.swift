internal import ByteStreams
internal import Checkpoint
internal import Conversion
public import TensorFormats

/// Signs a model: by the digests that its manifest has, so that no weight is read again, or by digests of what is there.
public struct ModelSigning: Sendable {
  private let model: SignedModel
  private let key: SigningKey
  private let file: SignatureFile
  private let provenanceFile: SignatureFile?
  private let options: Options
  private let manifest: Manifest?
  /// What the signature says that it leaves out.
  private let ignoredPaths: [String]
  /// Its own name and that of the provenance statement, where they lie in the model.
  private let provenanceName: String?
  /// What the manifest says of files that are there.
  private let recorded: [(path: String, digest: Digest)]
  /// What is read.
  private let pieces: [FileHashing.Piece]

  /// How to sign.
  public struct Options: Sendable {
    /// How many files are read at a time.
    public var threads: Int
    /// Whether every file is read, and the manifest's digests, where there is one, are compared with what is found.
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

  /// How much of what the manifest does not list, a README for instance, is read without being asked for.
  private static let mostUnlisted = 256 << 20

  /// Looks at what there is to sign: lists files, compares their sizes with the manifest's, reads none.
  ///
  /// - Parameters:
  ///   - model: What to sign. It has to lie on this machine.
  ///   - key: What to sign with.
  ///   - file: Where the signature goes.
  ///   - provenance: Where the provenance statement goes; `nil` for none.
  ///   - options: How to sign.
  /// - Throws: What is wrong with a manifest; `.notFound` if there is none and files are not to be hashed, or a file of it
  ///   is not there; `.malformed` for one of another size; `.unsupported` for what the form of a signature cannot say;
  ///   `.invalidRequest` for places that do not go together.
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
          ? "is an archive, and what is known are the digests of the files that it was made of"
          : "there is no \(OutputMarkers.manifest) that has the digests of what is here", path: model.path,
        remedy: "give --hash to read every file and sign what is there")
    }
    let (own, provenanceName) = try Self.names(of: file, provenance, in: model, manifest)
    self.provenanceName = provenanceName
    let ignored = [own].compactMap(\.self) + SignedModel.gitPaths
    ignoredPaths = ignored
    var paths = [model.file].compactMap(\.self)
    if paths.isEmpty {
      // What a run that was interrupted has left of them goes when they are written.
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
        throw CheckpointError(.notFound, "is not there any more", path: model.store.path(of: path))
      }
      let record = records[Bytewise(text: path)]
      if let record, record.bytes != size {
        throw CheckpointError(
          .malformed, "has \(size) bytes, and \(record.bytes) were written", path: model.store.path(of: path),
          remedy: "see what has become of it with: step3-verify checksums")
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
        "\(unlisted) bytes are not in the manifest, '\((largest?.path ?? "").printable)' the most of them",
        path: model.path,
        remedy:
          "move away what is not part of the model, or give --hash to read every file and sign what is there")
    }
  }

  /// Bytes that ``run(progress:)`` reads.
  public var byteCount: Int { pieces.reduce(0) { $0 + $1.range.count } }

  /// Reads what has to be read, signs and writes.
  ///
  /// - Parameter progress: Called from any thread with the bytes read since the last call, and their file.
  /// - Throws: What reading and writing throw; `.malformed` if a file is not what the manifest says; `CancellationError`.
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
          remedy: "see what has become of it with: step3-verify checksums")
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

/// What signing came to.
public struct SigningSummary: Codable, Hashable, Sendable {
  /// Where the signature is.
  public var signature: String
  /// Where the provenance statement is; `nil` if none was asked for.
  public var provenance: String?
  /// The name that the signature has for the model.
  public var subject: String
  /// SHA-256 of the digests of all files.
  public var rootDigest: String
  /// Files that are signed.
  public var files: Int
  /// Those of them that were read; the digests of the others are the manifest's.
  public var filesRead: Int
  /// Bytes of these.
  public var bytesRead: Int
  /// What it was signed with.
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

  /// The manifest that has the digests; `nil` if there is none, or it is not of the file that is meant.
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

  /// The names of both bundles in the model; `nil` where they lie elsewhere.
  private static func names(
    of file: SignatureFile, _ provenance: SignatureFile?, in model: SignedModel, _ manifest: Manifest?
  ) throws(CheckpointError) -> (signature: String?, provenance: String?) {
    let names = (signature: try file.name(in: model), provenance: try provenance?.name(in: model))
    guard let provenance else { return names }
    guard manifest != nil, model.file == nil else {
      throw CheckpointError(
        .notFound, "the provenance is that of a directory with a \(OutputMarkers.manifest)", path: model.path,
        remedy: "sign what step3-convert wrote, or do without --provenance")
    }
    guard !file.isSame(as: provenance) else {
      throw CheckpointError(
        .invalidRequest, "is the place of the signature as well", path: provenance.path,
        remedy: "give the provenance statement another name")
    }
    for name in [names.signature, names.provenance].compactMap(\.self)
    where manifest?.files.contains(where: { $0.path == name }) ?? false {
      throw CheckpointError(.invalidRequest, "is a file of the model", path: joinPath(model.path, name))
    }
    return names
  }

  /// - Throws: `.notFound` if a file of the manifest is not there.
  private static func check(
    _ manifest: Manifest, against paths: Set<Bytewise>, _ store: any ByteStore
  ) throws(CheckpointError) {
    guard let missing = manifest.files.first(where: { !paths.contains(Bytewise(text: $0.path)) }) else {
      return
    }
    throw CheckpointError(
      .notFound, "was written, and is not there or would not be signed", path: store.path(of: missing.path),
      remedy: "bring it back, or convert again")
  }
}
