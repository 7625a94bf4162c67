public import ByteStreams
internal import Crypto
public import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// The public half of an ECDSA key: by it signatures are checked.
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
  /// - Throws: `.malformed` for what is no PEM file or damaged, `.unsupported` for a private key, a certificate, and keys
  ///   of other kinds and curves.
  public init(pem: [UInt8]) throws(CheckpointError) {
    let blocks = try PEMBlock.blocks(in: pem)
    guard blocks.count == 1, let block = blocks.first, block.label == "PUBLIC KEY" else {
      let labels = blocks.map { "'\($0.label.printable)'" }.joined(separator: ", ")
      throw CheckpointError(
        .unsupported, "holds \(labels), where one block 'PUBLIC KEY' is wanted",
        remedy: blocks.contains { $0.label.hasSuffix("PRIVATE KEY") }
          ? "write the public half with: openssl pkey -in KEY -pubout -out PUBLIC"
          : blocks.contains { $0.label == "CERTIFICATE" }
            ? "write its key with: openssl x509 -in CERTIFICATE -pubkey -noout -out PUBLIC" : nil)
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
      .unsupported, "holds no \(half) key of \(EllipticCurve.list): another curve or kind, or a damaged one",
      remedy: "make a key with: openssl ecparam -name prime256v1 -genkey -noout -out KEY")
  }

  /// The curve that the key is a point of.
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

  /// Whether a signature is one of these bytes by the other half of this key.
  ///
  /// - Parameter signature: In DER, as OpenSSL writes it. What is none in that form is no signature of anything.
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
