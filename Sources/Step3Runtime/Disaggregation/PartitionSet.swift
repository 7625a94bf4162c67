internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// The parts of a partition set, as their `config.json` files describe them; weights are not opened.
struct PartitionSet: Sendable {
  /// One directory.
  struct Part: Sendable {
    let name: String
    let path: String
    let identity: PartIdentity
  }

  let path: String
  /// By rank.
  let attention: [Part]
  /// By rank.
  let ffn: [Part]
  /// The vision part, if any.
  let vision: Part?

  /// Whether the FFN side chooses the experts.
  var routesInFFN: Bool { ffn.first?.identity.routesInFFN ?? false }

  /// Finds the parts below a directory.
  ///
  /// - Throws: `.invalidRequest` if it is not a partition set; `.notFound` for a rank that is missing, `.malformed` for
  ///   one that appears twice, for parts of different partitions, and for two parts with swapped names.
  init(_ path: String) throws(CheckpointError) {
    var parts: [Part] = []
    let set = DirectoryStore(path)
    for name in try set.names() where try set.kind(of: name) == .directory {
      let part = set.folder(name)
      guard try part.kind(of: ConfigurationDocument.name) == .file else { continue }
      let text = try part.read(ConfigurationDocument.name, limit: OutputMarkers.largestTextFile)
      let path = part.path(of: ConfigurationDocument.name)
      guard let record = try PartitionRecord(ConfigurationDocument(text, path: path)) else { continue }
      parts.append(Part(name: name, path: part.path, identity: record.identity))
    }
    guard !parts.isEmpty else {
      throw CheckpointError(
        .invalidRequest, "this is not a partition set", path: path,
        remedy: "step3-convert --partition afd creates one")
    }
    try Self.checkNames(parts, path)
    self.path = path
    attention = try Self.ranks(.attention, of: parts, path)
    ffn = try Self.ranks(.ffn, of: parts, path)
    let vision = parts.filter { $0.identity.role == .vision }
    guard vision.count <= 1 else { throw Self.doubled(vision[0], vision[1], path) }
    self.vision = vision.first
    guard Set((attention + ffn).map(\.identity.routesInFFN)).count == 1 else {
      throw CheckpointError(
        .malformed, "only some parts have the router on the attention side", path: path)
    }
  }

  /// The parts of a role by rank, each exactly once.
  private static func ranks(
    _ role: PartRole, of parts: [Part], _ path: String
  ) throws(CheckpointError) -> [Part] {
    let own = parts.filter { $0.identity.role == role }
    guard let first = own.first else {
      throw CheckpointError(.notFound, "there is no \(role.rawValue) part", path: path)
    }
    var found = [Part?](repeating: nil, count: first.identity.position.ranks)
    for part in own {
      guard part.identity.position.ranks == found.count,
        part.identity.tensorParallel.ranks == first.identity.tensorParallel.ranks
      else {
        throw CheckpointError(
          .malformed,
          "\(first.name) and \(part.name) belong to different partitions: of \(found.count) and "
            + "\(part.identity.position.ranks) ranks", path: path)
      }
      let rank = part.identity.position.rank
      if let other = found[rank] { throw doubled(other, part, path) }
      found[rank] = part
    }
    var complete: [Part] = []
    for (rank, part) in found.enumerated() {
      guard let part else {
        throw CheckpointError(
          .notFound,
          "\(role.rawValue) rank \(rank) of \(found.count) is missing (\(first.identity.name(of: rank)))",
          path: path)
      }
      complete.append(part)
    }
    return complete
  }

  /// Other names are fine, but not another part's standard name, because engines are started by directory.
  private static func checkNames(_ parts: [Part], _ path: String) throws(CheckpointError) {
    let standard = Set(parts.map(\.identity.standardName))
    for part in parts where part.name != part.identity.standardName && standard.contains(part.name) {
      throw CheckpointError(
        .malformed, "the directory \(part.name) holds the part \(part.identity.standardName)", path: path,
        remedy: "parts were swapped, or one was copied over another")
    }
  }

  private static func doubled(_ first: Part, _ second: Part, _ path: String) -> CheckpointError {
    CheckpointError(
      .malformed,
      "\(first.name) and \(second.name) are both \(first.identity.role.rawValue) rank "
        + "\(first.identity.position.rank)", path: path)
  }
}
