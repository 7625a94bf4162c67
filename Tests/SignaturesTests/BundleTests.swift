import ByteStreams
import Crypto
import Foundation
import JSON
import Signatures
import TensorFormats
import Testing

/// The envelope: read, written, and refused if malformed or changed.
@Suite struct BundleTests {
  private let key: SigningKey
  private let statement = ModelStatement(
    name: "m", files: [.init(path: "a", sha256: .sha256(of: []))], ignoredPaths: ["model.sig"],
    allowsSymbolicLinks: false)

  init() throws {
    key = try SigningKey(pem: Array(P256.Signing.PrivateKey().pemRepresentation.utf8))
  }

  private func holds(_ text: [UInt8], _ key: VerifyingKey) -> Bool {
    guard let bundle = try? SigstoreBundle(parsing: text) else { return false }
    return bundle.keyHint == "\(key.fingerprint)" && bundle.isSigned(by: key)
  }

  @Test("a signed statement is read back")
  func roundTrip() throws {
    let bundle = try SigstoreBundle(signing: statement.statement, with: key)
    let read = try SigstoreBundle(parsing: bundle.text)
    #expect(read == bundle && holds(bundle.text, key.publicKey))
    #expect(try ModelStatement(Statement(in: read)) == statement)
  }

  @Test("every flipped bit of a bundle is noticed")
  func flips() throws {
    let text = try SigstoreBundle(signing: statement.statement, with: key).text
    #expect(holds(text, key.publicKey))
    for bit in 0..<text.count * 8 {
      var changed = text
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(!holds(changed, key.publicKey), "bit \(bit % 8) of byte \(bit / 8)")
    }
    for count in stride(from: 0, to: text.count - 1, by: 7) {
      #expect(!holds(Array(text.prefix(count)), key.publicKey))
    }
  }

  @Test("every flipped bit of a model_signing bundle is noticed", arguments: ["files.sig", "shards.sig"])
  func flipsOfOthers(name: String) throws {
    let (text, key) = (try SignedByOthers.bundle(name), try SignedByOthers.key())
    #expect(holds(text, key))
    for bit in stride(from: 0, to: text.count * 8, by: 3) {
      var changed = text
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(!holds(changed, key), "bit \(bit % 8) of byte \(bit / 8)")
    }
  }

  @Test("another key is refused, of the same curve or not")
  func otherKeys() throws {
    let text = try SigstoreBundle(signing: statement.statement, with: key).text
    for pem in [P256.Signing.PrivateKey().pemRepresentation, P384.Signing.PrivateKey().pemRepresentation] {
      let other = try SigningKey(pem: Array(pem.utf8)).publicKey
      #expect(!holds(text, other))
      #expect(try !SigstoreBundle(parsing: text).isSigned(by: other))
    }
  }

  /// A change to a sound bundle's text, and the refusal.
  private static let changes: [(from: String, to: String, code: CheckpointError.Code, word: String)] = [
    ("\"mediaType\"", "\"mediatype\"", .malformed, "mediaType"),
    ("v0.3+json", "v0.2+json", .unsupported, "media type"),
    ("\"tlogEntries\": []", "\"tlogEntries\": 1", .malformed, "tlogEntries"),
    ("\"tlogEntries\": []", "\"certificate\": {}", .unsupported, "Sigstore identity"),
    ("\"tlogEntries\": []", "\"more\": {}", .malformed, "'more'"),
    ("\"publicKey\"", "\"x509CertificateChain\"", .unsupported, "certificate"),
    ("\"dsseEnvelope\"", "\"messageSignature\"", .unsupported, "message"),
    ("\"dsseEnvelope\"", "\"envelope\"", .malformed, "'envelope'"),
    ("\"signatures\": [", "\"signatures\": [{}, ", .malformed, "2 signatures"),
    ("\"keyid\": \"\"", "\"keyid\": \"k\"", .unsupported, "keyid"),
    ("\"payload\": \"", "\"payload\": \"=", .malformed, "base64"),
    ("\"payload\": \"", "\"payload\": \" ", .malformed, "base64"),
    ("\"sig\": \"", "\"sig\": \"\\n", .malformed, "base64"),
    ("\"sig\"", "\"sig\": \"\", \"sig\"", .malformed, "twice"),
  ]

  @Test("a bundle of another form is refused with a reason", arguments: changes.indices)
  func refused(index: Int) throws {
    let (from, to, code, word) = Self.changes[index]
    let text = String(
      decoding: try SigstoreBundle(signing: statement.statement, with: key).text, as: UTF8.self)
    #expect(text.contains(from), "\(text)")
    let changed = text.replacing(from, with: to, maxReplacements: 1)
    let error = #expect(throws: CheckpointError.self) { try SigstoreBundle(parsing: Array(changed.utf8)) }
    #expect(error?.code == code && error?.message.contains(word) == true, "\(String(describing: error))")
  }

  @Test("a bundle with a certificate is refused as such")
  func certificate() throws {
    let error = #expect(throws: CheckpointError.self) {
      try SigstoreBundle(parsing: SignedByOthers.bundle("certificate.sig"))
    }
    #expect(error?.code == .unsupported && error?.message.contains("certificate") == true)
  }

  @Test("a file that is not JSON is identified")
  func notJSON() {
    for text in [
      "", "[]", "{", "null", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    ] {
      #expect(throws: CheckpointError.self) { try SigstoreBundle(parsing: Array(text.utf8)) }
    }
  }
}
