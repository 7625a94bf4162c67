public import ByteStreams

/// A file of a remote directory.
public struct RemoteFile: Hashable, Sendable {
  /// Its name in the directory.
  public let name: String
  /// Its size in bytes; `nil` if the server does not list it.
  public let byteCount: Int?
  /// The SHA-256 that the hub publishes; `nil` if it publishes none, as for small files stored in Git itself.
  public let sha256: Digest?
  /// The Git object ID of a file stored in Git itself: a SHA-1, which names the file in the hub's cache.
  let gitIdentifier: String?

  init(_ name: String, byteCount: Int? = nil, sha256: Digest? = nil, gitIdentifier: String? = nil) {
    self.name = name
    self.byteCount = byteCount
    self.sha256 = sha256
    self.gitIdentifier = gitIdentifier
  }

  /// Whether a name is a plain file name that cannot lead elsewhere.
  static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && name.utf8.count <= 255
      && !name.unicodeScalars.contains { $0 == "/" || $0 == "\\" || $0.value < 0x20 || $0.value == 0x7F }
  }
}
