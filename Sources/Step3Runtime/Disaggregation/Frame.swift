package import TensorFormats

/// One message on a connection between attention and a feed-forward rank.
///
/// On the wire, little-endian: the magic `S3FF`, the version of the protocol (u16), the kind (u16), the length of what
/// follows (u64), and that many bytes.
package struct Frame {
  /// The kind of message.
  package enum Kind: UInt16 {
    /// What the rank holds: JSON, ``PartHello``.
    case hello = 1
    /// Attention accepts the rank: JSON, ``Welcome``.
    case welcome = 2
    /// Tokens of one layer: ``ForwardRequest``.
    case request = 3
    /// Their partial sums: ``ForwardReply``.
    case reply = 4
    /// The rank failed: JSON, ``RemoteFailure``.
    case failure = 5
    /// No more requests.
    case goodbye = 6

    /// The largest message of this kind, in bytes.
    package var limit: Int {
      switch self {
      case .hello, .welcome: 16 << 20
      case .request, .reply: 1 << 30
      case .failure: 1 << 16
      case .goodbye: 0
      }
    }
  }

  /// The version of this protocol: raised when a message changes.
  package static let version: UInt16 = 1
  static let magic = Array("S3FF".utf8)
  package static let headerBytes = 16

  package let kind: Kind
  package let payload: [UInt8]

  package init(kind: Kind, payload: [UInt8]) {
    self.kind = kind
    self.payload = payload
  }

  /// The bytes before the payload.
  package static func header(_ kind: Kind, payloadBytes: Int) -> [UInt8] {
    var writer = MessageWriter()
    for byte in magic { writer.append(byte) }
    writer.append(version)
    writer.append(kind.rawValue)
    writer.append(UInt64(payloadBytes))
    return writer.bytes
  }

  /// Parses the header before the payload.
  ///
  /// - Throws: `.malformed` for anything else, `.unsupported` for another version.
  package static func parseHeader(
    _ bytes: [UInt8]
  ) throws(CheckpointError) -> (kind: Kind, payloadBytes: Int) {
    guard bytes.count == headerBytes, Array(bytes.prefix(4)) == magic else {
      throw CheckpointError(.malformed, "the other side does not speak this protocol")
    }
    var reader = MessageReader(Array(bytes.dropFirst(4)), name: "a message's header")
    let other = try reader.integer(UInt16.self)
    guard other == version else {
      throw CheckpointError(
        .unsupported, "the other side speaks version \(other) of the protocol, this side version \(version)",
        remedy: "run the same release on both sides")
    }
    let number = try reader.integer(UInt16.self)
    guard let kind = Kind(rawValue: number) else {
      throw CheckpointError(.malformed, "received a message of the unknown kind \(number)")
    }
    let length = try reader.integer(UInt64.self)
    guard length <= UInt64(kind.limit) else {
      throw CheckpointError(
        .malformed, "a message of \(length) bytes was announced, but at most \(kind.limit) are allowed")
    }
    return (kind, Int(length))
  }
}
