internal import ByteStreams
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Path patterns that no shell has expanded: quoted, or passed by a program.
enum PathPattern {
  /// Whether an argument is a pattern: it has a wildcard character, and no file exists at the literal path.
  /// Addresses are never patterns.
  ///
  /// - Throws: What checking the path throws.
  static func isPattern(_ argument: String) throws(CheckpointError) -> Bool {
    guard argument.contains(where: { "*?[".contains($0) }), !argument.contains("://") else { return false }
    return try FileSystem.kind(of: argument) == nil
  }

  /// The matching paths, in byte order.
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
        .notFound, "nothing matches this pattern", path: pattern,
        remedy: "* matches any part of a name except /; patterns do not descend into directories")
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
