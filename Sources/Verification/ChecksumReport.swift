/// The result of comparing a directory with its manifest.
public struct ChecksumReport: Codable, Hashable, Sendable {
  /// Whether every byte is as the manifest says.
  public var ok: Bool
  /// Whether there was a manifest. Without one only the structure of the files was checked.
  public var manifest: Bool
  /// Whether SHA-256 was compared, not only XXH3.
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

  /// One discrepancy.
  public struct Finding: Codable, Hashable, Sendable {
    /// The kind of finding.
    public enum Kind: String, Codable, Hashable, Sendable {
      /// The file is not there.
      case missing
      /// The file is in the directory but not in the manifest; fatal if engines would load it.
      case extra
      /// The file is shorter or longer than the manifest says.
      case size
      /// The bytes are not those that were written.
      case changed
      /// The file cannot be read.
      case unreadable
    }

    /// The kind of finding.
    public var kind: Kind
    /// The path below the directory.
    public var file: String
    /// The tensor concerned; `nil` for the header, padding and documents.
    public var tensor: String?
    /// The start of the compared range, from the start of the file.
    public var start: Int?
    /// The end of the range.
    public var end: Int?
    /// One sentence.
    public var message: String
    /// Whether this alone makes the check fail; an unknown text file beside the weights does not.
    public var fatal: Bool
  }
}
