public import ByteStreams

/// A file of a remote directory.
public struct RemoteFile: Hashable, Sendable {
  /// Its name in the directory.
  public let name: String
  /// How many bytes it has; `nil` where the server does not list that.
  public let byteCount: Int?
  /// The SHA-256 that the hub publishes; `nil` where it publishes none, as for small files that Git keeps itself.
  public let sha256: Digest?
  /// Git's own identifier of a file that it keeps itself: a SHA-1, which names the file in the hub's cache.
  let gitIdentifier: String?

  init(_ name: String, byteCount: Int? = nil, sha256: Digest? = nil, gitIdentifier: String? = nil) {
    self.name = name
    self.byteCount = byteCount
    self.sha256 = sha256
    self.gitIdentifier = gitIdentifier
  }

  /// Whether a name is that of one file, and could not lead anywhere else.
  static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && name.utf8.count <= 255
      && !name.unicodeScalars.contains { $0 == "/" || $0 == "\\" || $0.value < 0x20 || $0.value == 0x7F }
  }
}
