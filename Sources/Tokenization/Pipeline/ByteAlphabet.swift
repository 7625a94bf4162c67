/// The characters that represent bytes in byte-level BPE: printable Latin-1 as itself, the others, in ascending
/// order, as the characters from U+0100 on.
///
/// Source: `bytes_to_unicode` of GPT-2's published encoder.
enum ByteAlphabet {
  /// The character of each byte.
  static let scalars: [Unicode.Scalar] = {
    var next: UInt16 = 0x100
    return (0...255 as ClosedRange<UInt8>).map { byte in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(byte)
      default:
        defer { next += 1 }
        return Unicode.Scalar(next) ?? "\u{FFFD}"
      }
    }
  }()

  /// The byte of each character up to U+0143; -1 where there is none.
  private static let bytes: [Int16] = {
    var bytes = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar.value)] = Int16(byte) }
    return bytes
  }()

  /// The bytes that a token represents; `nil` if it has a character outside the alphabet.
  static func bytes(of token: String) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(token.utf8.count)
    for scalar in token.unicodeScalars {
      guard scalar.value < bytes.count, bytes[Int(scalar.value)] >= 0 else { return nil }
      result.append(UInt8(bytes[Int(scalar.value)]))
    }
    return result
  }
}
