import ByteStreams
import Foundation
import JSON
import Signatures
import TensorFormats
import Testing

/// Statements about a model, in model_signing's form.
@Suite struct StatementTests {
  private func others(_ name: String) throws -> ModelStatement {
    try ModelStatement(Statement(in: SigstoreBundle(parsing: SignedByOthers.bundle(name))))
  }

  @Test("files, order and root digest are those of model_signing")
  func files() throws {
    let read = try others("files.sig")
    let own = ModelStatement(
      name: "model",
      files: SignedByOthers.files.reversed().map {
        .init(path: $0.path, sha256: Digest.sha256(of: Array($0.text.utf8)))
      }, ignoredPaths: read.ignoredPaths, allowsSymbolicLinks: false)
    #expect(own == read)
    #expect(read.resources.map(\.path) == ["a.safetensors", "config.json", "empty", "sub/x", "sub-1"])
    #expect("\(read.rootDigest)" == "a7ffc6d2be86e0d2afe62f6b533e1eecff53728cdca95250bcc1234e2391fe72")
    #expect(read.rootDigest == read.statedRootDigest)
    #expect(try ModelStatement(own.statement) == own)
  }

  @Test("files are divided into shards as by model_signing")
  func shards() throws {
    let read = try others("shards.sig")
    #expect(read.method == .shards(4) && read.rootDigest == read.statedRootDigest)
    let weights = try #require(read.files.first)
    #expect(weights.path == "a.safetensors" && weights.byteCount == 7)
    #expect(weights.pieces.map(\.range) == [0..<4, 4..<7])
    #expect(weights.pieces[1].sha256 == Digest.sha256(of: Array("hts".utf8)))
    #expect(!read.files.contains { $0.path == "empty" })
    #expect(try ModelStatement(read.statement) == read)
  }

  @Test("an ignored path covers everything below it, and no path that merely begins alike")
  func ignoring() {
    let paths = [".git", "model.sig", "/config.json", "../sub", "a/./b"]
    for path in [".git", ".git/config", "model.sig", "a/b", "a/b/c"] {
      #expect(ModelStatement.ignores(path, paths))
    }
    for path in [".gitignore", "git", "sub/.git", "config.json", "sub", "a/bc", "a"] {
      #expect(!ModelStatement.ignores(path, paths), "\(path)")
    }
    #expect(ModelStatement.ignores("anything", ["."]))
  }

  private static let digest = String(repeating: "0a", count: 32)

  private static func payload(
    serialization: String = #""method": "files", "hash_type": "sha256", "allow_symlinks": false"#,
    resources: String? = nil, subject: String? = nil, type: String = Statement.type,
    predicateType: String = ModelStatement.predicateType
  ) -> String {
    let resources = resources ?? #"{"name": "a", "algorithm": "sha256", "digest": "\#(digest)"}"#
    let subject = subject ?? #"{"name": "m", "digest": {"sha256": "\#(digest)"}}"#
    return """
      {"_type": "\(type)", "subject": [\(subject)], "predicateType": "\(predicateType)", "predicate": {
      "serialization": {\(serialization)}, "resources": [\(resources)], "more": 1}}
      """
  }

  private static func resource(_ name: String, algorithm: String = "sha256", digest: String = digest)
    -> String
  {
    #"{"name": "\#(name)", "algorithm": "\#(algorithm)", "digest": "\#(digest)"}"#
  }

  private static let sharded =
    #""method": "shards", "hash_type": "sha256", "allow_symlinks": false, "shard_size": 4"#
  private static func pieces(_ names: String...) -> String {
    names.map { resource($0, algorithm: "sha256-sharded-4") }.joined(separator: ", ")
  }

