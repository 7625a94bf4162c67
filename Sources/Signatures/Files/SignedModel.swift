public import ByteStreams
internal import Checkpoint
public import Locations
public import TensorFormats

/// A model to sign or to check: a directory with all its contents, or one file.
public struct SignedModel: Sendable {
  /// Its path, as the user gave it.
  public let path: String
  /// Its files, as stored.
  let store: any ByteStore
  /// Its files as the tools read them: for an archive, the files that it was made from.
  let unpacked: any ByteStore
  /// The file named; `nil` for all of them.
  let file: String?

  /// Describes a model.
  ///
  /// - Parameters:
  ///   - path: For messages and for its name.
  ///   - store: The model's directory, or the one that contains its file.
  ///   - unpacked: The same directory as the tools read it.
  ///   - file: The file's name, if the model is a single file.
  public init(path: String, store: any ByteStore, unpacked: any ByteStore, file: String? = nil) {
    self.path = path
    self.store = store
    self.unpacked = unpacked
    self.file = file
  }

  /// The model at a location.
  ///
  /// - Throws: `.invalidRequest` for a model on a server: its folders cannot be listed, so that missing and extra files
  ///   cannot be found.
  public init(_ location: Location) throws(CheckpointError) {
    guard location.stored.directory != nil else {
      throw CheckpointError(
        .invalidRequest, "is on a server, only local files can be signed or checked", path: location.path,
        remedy: "fetch the files first")
    }
    self.init(
      path: location.path, store: location.stored, unpacked: location.store,
      file: location.name == nil ? nil : splitPath(location.path).name)
  }

  /// The default name of its signature.
  var signatureName: String { file.map { $0 + OutputMarkers.signatureSuffix } ?? OutputMarkers.signature }

  /// The default path of its signature.
  public var signaturePath: String { store.path(of: signatureName) }

  /// The last component of its path, which is its name in the signature.
  var name: String {
    var components: [Substring] = []
    for component in FileSystem.absolute(path).split(separator: "/") where component != "." {
      if component == ".." { _ = components.popLast() } else { components.append(component) }
    }
    return components.last.map(String.init) ?? "/"
  }

  /// What `model_signing` ignores in a directory by default.
  static let gitPaths = [".git", ".gitattributes", ".github", ".gitignore"]

  /// The maximum number of files listed.
  private static let mostFiles = 1 << 20

  /// All files in the directory and its subfolders, in no particular order.
  ///
  /// - Parameters:
  ///   - store: The directory.
  ///   - isIgnored: Which paths are left out, with everything below them.
  ///   - followsLinks: Whether symbolic links to files are followed.
  /// - Throws: `.unsupported` for links that are not followed, links to directories, pipes and devices: a signature
  ///   could not say what a reader would find there. `.notFound`, `.inputOutput`.
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
            "is a link to a directory, which signatures do not follow", "replace it by its target")
        case .directory?: folders.append(path)
        case .file? where isLink && !followsLinks:
          throw refusal("is a symbolic link", "give --allow-symlinks to sign the file that it points to")
        case .file?:
          files.append(path)
          guard files.count <= mostFiles else {
            throw CheckpointError(.unsupported, "there are more than \(mostFiles) files", path: store.path)
          }
        case .other?: throw refusal("is a pipe, a socket or a device", "move it away")
        case nil: throw refusal("is a dangling link", "remove it, or fetch the file")
        }
      }
    }
    return files
  }
}
