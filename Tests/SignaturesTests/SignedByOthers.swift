import ByteStreams
import CheckpointTesting
import Foundation
import Signatures
import TensorFormats

/// Signatures by the package model_signing 1.1.1: `Fixtures/signatures`, of the model that ``model(in:)`` writes.
enum SignedByOthers {
  static func path(_ name: String) -> String { Fixtures.path("signatures/\(name)") }

  static func bundle(_ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(filePath: path(name))))
  }

  static func key() throws -> VerifyingKey { try VerifyingKey(reading: path("pub.pem")) }

  /// The files that were signed.
  static let files: [(path: String, text: String)] = [
    ("a.safetensors", "weights"), ("config.json", "{\"model_type\": \"made up\"}\n"), ("empty", ""),
    ("sub/x", "x"), ("sub-1", "q"),
  ]

  /// Writes them into a new directory.
  static func model(in directory: TemporaryDirectory) throws -> SignedModel {
    let path = directory.path("model")
    for file in files {
      let url = URL(filePath: "\(path)/\(file.path)")
      try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(file.text.utf8).write(to: url)
    }
    let store = DirectoryStore(path)
    return SignedModel(path: path, store: store, unpacked: store)
  }
}
