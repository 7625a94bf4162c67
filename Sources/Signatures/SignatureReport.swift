/// What checking a signature found.
public struct SignatureReport: Codable, Hashable, Sendable {
  /// Whether the key made the signature and everything in it is true.
  public var ok: Bool
  /// The signature's file.
  public var signature: String
  /// The provenance statement's file; `nil` if none was checked.
  public var provenance: String?
  /// The key that it was checked with.
  public var key: KeySummary
  /// The model's name in the signature; `nil` if the key did not make it, so that its content is not trusted.
  public var subject: String?
  /// The root digest in the signature; `nil` as for ``subject``.
  public var rootDigest: String?
  /// The number of signed files.
  public var files: Int
  /// The number of them that were compared with the manifest's digests instead of being read.
  public var filesByManifest: Int
  /// The number of bytes read.
  public var bytes: Int
  /// Existing files that the signature leaves out.
  public var ignored: [String]
  /// The problems found, by file.
  public var findings: [Finding]

  /// Whether something could not be read, so that nothing is known about it.
  public var isIncomplete: Bool { findings.contains { $0.kind == .unreadable } }

  /// One problem.
  public struct Finding: Codable, Hashable, Sendable {
    /// The kind of problem.
    public enum Kind: String, Codable, Hashable, Sendable {
      /// The key did not make the signature.
      case signature
      /// The root digest does not match the file digests.
      case root
      /// The file's content differs.
      case changed
      /// The file is signed but missing.
      case missing
      /// The file exists but is not signed.
      case extra
      /// The file cannot be read.
      case unreadable
      /// The provenance statement differs from the manifest.
      case provenance
    }

    /// The kind of problem.
    public var kind: Kind
    /// The path below the model, or that of the signature.
    public var file: String
    /// One sentence for people.
    public var message: String
  }
}
