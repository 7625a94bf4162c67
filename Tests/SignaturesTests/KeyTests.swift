import ByteStreams
import Crypto
import Foundation
import Signatures
import TensorFormats
import Testing

/// Keys in PEM files: those that work, and those that are refused with a reason.
@Suite struct KeyTests {
  private static let bytes = Array("what is signed".utf8)

  private static let pairs: [(curve: EllipticCurve, pem: String, publicPEM: String)] = {
    let (a, b, c) = (P256.Signing.PrivateKey(), P384.Signing.PrivateKey(), P521.Signing.PrivateKey())
    return [
      (.p256, a.pemRepresentation, a.publicKey.pemRepresentation),
      (.p384, b.pemRepresentation, b.publicKey.pemRepresentation),
      (.p521, c.pemRepresentation, c.publicKey.pemRepresentation),
    ]
  }()

  @Test("a signature is valid for its own key only, on each curve", arguments: [0, 1, 2])
  func curves(index: Int) throws {
    let pair = Self.pairs[index]
    let key = try SigningKey(pem: Array(pair.pem.utf8))
    let signature = try key.signature(of: Self.bytes)
    for (other, candidate) in Self.pairs.enumerated() {
      let verifying = try VerifyingKey(pem: Array(candidate.publicPEM.utf8))
      #expect(verifying.curve == candidate.curve)
      #expect(verifying.isValid(signature, of: Self.bytes) == (other == index))
      #expect((verifying.fingerprint == key.publicKey.fingerprint) == (other == index))
    }
    #expect(!key.publicKey.isValid(signature, of: Self.bytes + [0]))
    #expect(
      try !key.publicKey.isValid(SigningKey(pem: Array(pair.pem.utf8)).signature(of: []), of: Self.bytes))
  }

  @Test("every flipped bit of a signature is noticed")
  func flips() throws {
    let key = try SigningKey(pem: Array(Self.pairs[0].pem.utf8))
    let signature = try key.signature(of: Self.bytes)
    for bit in 0..<signature.count * 8 {
      var changed = signature
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(!key.publicKey.isValid(changed, of: Self.bytes), "bit \(bit)")
    }
    for count in 0..<signature.count {
      #expect(!key.publicKey.isValid(Array(signature.prefix(count)), of: Self.bytes))
    }
    #expect(!key.publicKey.isValid(signature + [0], of: Self.bytes))
  }

  @Test("the fingerprint is model_signing's")
  func fingerprint() throws {
    let bundle = try SigstoreBundle(parsing: SignedByOthers.bundle("files.sig"))
    #expect(try "\(SignedByOthers.key().fingerprint)" == bundle.keyHint)
  }

  private static let refused: [(text: String, code: CheckpointError.Code, word: String)] = [
    ("", .malformed, "is not a PEM file"),
    ("not a key", .malformed, "is not a PEM file"),
    ("-----BEGIN PRIVATE KEY-----\nAAAA\n", .malformed, "does not end"),
    ("-----BEGIN PRIVATE KEY-----\nAA*A\n-----END PRIVATE KEY-----\n", .malformed, "damaged"),
    ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", .malformed, "damaged"),
    ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", .unsupported, "P-256"),
    ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", .unsupported, "P-256"),
    (
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", .unsupported,
      "encrypted"
    ),
    (
      "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n"
        + "-----END EC PRIVATE KEY-----\n", .unsupported, "encrypted"
    ),
    ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", .unsupported, "CERTIFICATE"),
  ]

  @Test("invalid private keys are refused", arguments: refused.indices)
  func refusedPrivate(index: Int) {
    let (text, code, word) = Self.refused[index]
    let error = #expect(throws: CheckpointError.self) { try SigningKey(pem: Array(text.utf8)) }
    #expect(error?.code == code && error?.message.contains(word) == true, "\(String(describing: error))")
  }

  @Test("invalid public keys are refused, a private key with a remedy")
  func refusedPublic() {
    let error = #expect(throws: CheckpointError.self) { try VerifyingKey(pem: Array(Self.pairs[0].pem.utf8)) }
    #expect(error?.code == .unsupported && error?.remedy?.contains("-pubout") == true)
    let other = #expect(throws: CheckpointError.self) {
      try SigningKey(pem: Array(Self.pairs[0].publicPEM.utf8))
    }
    #expect(other?.code == .unsupported && other?.message.contains("no private key") == true)
  }

  @Test("CRLF, text around the block and leading OpenSSL parameters are accepted")
  func spelling() throws {
    let pem = Self.pairs[0].pem
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    let plain = try SigningKey(pem: Array(pem.utf8)).publicKey.fingerprint
    for text in [pem.replacing("\n", with: "\r\n"), "a note\n\(pem)\nanother\n", parameters + pem] {
      #expect(try SigningKey(pem: Array(text.utf8)).publicKey.fingerprint == plain)
    }
    let error = #expect(throws: CheckpointError.self) { try SigningKey(pem: Array((pem + "\n" + pem).utf8)) }
    #expect(error?.code == .unsupported)
  }

  @Test("a key of another curve with the same length is refused")
  func otherCurves() throws {
    // secp256k1 (1.3.132.0.10) has numbers of 32 bytes, like P-256.
    let p256: [UInt8] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]
    let k256: [UInt8] = [0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x0A]
    func tagged(_ tag: UInt8, _ parts: [UInt8]...) -> [UInt8] {
      let content = parts.flatMap(\.self)
      return [tag, UInt8(content.count)] + content
    }
    let ecKey = tagged(0x06, [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01])
    let number = tagged(0x04, [UInt8](repeating: 7, count: 32))
    func pem(_ label: String, _ bytes: [UInt8]) -> [UInt8] {
      Array("-----BEGIN \(label)-----\n\(Data(bytes).base64EncodedString())\n-----END \(label)-----\n".utf8)
    }
    func pkcs8(_ curve: [UInt8]) -> [UInt8] {
      let inner = tagged(0x30, tagged(0x02, [1]), number)
      return pem(
        "PRIVATE KEY", tagged(0x30, tagged(0x02, [0]), tagged(0x30, ecKey, curve), tagged(0x04, inner)))
    }
    func sec1(_ curve: [UInt8]?) -> [UInt8] {
      pem("EC PRIVATE KEY", tagged(0x30, tagged(0x02, [1]), number, curve.map { tagged(0xA0, $0) } ?? []))
    }
    #expect(
      try SigningKey(pem: pkcs8(p256)).publicKey.fingerprint
        == SigningKey(pem: sec1(p256)).publicKey.fingerprint)
    for text in [pkcs8(k256), sec1(k256), sec1(nil)] {
      let error = #expect(throws: CheckpointError.self) { try SigningKey(pem: text) }
      #expect(error?.code == .unsupported)
    }
  }
}
