internal import ByteStreams
internal import TensorFormats

/// The names in one directory.
struct DirectoryListing {
  let path: String
  /// Sorted, so that nothing depends on the order in which the file system lists them.
  let names: [String]

  init(_ path: String) throws(CheckpointError) {
    self.path = path
    names = try FileSystem.names(in: path)
  }

  func contains(_ name: String) -> Bool { names.contains(name) }

  func names(endingIn suffix: String) -> [String] {
    names.filter { $0.hasSuffix(suffix) && !$0.hasPrefix(".") }
  }
}

/// Splits a path into its directory and its last component.
package func splitPath(_ path: String) -> (directory: String, name: String) {
  guard let slash = path.lastIndex(of: "/") else { return (".", path) }
  let directory = path[..<slash]
  return (directory.isEmpty ? "/" : String(directory), String(path[path.index(after: slash)...]))
}
