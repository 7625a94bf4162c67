package import ByteStreams
internal import JSON
package import TensorFormats

/// The signed statement about a model: the SHA-256 of each of its files, in the format of the package `model_signing`
/// 1.x.
///
/// Its subject is the model, by its name and one root digest: the SHA-256 of all digests concatenated in the order of
/// ``resources``.
package struct ModelStatement: Hashable, Sendable {
  package static let predicateType = "https://model_signing/signature/v1.0"
  /// The name of the file if the model is a single file.
  package static let loneFile = "."

  /// What each digest covers.
  package enum Method: Hashable, Sendable {
    /// Each file.
    case files
    /// Each piece of the given size; the last one of a file may be shorter.
    case shards(Int)
  }

  /// A file, or a piece of one.
  package struct Resource: Hashable, Sendable {
    /// Below the model's directory; ``ModelStatement/loneFile`` if the model is that file.
    package var path: String
    /// The byte range; `nil` for the whole file.
    package var range: Range<Int>?
    package var sha256: Digest

    package init(path: String, range: Range<Int>? = nil, sha256: Digest) {
      (self.path, self.range, self.sha256) = (path, range, sha256)
    }
  }

  /// The model's name: the last component of its path, which may change and is not proof of anything.
  package var name: String
  package var method: Method
  /// Whether symbolic links to files were followed.
  package var allowsSymbolicLinks: Bool
  /// Files and folders in the directory that the signature leaves out.
  package var ignoredPaths: [String]
  package private(set) var resources: [Resource]
  /// The root digest in the statement.
  package private(set) var statedRootDigest: Digest

  /// The root digest computed from the resources.
  package var rootDigest: Digest { Self.rootDigest(of: resources) }

  private static func rootDigest(of resources: [Resource]) -> Digest {
    var digester = SHA256Digester()
    for resource in resources { digester.update(resource.sha256.bytes) }
    return digester.finalize()
  }

  /// Describes a model file by file.
  package init(
    name: String, files: [Resource], ignoredPaths: [String], allowsSymbolicLinks: Bool
  ) {
    self.name = name
    method = .files
    self.allowsSymbolicLinks = allowsSymbolicLinks
    self.ignoredPaths = ignoredPaths
    resources = files.sorted { Self.precedes($0.path, $1.path) }
    statedRootDigest = Self.rootDigest(of: resources)
  }

  /// The order of paths: folder by folder, so that `a/b` comes before `a-b`.
  private static func precedes(_ first: String, _ second: String) -> Bool {
    first.split(separator: "/").lexicographicallyPrecedes(second.split(separator: "/")) {
      String($0).precedesBytewise(String($1))
    }
  }
}

// MARK: - Statements

extension ModelStatement {
  private static let algorithm = "sha256"

  /// This as an in-toto statement.
  package var statement: Statement {
    var serialization: JSONMembers = [
      "method": .string("files"), "hash_type": .string(Self.algorithm),
      "allow_symlinks": .bool(allowsSymbolicLinks),
    ]
    var algorithm = Self.algorithm
    if case .shards(let size) = method {
      serialization["method"] = .string("shards")
      serialization["shard_size"] = .integer(size)
      algorithm = Self.shardAlgorithm(size)
    }
    if !ignoredPaths.isEmpty { serialization["ignore_paths"] = .array(ignoredPaths.map { .string($0) }) }
    let list: [JSONValue] = resources.map { resource in
      let name = resource.range.map { "\(resource.path):\($0.lowerBound):\($0.upperBound)" } ?? resource.path
      return .object([
        "name": .string(name), "algorithm": .string(algorithm), "digest": .string("\(resource.sha256)"),
      ])
    }
    return Statement(
      subjects: [Statement.Resource(name: name, sha256: statedRootDigest)],
      predicateType: Self.predicateType,
      predicate: .object(["serialization": .object(serialization), "resources": .array(list)]))
  }

  private static func shardAlgorithm(_ size: Int) -> String { "\(algorithm)-sharded-\(size)" }

  /// Reads the signed statement about a model.
  ///
  /// - Throws: `.malformed` for contradictions, `.unsupported` for other predicates, methods and digests.
  package init(_ statement: Statement) throws(CheckpointError) {
    guard statement.predicateType == Self.predicateType else {
      let isProvenance = statement.predicateType == Provenance.predicateType
      throw CheckpointError(
        .unsupported,
        "signs a statement about something else, '\(statement.predicateType.printable)'; "
          + "\(Self.predicateType) is expected",
        remedy: isProvenance ? "give a provenance statement with --provenance" : nil)
    }
    guard statement.subjects.count == 1, let subject = statement.subjects.first else {
      throw Statement.fault("it has \(statement.subjects.count) subjects, the model must be the only one")
    }
    guard let serialization = statement.predicate["serialization"]?.members,
      let items = statement.predicate["resources"]?.items
    else { throw Statement.fault("it lacks its serialization or its resources") }
    name = subject.name
    statedRootDigest = subject.sha256
    (method, allowsSymbolicLinks, ignoredPaths) = try Self.read(serialization)
    let method = method
    resources = try items.map { (item) throws(CheckpointError) in try Self.resource(item, method) }
    try checkPieces()
  }

