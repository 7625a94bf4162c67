internal import SystemPackage

/// Joins path components. Empty ones add nothing, and no slash is doubled.
package func joinPath(_ path: String, _ names: String...) -> String {
  var result = FilePath(path)
  for name in names where !name.isEmpty { result.append(name) }
  return result.string
}

/// Splits a path into its directory, `.` for a name alone, and its last component.
package func splitPath(_ path: String) -> (directory: String, name: String) {
  let path = FilePath(path)
  let directory = path.removingLastComponent().string
  return (directory.isEmpty ? "." : directory, path.lastComponent?.string ?? "")
}
