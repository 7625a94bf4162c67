import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Crypto
import Foundation
import JSON
import PlanTesting
import ShardPlanning
import Signatures
import TensorFormats
import Testing

/// Conversion outputs, signed with the digests of their manifests.
@Suite struct SigningTests {
  private let directory: TemporaryDirectory
  private let output: String
  private let key: SigningKey

  init() async throws {
    directory = try TemporaryDirectory()
    output = directory.path("output")
    key = try SigningKey(pem: Array(P256.Signing.PrivateKey().pemRepresentation.utf8))
    let plan = try PlanRequest(
      format: .safetensors, recipe: "FP8_BLOCK", partition: .afd(ShardPlan.AFDLayout(ffnEP: 2))
    ).plan(Fixtures.path("checkpoints/tiny"))
    _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(into: output)
  }

  private func model(_ path: String? = nil, file: String? = nil) -> SignedModel {
    let store = DirectoryStore(path ?? output)
    return SignedModel(
      path: file.map { "\(store.path)/\($0)" } ?? store.path, store: store, unpacked: store, file: file)
  }

  @discardableResult
  private func sign(
    _ model: SignedModel? = nil, to file: String? = nil, provenance: String? = nil, hashing: Bool = false,
    overwriting: Bool = false
  ) async throws -> SigningSummary {
    let model = model ?? self.model()
    return try await ModelSigning(
      model, key: key,
      to: SignatureFile(file ?? model.signaturePath, overwriting: overwriting),
      provenance: provenance.map { try SignatureFile($0, overwriting: overwriting) },
      options: .init(threads: 2, hashesFiles: hashing)
    ).run()
  }

  private func verify(
    _ model: SignedModel? = nil, signature: String? = nil, provenance: String? = nil, byManifest: Bool = false
  ) async throws -> SignatureReport {
    try await SignatureVerification(
      model ?? self.model(), signature: signature, provenance: provenance, key: key.publicKey,
      options: .init(threads: 2, trustsManifest: byManifest)
    ).run()
  }

  /// Flips one bit in the middle of a file.
  private func flip(_ file: String, at place: Int? = nil) throws {
    let url = URL(filePath: "\(output)/\(file)")
    var bytes = try Data(contentsOf: url)
    bytes[place ?? bytes.count / 2] ^= 0x10
    try bytes.write(to: url)
  }

  private func weights() throws -> String {
    try #require(try Manifest.read(from: output).plan.files.first?.path)
  }

  @Test("all files of a partition set are signed without reading the weights")
  func partition() async throws {
    let weights = try weights()
    // The weights have been changed already: reading them would sign the change.
    try flip(weights)
    let summary = try await sign()
    let manifest = try Manifest.read(from: output)
    // The manifests of the whole and of its parts are not listed in any manifest.
    #expect(summary.files == manifest.files.count + 1 + manifest.plan.parts.count)
    #expect(summary.filesRead == 1 + manifest.plan.parts.count)
    let report = try await verify()
    #expect(report.findings.map { "\($0.kind) \($0.file)" } == ["changed \(weights)"])
    #expect(report.files == summary.files && report.rootDigest == summary.rootDigest)
    try flip(weights)
    #expect(try await verify().ok)
  }

  @Test("with hashing, changed files are not signed")
  func hashing() async throws {
    let weights = try weights()
    try flip(weights)
    let error = await #expect(throws: CheckpointError.self) { try await sign(hashing: true) }
    #expect(error?.code == .malformed && error?.path?.hasSuffix(weights) == true)
    #expect(!FileManager.default.fileExists(atPath: "\(output)/model.sig"))
    try flip(weights)
    let hashed = try await sign(to: directory.path("hashed.sig"), hashing: true)
    let recorded = try await sign(to: directory.path("recorded.sig"))
    #expect(hashed.rootDigest == recorded.rootDigest && hashed.bytesRead > recorded.bytesRead)
  }

  @Test("a change in any file is found and the file named")
  func everyFile() async throws {
    try await sign()
    let manifest = try Manifest.read(from: output)
    for file in manifest.files.map(\.path) + [
      "manifest.json", "\(manifest.plan.parts[0].directory)/manifest.json",
    ] {
      for place in [0, nil] {
        try flip(file, at: place)
        #expect(try await verify().findings.map(\.file) == [file])
        try flip(file, at: place)
      }
    }
  }

  @Test(
    "by manifest alone a changed weight goes unnoticed, as reported; a changed manifest does not"
  )
  func byManifest() async throws {
    try await sign()
    let report = try await verify(byManifest: true)
    let (files, bytes) = (try Manifest.read(from: output).files.count, try await verify().bytes)
    #expect(report.ok && report.filesByManifest == files && report.bytes < bytes)
    try flip(try weights())
    #expect(try await verify(byManifest: true).ok)
    #expect(try await !verify().ok)
  }

  @Test("an output with missing or resized files is not signed")
  func incomplete() async throws {
    let weights = try weights()
    let handle = try FileHandle(forUpdating: URL(filePath: "\(output)/\(weights)"))
    try handle.truncate(atOffset: 100)
    try handle.close()
    let error = await #expect(throws: CheckpointError.self) { try await sign() }
    #expect(error?.code == .malformed && error?.path?.hasSuffix(weights) == true)
    try FileManager.default.removeItem(atPath: "\(output)/\(weights)")
    let missing = await #expect(throws: CheckpointError.self) { try await sign() }
    #expect(missing?.code == .notFound && missing?.path?.hasSuffix(weights) == true)
  }

