/// Where the repository's test data is.
public enum Fixtures {
  /// The repository's root folder.
  public static let root: String = {
    // <root>/Tests/CheckpointTesting/Fixtures.swift
    let components = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    return components.dropLast(3).joined(separator: "/")
  }()

  /// The path of a file below `Fixtures/`.
  public static func path(_ relative: String) -> String { "\(root)/Fixtures/\(relative)" }
}
