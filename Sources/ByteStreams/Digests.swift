internal import CXXHash
internal import Crypto

/// A digest's value, printed in lower-case hexadecimal.
public struct Digest: Hashable, Sendable, CustomStringConvertible {
  /// 16 bytes for XXH3-128 (canonical, most significant first), 32 for SHA-256.
  public let bytes: [UInt8]

  /// Makes a digest of its bytes.
  public init(bytes: [UInt8]) { self.bytes = bytes }

  /// Reads hexadecimal text, as `sha256sum` and `xxhsum` print it; `nil` if it is anything else.
  public init?(hexadecimal text: String) {
    let digits = text.utf8.map { digit -> UInt8? in
      switch digit {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
      default: nil
      }
    }
    guard digits.count % 2 == 0, !digits.contains(nil) else { return nil }
    bytes = stride(from: 0, to: digits.count, by: 2).map { digits[$0]! << 4 | digits[$0 + 1]! }
  }

  public var description: String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
    return String(decoding: text, as: UTF8.self)
  }
}

/// XXH3 with 128 bits, computed incrementally by libxxhash, with the processor's widest vectors: the digest of tensors
/// and files.
///
/// Fast but not cryptographic: it detects accidents. ``SHA256Digester`` computes the digests that hubs publish.
@safe public struct XXH3Digester: ~Copyable {
  private let state: OpaquePointer

  /// Starts an empty digest.
  public init() {
    guard let state = unsafe XXH3_createState() else { preconditionFailure("out of memory") }
    unsafe self.state = state
    _ = unsafe XXH3_128bits_reset(state)
  }

  deinit { _ = unsafe XXH3_freeState(state) }

  /// Takes in the next bytes.
  public mutating func update(_ bytes: RawSpan) {
    unsafe bytes.withUnsafeBytes { _ = unsafe cxxhash_update_128(state, $0.baseAddress, $0.count) }
  }

  /// The digest of everything taken in so far.
  public func finalize() -> Digest {
    var canonical = XXH128_canonical_t()
    unsafe XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state))
    return unsafe withUnsafeBytes(of: canonical) { unsafe Digest(bytes: Array($0)) }
  }
}

/// SHA-256, computed incrementally by swift-crypto: the digest that hubs publish for their files.
public struct SHA256Digester: ~Copyable {
  private var state = SHA256()

  /// Starts an empty digest.
  public init() {}

  /// Takes in the next bytes.
  public mutating func update(_ bytes: RawSpan) {
    unsafe bytes.withUnsafeBytes { unsafe state.update(bufferPointer: $0) }
  }

  /// The digest of everything taken in so far.
  public func finalize() -> Digest { Digest(bytes: Array(state.finalize())) }
}
