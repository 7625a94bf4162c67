package import ByteStreams
internal import JSON

extension Digest {
  /// SHA-256 of bytes that are there in one piece.
  package static func sha256(of bytes: [UInt8]) -> Digest {
    var digester = SHA256Digester()
    digester.update(bytes)
    return digester.finalize()
  }

  /// SHA-256 in hexadecimal; `nil` for anything else.
  init?(sha256 value: JSONValue?) {
    guard let text = value?.text, let digest = Digest(hexadecimal: text), digest.bytes.count == 32 else {
      return nil
    }
    self = digest
  }
}
