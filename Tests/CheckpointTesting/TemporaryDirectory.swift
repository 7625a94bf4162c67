import Foundation

/// A directory that is removed, with everything in it, when the last reference to it goes away.
public final class TemporaryDirectory: Sendable {
  /// Where it is.
  public let path: String

  /// Makes an empty directory below the system's temporary one.
  public init() throws {
    let url = FileManager.default.temporaryDirectory.appending(path: "step3-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path(percentEncoded: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of something inside.
  public func path(_ name: String) -> String { "\(path)/\(name)" }
}
