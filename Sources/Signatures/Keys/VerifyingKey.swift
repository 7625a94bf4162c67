public import ByteStreams
internal import Crypto
public import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// The public half of an ECDSA key, which verifies signatures.
public struct VerifyingKey: Sendable {
  private enum Key: Sendable {
    case p256(P256.Signing.PublicKey)
    case p384(P384.Signing.PublicKey)
    case p521(P521.Signing.PublicKey)
  }

  private let key: Key

  init(_ key: P256.Signing.PublicKey) { self.key = .p256(key) }
  init(_ key: P384.Signing.PublicKey) { self.key = .p384(key) }
  init(_ key: P521.Signing.PublicKey) { self.key = .p521(key) }

  /// Reads the key in a file.
  ///
  /// - Throws: `.notFound`, `.inputOutput`; as ``init(pem:)``.
  public init(reading path: String) throws(CheckpointError) {
    self = try PEMBlock.read(path) { (text) throws(CheckpointError) in try VerifyingKey(pem: text) }
  }

  /// Reads the text of a PEM file with one block `PUBLIC KEY` (SubjectPublicKeyInfo, RFC 5480).
  ///
  /// - Throws: `.malformed` for anything that is not a PEM file or is damaged, `.unsupported` for a private key, a
  ///   certificate, and keys of other kinds and curves.
  public init(pem: [UInt8]) throws(CheckpointError) {
    let blocks = try PEMBlock.blocks(in: pem)
    guard blocks.count == 1, let block = blocks.first, block.label == "PUBLIC KEY" else {
      let labels = blocks.map { "'\($0.label.printable)'" }.joined(separator: ", ")
      throw CheckpointError(
        .unsupported, "holds \(labels), one block 'PUBLIC KEY' is expected",
        remedy: blocks.contains { $0.label.hasSuffix("PRIVATE KEY") }
          ? "extract the public half with: openssl pkey -in KEY -pubout -out PUBLIC"
          : blocks.contains { $0.label == "CERTIFICATE" }
            ? "extract its key with: openssl x509 -in CERTIFICATE -pubkey -noout -out PUBLIC" : nil)
    }
    if let key = try? P256.Signing.PublicKey(derRepresentation: block.bytes) {
      self.key = .p256(key)
    } else if let key = try? P384.Signing.PublicKey(derRepresentation: block.bytes) {
      self.key = .p384(key)
    } else if let key = try? P521.Signing.PublicKey(derRepresentation: block.bytes) {
      self.key = .p521(key)
    } else {
      throw Self.otherKind("public")
    }
  }

  static func otherKind(_ half: String) -> CheckpointError {
    CheckpointError(
      .unsupported,
      "holds no \(half) key for \(EllipticCurve.list): it has another curve or kind, or is damaged",
      remedy: "make a key with: openssl ecparam -name prime256v1 -genkey -noout -out KEY")
  }

  /// The curve of the key.
  public var curve: EllipticCurve {
    switch key {
    case .p256: .p256
    case .p384: .p384
    case .p521: .p521
    }
  }

  /// SHA-256 of the key's PEM file, as `model_signing` names keys in its bundles: `openssl pkey -pubin | sha256sum`.
  public var fingerprint: ByteStreams.Digest {
    let text =
      switch key {
      case .p256(let key): key.pemRepresentation
      case .p384(let key): key.pemRepresentation
      case .p521(let key): key.pemRepresentation
      }
    return .sha256(of: Array((text + "\n").utf8))
  }

  /// Whether a signature of these bytes was made by the private half of this key.
  ///
  /// - Parameter signature: In DER, as OpenSSL writes it. Anything not in that form is invalid.
  package func isValid(_ signature: [UInt8], of bytes: [UInt8]) -> Bool {
    switch key {
    case .p256(let key):
      (try? P256.Signing.ECDSASignature(derRepresentation: signature)).map {
        key.isValidSignature($0, for: bytes)
      } ?? false
    case .p384(let key):
      (try? P384.Signing.ECDSASignature(derRepresentation: signature)).map {
        key.isValidSignature($0, for: bytes)
      } ?? false
    case .p521(let key):
      (try? P521.Signing.ECDSASignature(derRepresentation: signature)).map {
        key.isValidSignature($0, for: bytes)
      } ?? false
    }
  }
}
