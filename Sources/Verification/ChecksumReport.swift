/// What comparing a directory with its manifest found.
public struct ChecksumReport: Codable, Hashable, Sendable {
  /// Whether every byte is as the manifest says.
  public var ok: Bool
  /// Whether there was a manifest. Without one only the structure of the files was checked.
  public var manifest: Bool
  /// Whether SHA-256 was compared, not XXH3 alone.
  public var sha256: Bool
  /// The manifest's root digest in hexadecimal; `nil` without a manifest.
  public var rootDigest: String?
  /// Weight files and documents compared.
  public var files: Int
  /// Tensors compared.
  public var tensors: Int
  /// Bytes read.
  public var bytes: Int
  /// What is wrong, by file and position.
  public var findings: [Finding]

  /// Whether something could not be read, so that nothing is known about it.
  public var isIncomplete: Bool { findings.contains { $0.kind == .unreadable } }

  /// One thing that is not as it should be.
  public struct Finding: Codable, Hashable, Sendable {
    /// What kind of thing.
    public enum Kind: String, Codable, Hashable, Sendable {
      /// The file is not there.
      case missing
      /// The file is in the directory but not in the manifest; fatal where engines would load it.
      case extra
      /// The file is shorter or longer than the manifest says.
      case size
      /// The bytes are not those that were written.
      case changed
      /// The file cannot be read.
      case unreadable
    }

    /// What kind of thing.
    public var kind: Kind
    /// The path below the directory.
    public var file: String
    /// The tensor whose bytes they are; `nil` for the header, padding and documents.
    public var tensor: String?
    /// The first byte of the stretch that was compared, from the start of the file.
    public var start: Int?
    /// The first byte behind it.
    public var end: Int?
    /// One sentence for people.
    public var message: String
    /// Whether this alone makes the check fail; an unknown text file beside the weights does not.
    public var fatal: Bool
  }
}
