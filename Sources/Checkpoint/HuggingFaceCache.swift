internal import ByteStreams
internal import TensorFormats

/// The directories in which Hugging Face's client keeps what it downloaded: `models--OWNER--NAME` with the files of all
/// revisions in `blobs`, a directory of links into it for each revision in `snapshots`, and the revision that a branch
/// points to in `refs`.
///
/// Source: the documentation of `huggingface_hub`, "Understand caching".
enum HuggingFaceCache {
  /// Resolves a path into such a cache; every other path is returned unchanged.
  ///
  /// The root and its three directories stand for the snapshot that `refs/main` names, or the only one; a blob for the
  /// link to it in a snapshot, beside which lies the rest of the model.
  ///
  /// - Throws: `.notFound` if there is no such snapshot, `.unsupported` if there are several and nothing says which;
  ///   `.inputOutput`.
  static func resolve(_ path: String) throws(CheckpointError) -> String {
    var trimmed = path[...]
    while trimmed.count > 1, trimmed.last == "/" { trimmed = trimmed.dropLast() }
    let (parent, name) = splitPath(String(trimmed))
    switch try FileSystem.kind(of: path) {
    case .directory?:
      if try isRoot(path) { return try snapshot(of: String(trimmed)) }
      if ["blobs", "snapshots", "refs"].contains(name), try isRoot(parent) {
        return try snapshot(of: parent)
      }
      return path
    case .file?:
      let (root, directory) = splitPath(parent)
      guard directory == "blobs", try isRoot(root) else { return path }
      return try link(to: name, in: root) ?? path
    default: return path
    }
  }

  private static func isRoot(_ path: String) throws(CheckpointError) -> Bool {
    let store = DirectoryStore(path)
    guard try store.kind(of: "snapshots") == .directory else { return false }
    if try store.kind(of: "blobs") == .directory { return true }
    return try store.kind(of: "refs") == .directory
  }

  private static func revisions(_ root: String) throws(CheckpointError) -> [String] {
    let snapshots = DirectoryStore(joinPath(root, "snapshots"))
    guard try snapshots.kind(of: "") == .directory else { return [] }
    var revisions: [String] = []
    for name in try snapshots.names() where !name.hasPrefix(".") {
      if try snapshots.kind(of: name) == .directory { revisions.append(name) }
    }
    return revisions
  }

  /// The revision of the main branch, as the client last saw it.
  private static func main(_ root: String) -> String? {
    guard let bytes = try? DirectoryStore(root).read("refs/main", limit: 1024) else { return nil }
    let name = String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
    return name.isEmpty || name.contains("/") || name.hasPrefix(".") ? nil : name
  }

  private static func snapshot(of root: String) throws(CheckpointError) -> String {
    let revisions = try revisions(root)
    if let main = main(root) {
      if revisions.contains(main) { return joinPath(root, "snapshots", main) }
      let others = revisions.isEmpty ? "" : ", only of \(listed(revisions))"
      throw CheckpointError(
        .notFound, "refs/main names revision \(main.printable), which has no snapshot\(others)",
        path: root,
        remedy: "download the model again" + (revisions.isEmpty ? "" : ", or name a directory in snapshots"))
    }
    guard revisions.count <= 1 else {
      throw CheckpointError(
        .unsupported,
        "this cache has \(revisions.count) snapshots and no refs/main that names one: \(listed(revisions))",
        path: root, remedy: "name one of them, such as \(joinPath(root, "snapshots", revisions[0]))")
    }
    guard let only = revisions.first else {
      throw CheckpointError(
        .notFound, "this cache has no snapshot", path: root, remedy: "download the model again")
    }
    return joinPath(root, "snapshots", only)
  }

  /// The only link to a blob, or that of the main branch.
  private static func link(to blob: String, in root: String) throws(CheckpointError) -> String? {
    var links: [(revision: String, path: String)] = []
    for revision in try revisions(root) {
      let snapshot = DirectoryStore(joinPath(root, "snapshots", revision))
      for name in (try? snapshot.names()) ?? [] {
        let path = snapshot.path(of: name)
        guard let destination = FileSystem.linkDestination(of: path), splitPath(destination).name == blob
        else { continue }
        links.append((revision, path))
      }
    }
    if links.count == 1 { return links[0].path }
    let main = main(root)
    return links.first { $0.revision == main }?.path
  }
}

/// A list of names, shortened after the first few.
func listed(_ names: [String], most: Int = 4) -> String {
  names.prefix(most).map(\.printable).joined(separator: ", ") + (names.count > most ? ", ..." : "")
}