  @Test("without a manifest the files are hashed before signing")
  func withoutManifest() async throws {
    let model = try SignedByOthers.model(in: directory)
    let error = await #expect(throws: CheckpointError.self) {
      try await sign(model, to: directory.path("model.sig"))
    }
    #expect(error?.code == .notFound && error?.remedy?.contains("--hash") == true)
    let summary = try await sign(model, to: directory.path("model.sig"), hashing: true)
    // The digest that model_signing computed for the same files.
    #expect(summary.rootDigest == "a7ffc6d2be86e0d2afe62f6b533e1eecff53728cdca95250bcc1234e2391fe72")
    #expect(try await verify(model, signature: directory.path("model.sig")).ok)
  }

  @Test("a single file is signed by the manifest beside it")
  func loneFile() async throws {
    let weights = try #require(try Manifest.read(from: output + "/attention").plan.files.first?.path)
    let part = model(output + "/attention", file: weights)
    let path = directory.path("file.sig")
    let summary = try await sign(part, to: path)
    #expect(summary.files == 1 && summary.bytesRead == 0 && summary.subject == weights)
    #expect(try await verify(part, signature: path).ok)
    try flip("attention/\(weights)")
    #expect(try await verify(part, signature: path).findings.map(\.kind) == [.changed])
    // A file's signature is not valid for a directory, and the reverse.
    await #expect(throws: CheckpointError.self) { try await verify(signature: path) }
  }

  @Test("a signature is replaced only on request, and other files never")
  func overwriting() async throws {
    let first = try await sign()
    let error = await #expect(throws: CheckpointError.self) { try await sign() }
    #expect(error?.code == .cannotCreate)
    #expect(try await sign(overwriting: true).rootDigest == first.rootDigest)
    for path in ["\(output)/manifest.json", "\(output)/attention/config.json"] {
      let before = try Data(contentsOf: URL(filePath: path))
      await #expect(throws: CheckpointError.self) { try await sign(to: path, overwriting: true) }
      #expect(try Data(contentsOf: URL(filePath: path)) == before)
    }
    await #expect(throws: CheckpointError.self) { try await sign(to: "\(output)/attention/new.sig") }
    #expect(try await verify().ok)
  }

  @Test("provenance is signed with the model and agrees with the manifest")
  func provenance() async throws {
    let path = "\(output)/provenance.sig"
    let plain = try await sign(to: directory.path("plain.sig"))
    let summary = try await sign(provenance: path)
    #expect(summary.files == plain.files + 1)
    #expect(try await verify(provenance: path).ok)

    let statement = try Statement(in: SigstoreBundle(parsing: Array(Data(contentsOf: URL(filePath: path)))))
    let manifest = try Manifest.read(from: output)
    #expect(statement.predicateType == "https://slsa.dev/provenance/v1")
    #expect(statement.subjects.map(\.name) == manifest.files.map(\.path) + ["manifest.json"])
    let definition = statement.predicate["buildDefinition"]
    #expect(definition?["externalParameters"]?["request"]?["recipe"]?.text == "FP8_BLOCK")
    #expect(
      definition?["resolvedDependencies"]?.items?.map { $0["digest"]?["sha256"]?.text }
        == manifest.sources.map(\.sha256))

    // Everything signed that disagrees with the manifest is named.
    let sound = try Provenance(statement)
    var changes: [(Provenance, String)] = []
    var changed = sound
    changed.outputs[0].sha256 = .sha256(of: [])
    changes.append((changed, sound.outputs[0].name))
    changed = sound
    changed.sources.removeLast()
    changes.append((changed, "source file"))
    changed = sound
    changed.plan = .sha256(of: [])
    changes.append((changed, "plan"))
    changed = sound
    changed.version = "0"
    changes.append((changed, "version"))
    changed = sound
    changed.request = .object(["recipe": .string("Q8_0")])
    changes.append((changed, "request"))
    changed = sound
    changed.outputs.swapAt(0, 1)
    changes.append((changed, "order"))
    for (provenance, word) in changes {
      let other = directory.path("other.sig")
      try Data(SigstoreBundle(signing: provenance.statement, with: key).text).write(to: URL(filePath: other))
      let report = try await verify(provenance: other)
      #expect(report.findings.contains { $0.kind == .provenance && $0.message.contains(word) }, "\(word)")
      #expect(report.findings.allSatisfy { $0.kind == .provenance })
    }
    // The two kinds of statement are not interchangeable, and another key's signature is not valid.
    await #expect(throws: CheckpointError.self) { try await verify(signature: path) }
    await #expect(throws: CheckpointError.self) { try await verify(provenance: "\(output)/model.sig") }
    let stranger = try SigningKey(pem: Array(P256.Signing.PrivateKey().pemRepresentation.utf8))
    let forged = directory.path("forged.sig")
    try Data(SigstoreBundle(signing: sound.statement, with: stranger).text).write(to: URL(filePath: forged))
    #expect(try await verify(provenance: forged).findings.map(\.kind) == [.signature])
  }

  @Test("a signature of the source is not copied to the output")
  func notCopied() async throws {
    let source = directory.path("source")
    try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/tiny"), toPath: source)
    for name in ["model.sig", "NOTES.md"] {
      try Data("x".utf8).write(to: URL(filePath: "\(source)/\(name)"))
    }
    let plan = try PlanRequest().plan(source).plan
    #expect(plan.parts[0].copies.map(\.path).contains("NOTES.md"))
    #expect(!plan.parts[0].copies.map(\.path).contains("model.sig"))
    #expect(plan.omissions.map(\.what).contains("model.sig"))
  }
}
