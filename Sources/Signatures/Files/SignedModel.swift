public import ByteStreams
internal import Checkpoint
public import Locations
public import TensorFormats

/// A model to sign or to check: a directory with all that is in it, or one file.
public struct SignedModel: Sendable {
  /// Its path, as the user gave it.
  public let path: String
  /// Its files, as they lie there.
  let store: any ByteStore
  /// The same as the tools read them: of an archive the files that it was made of.
  let unpacked: any ByteStore
  /// The one file that is meant; `nil` for all of them.
  let file: String?

  /// Names a model.
  ///
  /// - Parameters:
  ///   - path: For messages and for its name.
  ///   - store: The directory that it is, or lies in.
  ///   - unpacked: The same directory as the tools read it.
  ///   - file: The file below it, where it is one file alone.
  public init(path: String, store: any ByteStore, unpacked: any ByteStore, file: String? = nil) {
    self.path = path
    self.store = store
    self.unpacked = unpacked
    self.file = file
  }

  /// What lies at a location.
  ///
  /// - Throws: `.invalidRequest` for one on a server: what lies in folders there is not known, so that neither is what is
  ///   missing or too much.
  public init(_ location: Location) throws(CheckpointError) {
    guard location.stored.directory != nil else {
      throw CheckpointError(
        .invalidRequest, "is on a server, and signatures are of files on this machine", path: location.path,
        remedy: "fetch the files first")
    }
    self.init(
      path: location.path, store: location.stored, unpacked: location.store,
      file: location.name == nil ? nil : splitPath(location.path).name)
  }

  /// The name of the signature that belongs to it, where no other is given.
  var signatureName: String { file.map { $0 + OutputMarkers.signatureSuffix } ?? OutputMarkers.signature }

  /// Where that signature is.
  public var signaturePath: String { store.path(of: signatureName) }

  /// The last component of its path, which is the name that its signature has for it.
  var name: String {
    var components: [Substring] = []
    for component in FileSystem.absolute(path).split(separator: "/") where component != "." {
      if component == ".." { _ = components.popLast() } else { components.append(component) }
    }
    return components.last.map(String.init) ?? "/"
  }

  /// What `model_signing` leaves out of a directory unless it is told otherwise.
  static let gitPaths = [".git", ".gitattributes", ".github", ".gitignore"]

  /// The most files that are listed.
  private static let mostFiles = 1 << 20

  /// All files in the directory and below it, in no particular order.
  ///
  /// - Parameters:
  ///   - store: The directory.
  ///   - isIgnored: Which paths are left out, with all that is below them.
  ///   - followsLinks: Whether symbolic links to files are followed.
  /// - Throws: `.unsupported` for links that are not followed, links to directories, pipes and devices: what a signature
  ///   could say of them is not what a reader finds. `.notFound`, `.inputOutput`.
  static func files(
    in store: any ByteStore, followingLinks followsLinks: Bool, ignoring isIgnored: (String) -> Bool
  ) throws(CheckpointError) -> [String] {
    var files: [String] = []
    var folders = [""]
    while let folder = folders.popLast() {
      for name in try store.names(in: folder) {
        let path = joinPath(folder, name)
        guard !isIgnored(path) else { continue }
        let isLink =
          store.directory.map { FileSystem.linkDestination(of: joinPath($0, path)) != nil } ?? false
        func refusal(_ message: String, _ remedy: String) -> CheckpointError {
          CheckpointError(.unsupported, message, path: store.path(of: path), remedy: remedy)
        }
        switch try store.kind(of: path) {
        case .directory? where isLink:
          throw refusal(
            "is a link to a directory, which no signature looks into", "replace it by what it leads to")
        case .directory?: folders.append(path)
        case .file? where isLink && !followsLinks:
          throw refusal("is a symbolic link", "give --allow-symlinks to take the file that it leads to")
        case .file?:
          files.append(path)
          guard files.count <= mostFiles else {
            throw CheckpointError(.unsupported, "there are more than \(mostFiles) files", path: store.path)
          }
        case .other?: throw refusal("is a pipe, a socket or a device", "move it away")
        case nil: throw refusal("is a link that leads nowhere", "remove it, or fetch the file")
        }
      }
    }
    return files
  }
}
