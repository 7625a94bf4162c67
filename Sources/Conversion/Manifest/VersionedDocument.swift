internal import ByteStreams
internal import Checkpoint
internal import JSON
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// A JSON document written by this toolkit, with the version of its layout, and read as untrusted input.
///
/// Memory: the document itself plus a small multiple of the file; anything that does not start like such a document is
/// refused by its first bytes.
struct VersionedDocument<Value: Codable> {
  /// The name in messages: `manifest`.
  let name: String
  /// The version that is read.
  let version: Int
  /// The version that a value has.
  let versionOf: (Value) -> Int

  /// Reads a document.
  ///
  /// - Throws: `.malformed` if it is not one, `.unsupported` for another version; what reading throws. The error names
  ///   the file.
  func read(_ file: any ByteSource) throws(CheckpointError) -> Value { try readWithText(file).value }

  /// As ``read(_:)``, with the bytes that were read.
  ///
  /// - Throws: As ``read(_:)``.
  func readWithText(_ file: any ByteSource) throws(CheckpointError) -> (value: Value, text: [UInt8]) {
    do throws(CheckpointError) {
      guard file.byteCount <= OutputMarkers.largestRecord else {
        throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for a \(name)")
      }
      try checkStart(file.readBytes(0..<min(file.byteCount, 64)))
      let bytes = try file.readBytes(0..<file.byteCount)
      var scanner = unsafe JSONScanner(bytes.span.bytes)
      // No object of ours has more members, and no value fewer bytes on average.
      try scanner.checkDocument(JSONDocumentLimits(keys: 64, values: bytes.count / 4 + 64))
      return (try decode(bytes), bytes)
    } catch {
      throw error.at(path: file.path)
    }
  }

  /// The bytes that ``read(_:)`` reads: the same value gives the same bytes.
  func text(of value: Value) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      return Array(try encoder.encode(value)) + [UInt8(ascii: "\n")]
    } catch {
      preconditionFailure("a \(name) has a number that JSON cannot represent: \(error)")
    }
  }

  private func checkStart(_ bytes: [UInt8]) throws(CheckpointError) {
    var scanner = unsafe JSONScanner(bytes.span.bytes)
    var members = try scanner.openObject("a \(name)")
    guard bytes.count < 64 else { return }
    // All of it: even the shortest is longer.
    while try scanner.nextKey(&members) != nil { try scanner.skipValue() }
    throw CheckpointError(.malformed, "is not a \(name): \(bytes.count) bytes are too few")
  }

  private func decode(_ bytes: [UInt8]) throws(CheckpointError) -> Value {
    func decode<Decoded: Decodable>(_ type: Decoded.Type) throws -> Decoded {
      try unsafe bytes.withUnsafeBytes { buffer in
        guard let start = buffer.baseAddress else { return try JSONDecoder().decode(type, from: Data()) }
        // Not copied: the decoder is done with it before this closure is.
        let data = unsafe Data(
          bytesNoCopy: UnsafeMutableRawPointer(mutating: start), count: buffer.count, deallocator: .none)
        return try JSONDecoder().decode(type, from: data)
      }
    }
    let failure: any Error
    do {
      let value = try decode(Value.self)
      if versionOf(value) == version { return value }
      failure = CheckpointError(.unsupported, "")
    } catch { failure = error }
    // Another version may have other fields, so the version number is the better explanation.
    if let found = try? decode(DocumentVersion.self).version, found != version {
      throw CheckpointError(
        .unsupported, "the \(name) has version \(found), but this tool reads \(version)",
        remedy: "use the version of step3-toolkit that wrote it")
    }
    throw CheckpointError(.malformed, "is not a \(name): \("\(failure)".printable)")
  }
}

/// The part common to every version of such a document.
private struct DocumentVersion: Decodable {
  let version: Int
}