  private static let unsound: [(payload: String, code: CheckpointError.Code)] = [
    ("", .malformed), ("{}", .malformed), ("[1]", .malformed),
    (payload(type: "https://in-toto.io/Statement/v0.1"), .unsupported),
    (payload(predicateType: "https://model_signing/Digests/v0.1"), .unsupported),
    (payload(predicateType: Provenance.predicateType), .unsupported),
    (payload(subject: ""), .malformed),
    (payload(subject: #"{"name": "m", "digest": {"sha256": "00"}}"#), .malformed),
    (payload(subject: #"{"name": "m", "digest": {"sha512": "\#(digest)"}}"#), .malformed),
    (
      payload(serialization: #""method": "files", "hash_type": "blake2b", "allow_symlinks": false"#),
      .unsupported
    ),
    (
      payload(serialization: #""method": "tensors", "hash_type": "sha256", "allow_symlinks": false"#),
      .unsupported
    ),
    (
      payload(serialization: #""method": "files", "hash_type": "sha256", "allow_symlinks": "no""#), .malformed
    ),
    (
      payload(
        serialization: #""method": "files", "hash_type": "sha256", "allow_symlinks": false, "salt": 1"#),
      .unsupported
    ),
    (
      payload(
        serialization:
          #""method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": [1]"#),
      .malformed
    ),
    (payload(resources: resource("a") + ", " + resource("a")), .malformed),
    (payload(resources: resource("../a")), .malformed), (payload(resources: resource("/a")), .malformed),
    (payload(resources: resource("a//b")), .malformed), (payload(resources: resource("")), .malformed),
    (payload(resources: resource(".") + ", " + resource("a")), .malformed),
    (payload(resources: resource("a", algorithm: "blake3")), .malformed),
    (payload(resources: resource("a", digest: "00")), .malformed),
    (payload(resources: #"{"name": "a"}"#), .malformed),
    (payload(serialization: sharded, resources: pieces("a")), .malformed),
    (payload(serialization: sharded, resources: pieces("a:0:5")), .malformed),
    (payload(serialization: sharded, resources: pieces("a:4:8")), .malformed),
    (payload(serialization: sharded, resources: pieces("a:0:3", "a:3:4")), .malformed),
    (payload(serialization: sharded, resources: pieces("a:0:4", "a:0:4")), .malformed),
    (payload(serialization: sharded, resources: pieces("a:0:4", "a:8:12")), .malformed),
    (payload(serialization: sharded, resources: pieces("a:-4:0")), .malformed),
    (payload(serialization: sharded.replacing("4", with: "0"), resources: pieces("a:0:4")), .malformed),
    (payload(serialization: sharded.replacing("4", with: "1e300"), resources: pieces("a:0:4")), .malformed),
  ]

  private func read(_ payload: String) throws -> ModelStatement {
    let text = String(decoding: try SignedByOthers.bundle("files.sig"), as: UTF8.self)
    var value = try JSONValue(parsing: Array(text.utf8))
    // Not signed: the signature is checked before a statement is read.
    guard case .object(var members) = value, case .object(var envelope)? = members["dsseEnvelope"] else {
      throw CheckpointError(.malformed, "")
    }
    envelope["payload"] = .string(Data(payload.utf8).base64EncodedString())
    members["dsseEnvelope"] = .object(envelope)
    value = .object(members)
    return try ModelStatement(Statement(in: SigstoreBundle(parsing: Array(JSONText.compact(value).utf8))))
  }

  @Test("contradictory statements, and those of another kind, are refused", arguments: unsound.indices)
  func refused(index: Int) {
    let error = #expect(throws: CheckpointError.self) { try read(Self.unsound[index].payload) }
    #expect(
      error?.code == Self.unsound[index].code, "\(Self.unsound[index].payload): \(String(describing: error))")
  }

  @Test("the sound statement that these are derived from is read")
  func accepted() throws {
    #expect(try read(Self.payload()).files.map(\.path) == ["a"])
    let pieces = Self.payload(serialization: Self.sharded, resources: Self.pieces("a:4:6", "a:0:4"))
    #expect(try read(pieces).files.map(\.byteCount) == [6])
  }
}
