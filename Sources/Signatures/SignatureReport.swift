/// What checking a signature found.
public struct SignatureReport: Codable, Hashable, Sendable {
  /// Whether the key made the signature, and all that it says is so.
  public var ok: Bool
  /// The signature's file.
  public var signature: String
  /// The provenance statement's file; `nil` if none was to be checked.
  public var provenance: String?
  /// The key that it was checked with.
  public var key: KeySummary
  /// The name that the signature has for the model; `nil` if the key did not make it, so that nothing it says counts.
  public var subject: String?
  /// The root digest in the signature; `nil` as for ``subject``.
  public var rootDigest: String?
  /// Files that are signed.
  public var files: Int
  /// Those of them that were compared with the manifest's digest, and not read.
  public var filesByManifest: Int
  /// Bytes read.
  public var bytes: Int
  /// Files that are there and that the signature says it leaves out.
  public var ignored: [String]
  /// What is wrong, by file.
  public var findings: [Finding]

  /// Whether something could not be read, so that nothing is known about it.
  public var isIncomplete: Bool { findings.contains { $0.kind == .unreadable } }

  /// One thing that is not as it should be.
  public struct Finding: Codable, Hashable, Sendable {
    /// What kind of thing.
    public enum Kind: String, Codable, Hashable, Sendable {
      /// The key did not make the signature.
      case signature
      /// The root digest is not that of the digests below it.
      case root
      /// The file has other bytes.
      case changed
      /// The file is signed and not there.
      case missing
      /// The file is there and not signed.
      case extra
      /// The file cannot be read.
      case unreadable
      /// The provenance statement says something else than the manifest.
      case provenance
    }

    /// What kind of thing.
    public var kind: Kind
    /// The path below the model, or that of the signature.
    public var file: String
    /// One sentence for people.
    public var message: String
  }
}
