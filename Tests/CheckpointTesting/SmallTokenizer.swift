public import Tokenization

/// The smallest tokenizer that can encode any text: special tokens, one token per byte, a few merges.
public enum SmallTokenizer {
  /// Start, end and padding have ids 0, 1 and 2.
  public static let tokenizer: Step3Tokenizer = {
    let special = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
    let merges = ["h e", "Ġ t", "Ġt he", "Ġ a", "i n"]
    let tokens = special + byteAlphabet + merges.map { $0.split(separator: " ").joined() }
    let normal = tokens.count - special.count
    return Step3Tokenizer(
      tokens: tokens,
      types: Array(repeating: .control, count: special.count) + Array(repeating: .normal, count: normal),
      merges: merges, bosTokenID: 0, eosTokenIDs: [1], padTokenID: 2,
      chatTemplate: "{% for m in messages %}{{ m['content'] }}{% endfor %}")
  }()

  /// The characters that byte-level BPE writes bytes as: printable Latin-1 as itself, the others, in ascending order, as
  /// the characters from U+0100 on.
  ///
  /// Source: `bytes_to_unicode` of GPT-2's published encoder.
  private static let byteAlphabet: [String] = {
    var next: UInt32 = 0x100
    return (0..<256 as Range<UInt32>).map { byte in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return UnicodeScalar(byte).map { String($0) } ?? ""
      default:
        defer { next += 1 }
        return UnicodeScalar(next).map { String($0) } ?? ""
      }
    }
  }()
}