  private static func read(
    _ members: JSONMembers
  ) throws(CheckpointError) -> (method: Method, links: Bool, ignored: [String]) {
    let known = ["method", "hash_type", "allow_symlinks", "ignore_paths", "shard_size"]
    if let key = members.keys.first(where: { !known.contains($0) }) {
      throw CheckpointError(
        .unsupported, "its files were hashed with the unknown option '\(key.printable)'")
    }
    guard let type = members["hash_type"]?.text, type == algorithm else {
      throw CheckpointError(
        .unsupported,
        "its files were hashed with \(members["hash_type"]?.kind ?? "nothing"); sha256 is supported",
        remedy: "check it with model_signing")
    }
    let ignored = members["ignore_paths"] ?? .array([])
    guard let links = members["allow_symlinks"]?.flag, let paths = ignored.strings,
      paths.count == ignored.items?.count
    else { throw Statement.fault("allow_symlinks or ignore_paths is invalid") }
    switch members["method"]?.text {
    case "files"? where members["shard_size"] == nil: return (.files, links, paths)
    case "shards"?:
      guard let size = members["shard_size"]?.double.flatMap(Int.init(exactly:)), size > 0 else {
        throw Statement.fault("the size of shards is \(members["shard_size"]?.kind ?? "nothing")")
      }
      return (.shards(size), links, paths)
    default:
      throw CheckpointError(
        .unsupported,
        "its files were hashed by \(members["method"]?.kind ?? "no method"); files and shards are supported")
    }
  }

  private static func resource(_ item: JSONValue, _ method: Method) throws(CheckpointError) -> Resource {
    guard let name = item["name"]?.text, let digest = Digest(sha256: item["digest"]) else {
      throw Statement.fault("a resource lacks its name or its SHA-256")
    }
    func fault(_ message: String) -> CheckpointError {
      Statement.fault("the resource '\(name.printable)' \(message)")
    }
    var path = name
    var range: Range<Int>?
    var algorithm = algorithm
    if case .shards(let size) = method {
      algorithm = shardAlgorithm(size)
      let parts = name.split(separator: ":", omittingEmptySubsequences: false)
      guard parts.count == 3, let start = Int(parts[1]), let end = Int(parts[2]), start >= 0, end > start,
        end - start <= size
      else { throw fault("does not name a piece of a file") }
      (path, range) = (String(parts[0]), start..<end)
    }
    guard item["algorithm"]?.text == algorithm else {
      throw fault("has a digest by \(item["algorithm"]?.kind ?? "nothing"), not by \(algorithm)")
    }
    guard path == loneFile || SignedFile.isPlain(path) else { throw fault("is not inside the model") }
    return Resource(path: path, range: range, sha256: digest)
  }
}

// MARK: - By file

/// All digests of one file in a statement.
package struct SignedFile: Hashable, Sendable {
  package let path: String
  /// In order and without gaps; a single one where files are hashed whole.
  package let pieces: [ModelStatement.Resource]

  /// Its size, if the statement gives it.
  package var byteCount: Int? { pieces.last?.range?.upperBound }

  /// Whether a path is relative and only leads downwards.
  static func isPlain(_ path: String) -> Bool {
    path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
      !$0.isEmpty && $0 != "." && $0 != ".." && !$0.utf8.contains(0)
    }
  }
}

extension ModelStatement {
  /// The files in the order in which they are first named.
  package var files: [SignedFile] {
    var order: [String] = []
    var pieces: [Bytewise: [Resource]] = [:]
    for resource in resources {
      if pieces[Bytewise(text: resource.path)] == nil { order.append(resource.path) }
      pieces[Bytewise(text: resource.path), default: []].append(resource)
    }
    return order.map { path in
      let own = pieces[Bytewise(text: path)] ?? []
      return SignedFile(
        path: path, pieces: own.sorted { ($0.range?.lowerBound ?? 0) < ($1.range?.lowerBound ?? 0) })
    }
  }

  /// Whether the signature leaves out a path or one of its parent folders.
  package func ignores(_ path: String) -> Bool { Self.ignores(path, ignoredPaths) }

  /// Whether a path or one of its parent folders is among the ignored paths.
  package static func ignores(_ path: String, _ ignoredPaths: [String]) -> Bool {
    let components = path.split(separator: "/")
    return ignoredPaths.contains { ignored in
      !ignored.hasPrefix("/")
        && components.starts(with: ignored.split(separator: "/").filter { $0 != "." }) {
          $0.utf8.elementsEqual($1.utf8)
        }
    }
  }

  /// - Throws: `.malformed` if a file appears twice, has gaps between its pieces, or is one of several where there
  ///   should be one.
  private func checkPieces() throws(CheckpointError) {
    let files = files
    guard !files.contains(where: { $0.path == Self.loneFile }) || files.count == 1 else {
      throw Statement.fault("it is for a single file, but names others")
    }
    for file in files {
      guard case .shards(let size) = method else {
        guard file.pieces.count == 1 else {
          throw Statement.fault("the file '\(file.path.printable)' appears twice")
        }
        continue
      }
      for (index, piece) in file.pieces.enumerated() {
        let isLast = index == file.pieces.count - 1
        let (start, overflow) = index.multipliedReportingOverflow(by: size)
        guard let range = piece.range, !overflow, range.lowerBound == start, isLast || range.count == size
        else {
          throw Statement.fault("the pieces of '\(file.path.printable)' do not add up to a file")
        }
      }
    }
  }
}
