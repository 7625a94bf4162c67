import ByteStreams
import CheckpointTesting
import Crypto
import Foundation
import Signatures
import TensorFormats
import Testing

/// Models signed by model_signing, sound and changed.
@Suite struct SignatureVerificationTests {
  private let directory: TemporaryDirectory
  private let model: SignedModel

  private static let byteCount = SignedByOthers.files.reduce(0) { $0 + $1.text.utf8.count }

  init() throws {
    directory = try TemporaryDirectory()
    model = try SignedByOthers.model(in: directory)
  }

  private func check(
    _ signature: String? = SignedByOthers.path("files.sig"), ignoringUnsigned: Bool = false,
    links: Bool = false
  ) async throws -> SignatureReport {
    try await SignatureVerification(
      model, signature: signature, key: SignedByOthers.key(),
      options: .init(threads: 2, ignoresUnsignedFiles: ignoringUnsigned, followsLinks: links)
    ).run()
  }

  private func write(_ text: String, to name: String) throws {
    try Data(text.utf8).write(to: URL(filePath: "\(model.path)/\(name)"))
  }

  private func remove(_ name: String) throws {
    try FileManager.default.removeItem(atPath: "\(model.path)/\(name)")
  }

  @Test("a sound model passes", arguments: ["files.sig", "shards.sig"])
  func sound(name: String) async throws {
    let report = try await check(SignedByOthers.path(name))
    #expect(report.ok && report.findings == [])
    #expect(
      report.files == (name == "files.sig" ? 5 : 4) && report.bytes == Self.byteCount
        && report.subject == "model")
  }

  @Test(
    "every flipped bit of every file is found and the file named", arguments: ["files.sig", "shards.sig"])
  func flips(name: String) async throws {
    for file in SignedByOthers.files {
      let text = Array(file.text.utf8)
      for bit in stride(from: 0, to: text.count * 8, by: 5) {
        var changed = text
        changed[bit / 8] ^= 1 << (bit % 8)
        try Data(changed).write(to: URL(filePath: "\(model.path)/\(file.path)"))
        let report = try await check(SignedByOthers.path(name))
        #expect(!report.ok && report.findings.map(\.kind) == [.changed])
        #expect(report.findings.map(\.file) == [file.path])
      }
      try Data(text).write(to: URL(filePath: "\(model.path)/\(file.path)"))
    }
    #expect(try await check(SignedByOthers.path(name)).ok)
  }

  @Test("missing, longer, shorter and extra files are distinguished")
  func names() async throws {
    try remove("sub-1")
    try write("weights and more", to: "a.safetensors")
    try write("", to: "config.json")
    try write("y", to: "sub/y")
    let report = try await check()
    #expect(
      report.findings.map { "\($0.kind) \($0.file)" } == [
        "changed a.safetensors", "changed config.json", "missing sub-1", "extra sub/y",
      ])
    #expect(try await check(ignoringUnsigned: true).findings.count == 3)
    let pieces = try await check(SignedByOthers.path("shards.sig"))
    #expect(pieces.findings.map(\.file) == ["a.safetensors", "config.json", "sub-1", "sub/y"])
  }

  @Test("files that the signature ignores are listed without failing the check, except the signature itself")
  func ignored() async throws {
    try FileManager.default.createDirectory(atPath: "\(model.path)/.git", withIntermediateDirectories: true)
    try write("x", to: ".git/config")
    try write("x", to: ".gitattributes")
    try Data(SignedByOthers.bundle("files.sig")).write(to: URL(filePath: "\(model.path)/model.sig"))
    for signature in [nil, "\(model.path)/model.sig"] {
      let report = try await check(signature)
      #expect(report.ok && report.ignored == [".git", ".gitattributes"])
    }
    try write("x", to: "sub/.gitattributes")
    #expect(try await check(nil).findings.map(\.file) == ["sub/.gitattributes"])
  }

  @Test("links to files are followed only on request, and links to directories never")
  func links() async throws {
    try remove("sub-1")
    try Data("q".utf8).write(to: URL(filePath: directory.path("elsewhere")))
    try FileManager.default.createSymbolicLink(
      atPath: "\(model.path)/sub-1", withDestinationPath: directory.path("elsewhere"))
    let error = await #expect(throws: CheckpointError.self) { try await check() }
    #expect(error?.code == .unsupported && error?.remedy?.contains("--allow-symlinks") == true)
    #expect(try await check(links: true).ok)
    try FileManager.default.createSymbolicLink(
      atPath: "\(model.path)/linked", withDestinationPath: "\(model.path)/sub")
    await #expect(throws: CheckpointError.self) { try await check(links: true) }
  }

  @Test("with another key the statement is not used and no file is read")
  func otherKey() async throws {
    for pem in [
      P256.Signing.PrivateKey().publicKey.pemRepresentation,
      P521.Signing.PrivateKey().publicKey.pemRepresentation,
    ] {
      let verification = try SignatureVerification(
        model, signature: SignedByOthers.path("files.sig"), key: VerifyingKey(pem: Array(pem.utf8)),
        options: .init(threads: 1))
      #expect(verification.byteCount == 0)
      let report = try await verification.run()
      #expect(!report.ok && report.findings.map(\.kind) == [.signature] && report.subject == nil)
    }
  }

  @Test("a root digest that does not follow from the files' digests is found, signed or not")
  func root() async throws {
    let key = try SigningKey(pem: Array(P256.Signing.PrivateKey().pemRepresentation.utf8))
    var statement = ModelStatement(
      name: "model", files: [.init(path: "empty", sha256: .sha256(of: []))], ignoredPaths: [],
      allowsSymbolicLinks: false
    ).statement
    statement.subjects = [Statement.Resource(name: "model", sha256: .sha256(of: []))]
    let path = directory.path("wrong.sig")
    try Data(SigstoreBundle(signing: statement, with: key).text).write(to: URL(filePath: path))
    let report = try await SignatureVerification(
      model, signature: path, key: key.publicKey, options: .init(threads: 1, ignoresUnsignedFiles: true)
    ).run()
    #expect(!report.ok && report.findings.map(\.kind) == [.root])
  }

  @Test("an unreadable file is reported as unread, not as a difference")
  func unreadable() async throws {
    let store = FailingStore(base: DirectoryStore(model.path), name: "a.safetensors", failsAt: 3)
    let broken = SignedModel(path: model.path, store: store, unpacked: store)
    let report = try await SignatureVerification(
      broken, signature: SignedByOthers.path("files.sig"), key: SignedByOthers.key(),
      options: .init(threads: 2)
    ).run()
    #expect(!report.ok && report.isIncomplete && report.findings.map(\.kind) == [.unreadable])
  }
}
