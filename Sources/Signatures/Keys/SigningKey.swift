internal import Crypto
public import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// The private half of an ECDSA key, which signs statements.
public struct SigningKey: Sendable {
  private enum Key: Sendable {
    case p256(P256.Signing.PrivateKey)
    case p384(P384.Signing.PrivateKey)
    case p521(P521.Signing.PrivateKey)
  }

  private let key: Key

  /// Reads the key in a file.
  ///
  /// - Throws: `.notFound`, `.inputOutput`; as ``init(pem:)``.
  public init(reading path: String) throws(CheckpointError) {
    self = try PEMBlock.read(path) { (text) throws(CheckpointError) in try SigningKey(pem: text) }
  }

  /// Reads the text of a PEM file with a key in the form of SEC 1 (`EC PRIVATE KEY`, RFC 5915) or PKCS #8 (`PRIVATE
  /// KEY`, RFC 5958). The block of parameters that OpenSSL may write first is redundant.
  ///
  /// - Throws: `.malformed` for anything that is not a PEM file or is damaged, `.unsupported` for encrypted keys,
  ///   public ones, and those of other kinds and curves.
  public init(pem: [UInt8]) throws(CheckpointError) {
    let blocks = try PEMBlock.blocks(in: pem).filter { $0.label != "EC PARAMETERS" }
    guard !blocks.contains(where: { $0.isEncrypted || $0.label == "ENCRYPTED PRIVATE KEY" }) else {
      throw CheckpointError(
        .unsupported, "holds an encrypted key, which is not supported",
        remedy:
          "write it unencrypted, to a place that nobody else can read: openssl pkey -in KEY -out PLAIN")
    }
    guard blocks.count == 1, let block = blocks.first,
      ["EC PRIVATE KEY", "PRIVATE KEY"].contains(block.label)
    else {
      guard blocks.contains(where: { $0.label.hasSuffix("PRIVATE KEY") }) else {
        throw CheckpointError(
          .unsupported,
          "holds no private key, only \(blocks.map { "'\($0.label.printable)'" }.joined(separator: ", "))",
          remedy: "name the key that signs, not the one that verifies")
      }
      throw VerifyingKey.otherKind("private")
    }
    if let key = try? P256.Signing.PrivateKey(derRepresentation: block.bytes) {
      self.key = .p256(key)
    } else if let key = try? P384.Signing.PrivateKey(derRepresentation: block.bytes) {
      self.key = .p384(key)
    } else if let key = try? P521.Signing.PrivateKey(derRepresentation: block.bytes) {
      self.key = .p521(key)
    } else {
      throw VerifyingKey.otherKind("private")
    }
    guard publicKey.curve.isNamed(byPrivateKey: block.bytes, isPKCS8: block.label == "PRIVATE KEY") else {
      throw VerifyingKey.otherKind("private")
    }
  }

  /// The half that verifies.
  public var publicKey: VerifyingKey {
    switch key {
    case .p256(let key): VerifyingKey(key.publicKey)
    case .p384(let key): VerifyingKey(key.publicKey)
    case .p521(let key): VerifyingKey(key.publicKey)
    }
  }

  /// A DER signature of bytes. Each call gives a different one: ECDSA uses a random nonce.
  ///
  /// - Throws: `.unsupported` if the system has no random numbers.
  package func signature(of bytes: [UInt8]) throws(CheckpointError) -> [UInt8] {
    do {
      switch key {
      case .p256(let key): return Array(try key.signature(for: bytes).derRepresentation)
      case .p384(let key): return Array(try key.signature(for: bytes).derRepresentation)
      case .p521(let key): return Array(try key.signature(for: bytes).derRepresentation)
      }
    } catch {
      throw CheckpointError(.unsupported, "the key cannot sign: \("\(error)".printable)")
    }
  }
}
