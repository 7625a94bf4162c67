internal import CSHA256
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

/// SHA-256 of one of several streams that are hashed at a time.
///
/// Each round of SHA-256 waits for the one before: a core that takes in two streams together needs little more time than
/// for one of them, if it has instructions for SHA-256. Where it has none, swift-crypto takes in one after the other.
@safe package struct SHA256Stream: ~Copyable {
  private var stream = csha_stream()
  /// `nil` where the processor's own instructions are used.
  private var other: SHA256?

  /// Whether two streams take less time together than one after the other.
  package static let gainsByPairs = csha_is_supported()

  /// Starts an empty digest.
  ///
  /// - Parameter inPairs: Whether the processor's instructions may be used.
  package init(inPairs: Bool = true) {
    if inPairs, Self.gainsByPairs { unsafe csha_begin(&stream) } else { other = SHA256() }
  }

  /// Takes in the next bytes.
  package mutating func update(_ bytes: RawSpan) {
    unsafe bytes.withUnsafeBytes { bytes in
      guard other == nil else {
        unsafe other?.update(bufferPointer: bytes)
        return
      }
      unsafe csha_update(&stream, bytes.baseAddress, bytes.count)
    }
  }

  /// Takes in the next bytes of two streams, side by side as far as both have some.
  package static func update(
    _ one: inout SHA256Stream, _ bytes: RawSpan, _ other: inout SHA256Stream, _ otherBytes: RawSpan
  ) {
    guard one.other == nil, other.other == nil else {
      one.update(bytes)
      other.update(otherBytes)
      return
    }
    unsafe bytes.withUnsafeBytes { bytes in
      unsafe otherBytes.withUnsafeBytes { otherBytes in
        unsafe csha_update_two(
          &one.stream, bytes.baseAddress, bytes.count, &other.stream, otherBytes.baseAddress, otherBytes.count
        )
      }
    }
  }

  /// The digest of everything taken in so far.
  package func finalize() -> Digest {
    if let other { return Digest(bytes: Array(other.finalize())) }
    return Digest(
      bytes: unsafe [UInt8](unsafeUninitializedCapacity: 32) { digest, count in
        unsafe withUnsafePointer(to: stream) { unsafe csha_digest($0, digest.baseAddress) }
        count = 32
      })
  }
}
