internal import ByteStreams
internal import JSON

extension Digest {
  /// SHA-256 in hexadecimal; `nil` for anything else.
  init?(sha256 value: JSONValue?) {
    guard let text = value?.text, let digest = Digest(hexadecimal: text), digest.bytes.count == 32 else {
      return nil
    }
    self = digest
  }
}
