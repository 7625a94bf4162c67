internal import ByteStreams
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Patterns of paths that no shell has expanded: in quotes, or from a program.
enum PathPattern {
  /// Whether an argument is a pattern: it has a character of one, and nothing stands at the path as it is written.
  /// Addresses are none.
  ///
  /// - Throws: What asking for the path throws.
  static func isPattern(_ argument: String) throws(CheckpointError) -> Bool {
    guard argument.contains(where: { "*?[".contains($0) }), !argument.contains("://") else { return false }
    return try FileSystem.kind(of: argument) == nil
  }

  /// The paths that match, in the order of their bytes.
  ///
  /// - Throws: `.notFound` if none does, `.inputOutput` if a directory cannot be read.
  static func paths(matching pattern: String) throws(CheckpointError) -> [String] {
    var found = unsafe glob_t()
    defer { unsafe globfree(&found) }
    let outcome = unsafe glob(pattern, GLOB_ERR, nil, &found)
    switch outcome {
    case 0: break
    case GLOB_NOMATCH:
      throw CheckpointError(
        .notFound, "nothing has a name that matches", path: pattern,
        remedy: "* stands for any part of a name but /; patterns do not go into directories by themselves")
    default:
      throw CheckpointError(.inputOutput, "a directory cannot be read", path: pattern)
    }
    var paths: [String] = []
    for index in 0..<Int(unsafe found.gl_pathc) {
      if let path = unsafe found.gl_pathv[index] { paths.append(unsafe String(cString: path)) }
    }
    return paths
  }
}
