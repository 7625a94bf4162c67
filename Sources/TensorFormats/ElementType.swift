/// How the elements of a tensor are stored: every element type of safetensors 0.8 and every live GGML type.
///
/// The raw value is the spelling of the formats themselves (`BF16`, `F8_E4M3`, `Q4_K`). Where both formats have a
/// type (`F32`, `I8`, ...), it is one case here. Which format can hold a type is known to the `Safetensors` and
/// `GGUF` modules.
public enum ElementType: String, Hashable, Sendable, CaseIterable {
  // Scalars. Safetensors has all of them; GGUF has F32, F16, BF16, F64 and the signed integers.
  case bool = "BOOL"
  case u8 = "U8"
  case i8 = "I8"
  case u16 = "U16"
  case i16 = "I16"
  case u32 = "U32"
  case i32 = "I32"
  case u64 = "U64"
  case i64 = "I64"
  case f16 = "F16"
  case bf16 = "BF16"
  case f32 = "F32"
  case f64 = "F64"
  case c64 = "C64"
  case f8E5M2 = "F8_E5M2"
  case f8E4M3 = "F8_E4M3"
  case f8E8M0 = "F8_E8M0"
  case f8E4M3FNUZ = "F8_E4M3FNUZ"
  case f8E5M2FNUZ = "F8_E5M2FNUZ"
  // Sub-byte scalars of safetensors, packed without padding between rows.
  case f4 = "F4"
  case f6E2M3 = "F6_E2M3"
  case f6E3M2 = "F6_E3M2"
  // GGML blocks.
  case q4_0 = "Q4_0"
  case q4_1 = "Q4_1"
  case q5_0 = "Q5_0"
  case q5_1 = "Q5_1"
  case q8_0 = "Q8_0"
  case q8_1 = "Q8_1"
  case q2K = "Q2_K"
  case q3K = "Q3_K"
  case q4K = "Q4_K"
  case q5K = "Q5_K"
  case q6K = "Q6_K"
  case q8K = "Q8_K"
  case iq2XXS = "IQ2_XXS"
  case iq2XS = "IQ2_XS"
  case iq3XXS = "IQ3_XXS"
  case iq1S = "IQ1_S"
  case iq4NL = "IQ4_NL"
  case iq3S = "IQ3_S"
  case iq2S = "IQ2_S"
  case iq4XS = "IQ4_XS"
  case iq1M = "IQ1_M"
  case tq1_0 = "TQ1_0"
  case tq2_0 = "TQ2_0"
  case mxfp4 = "MXFP4"
  case nvfp4 = "NVFP4"
  case q1_0 = "Q1_0"
  case q2_0 = "Q2_0"

  /// How many consecutive elements share a block, and the bytes of that block.
  public var block: BlockLayout {
    switch self {
    case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: BlockLayout(1, bytes: 1)
    case .u16, .i16, .f16, .bf16: BlockLayout(1, bytes: 2)
    case .u32, .i32, .f32: BlockLayout(1, bytes: 4)
    case .u64, .i64, .f64, .c64: BlockLayout(1, bytes: 8)
    case .f4: BlockLayout(2, bytes: 1)
    case .f6E2M3, .f6E3M2: BlockLayout(4, bytes: 3)
    case .q4_0: BlockLayout(32, bytes: 18)
    case .q4_1: BlockLayout(32, bytes: 20)
    case .q5_0: BlockLayout(32, bytes: 22)
    case .q5_1: BlockLayout(32, bytes: 24)
    case .q8_0: BlockLayout(32, bytes: 34)
    case .q8_1: BlockLayout(32, bytes: 36)
    case .q2K: BlockLayout(256, bytes: 84)
    case .q3K: BlockLayout(256, bytes: 110)
    case .q4K: BlockLayout(256, bytes: 144)
    case .q5K: BlockLayout(256, bytes: 176)
    case .q6K: BlockLayout(256, bytes: 210)
    case .q8K: BlockLayout(256, bytes: 292)
    case .iq2XXS: BlockLayout(256, bytes: 66)
    case .iq2XS: BlockLayout(256, bytes: 74)
    case .iq3XXS: BlockLayout(256, bytes: 98)
    case .iq1S: BlockLayout(256, bytes: 50)
    case .iq4NL: BlockLayout(32, bytes: 18)
    case .iq3S: BlockLayout(256, bytes: 110)
    case .iq2S: BlockLayout(256, bytes: 82)
    case .iq4XS: BlockLayout(256, bytes: 136)
    case .iq1M: BlockLayout(256, bytes: 56)
    case .tq1_0: BlockLayout(256, bytes: 54)
    case .tq2_0: BlockLayout(256, bytes: 66)
    case .mxfp4: BlockLayout(32, bytes: 17)
    case .nvfp4: BlockLayout(64, bytes: 36)
    case .q1_0: BlockLayout(128, bytes: 18)
    case .q2_0: BlockLayout(64, bytes: 18)
    }
  }

  /// Whether this is one of GGML's block formats, whose rows must be a whole number of blocks.
  public var isBlockQuantized: Bool { block.elements > 4 }

  /// Whether the elements are integers or booleans, which no codec may turn into anything else.
  public var isInteger: Bool {
    switch self {
    case .bool, .u8, .i8, .u16, .i16, .u32, .i32, .u64, .i64: true
    default: false
    }
  }
}

extension ElementType: CustomStringConvertible {
  /// The formats' own spelling.
  public var description: String { rawValue }
}

/// The unit in which an element type is stored.
public struct BlockLayout: Hashable, Sendable {
  /// Consecutive elements of a row that one block holds; 1 for plain scalars.
  public let elements: Int
  /// Bytes of one block.
  public let bytes: Int

  init(_ elements: Int, bytes: Int) {
    self.elements = elements
    self.bytes = bytes
  }

  /// Storage per element, in bits, scales and offsets included.
  public var bitsPerElement: Double { Double(bytes * 8) / Double(elements) }

  /// The bytes of `count` consecutive elements; `nil` when they end inside a block or the result overflows.
  public func byteCount(ofElements count: Int) -> Int? {
    let (blocks, rest) = count.quotientAndRemainder(dividingBy: elements)
    guard rest == 0 else { return nil }
    let (bytes, overflow) = blocks.multipliedReportingOverflow(by: bytes)
    return overflow ? nil : bytes
  }
}

/// Encoded as the formats' own spelling.
extension ElementType: Codable {}
