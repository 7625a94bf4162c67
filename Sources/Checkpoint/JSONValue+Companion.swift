internal import ByteStreams
package import JSON
package import TensorFormats

/// Reading JSON documents that lie beside weights.
extension JSONValue {
  /// The longest document that is parsed. Real ones are a few kilobytes, somewhat more with a chat template.
  package static let largestDocument = 16 << 20

  /// Parses a whole document, as Python's `json` writes it: with `NaN` and `Infinity` for numbers, and an optional byte
  /// order mark. `name` is used in messages.
  ///
  /// - Throws: `.malformed` with the byte offset for text that is not JSON, is nested more than 127 deep or is longer
  ///   than ``largestDocument``; also for a key that appears twice and a number beyond what a `Double` holds, because
  ///   readers disagree about them.
  package static func parse(_ bytes: [UInt8], name: String) throws(CheckpointError) -> JSONValue {
    guard bytes.count <= largestDocument else {
      throw CheckpointError(
        .malformed, "\(name): expected at most \(largestDocument) bytes, found \(bytes.count)")
    }
    do throws(CheckpointError) {
      let value = try JSONValue(parsing: bytes, dialect: .python)
      if let members = value.members { try refuseAnswer(members, bytes) }
      return value
    } catch {
      var named = error.explained(prefix: bytes, byteCount: bytes.count, as: .json)
      named.message = "\(name): " + (named == error ? "expected a JSON document: " : "") + named.message
      throw named
    }
  }

  /// Refuses a server's error response saved in the document's place: it is a sound JSON object too.
  static func refuseAnswer(_ members: JSONMembers, _ bytes: [UInt8]) throws(CheckpointError) {
    guard members.count <= 4,
      case .serverMessage? = ForeignContent(prefix: bytes, byteCount: bytes.count, expected: .json)
    else { return }
    throw CheckpointError(.malformed, "this is a server's error response")
  }
}
