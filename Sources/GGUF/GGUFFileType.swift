/// The value of `general.file_type`: how most of a file's tensors are stored, for display. Loaders go by
/// the types in the tensor table instead.
///
/// A value that is not among the static members can be represented too, so that files of later writers pass
/// through.
///
/// Source: `enum llama_ftype` in `llama.cpp/include/llama.h`.
public struct GGUFFileType: RawRepresentable, Hashable, Sendable {
  /// The number in the file.
  public let rawValue: UInt32
  /// Makes a file type of its number.
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The metadata key.
  public static let key = "general.file_type"

  public static let f32 = GGUFFileType(rawValue: 0)
  public static let f16 = GGUFFileType(rawValue: 1)
  public static let q4_0 = GGUFFileType(rawValue: 2)
  public static let q4_1 = GGUFFileType(rawValue: 3)
  public static let q8_0 = GGUFFileType(rawValue: 7)
  public static let q5_0 = GGUFFileType(rawValue: 8)
  public static let q5_1 = GGUFFileType(rawValue: 9)
  public static let q2K = GGUFFileType(rawValue: 10)
  public static let q3KSmall = GGUFFileType(rawValue: 11)
  public static let q3KMedium = GGUFFileType(rawValue: 12)
  public static let q3KLarge = GGUFFileType(rawValue: 13)
  public static let q4KSmall = GGUFFileType(rawValue: 14)
  public static let q4KMedium = GGUFFileType(rawValue: 15)
  public static let q5KSmall = GGUFFileType(rawValue: 16)
  public static let q5KMedium = GGUFFileType(rawValue: 17)
  public static let q6K = GGUFFileType(rawValue: 18)
  public static let iq2XXS = GGUFFileType(rawValue: 19)
  public static let iq2XS = GGUFFileType(rawValue: 20)
  public static let q2KSmall = GGUFFileType(rawValue: 21)
  public static let iq3XS = GGUFFileType(rawValue: 22)
  public static let iq3XXS = GGUFFileType(rawValue: 23)
  public static let iq1S = GGUFFileType(rawValue: 24)
  public static let iq4NL = GGUFFileType(rawValue: 25)
  public static let iq3S = GGUFFileType(rawValue: 26)
  public static let iq3M = GGUFFileType(rawValue: 27)
  public static let iq2S = GGUFFileType(rawValue: 28)
  public static let iq2M = GGUFFileType(rawValue: 29)
  public static let iq4XS = GGUFFileType(rawValue: 30)
  public static let iq1M = GGUFFileType(rawValue: 31)
  public static let bf16 = GGUFFileType(rawValue: 32)
  public static let tq1_0 = GGUFFileType(rawValue: 36)
  public static let tq2_0 = GGUFFileType(rawValue: 37)
  public static let mxfp4MoE = GGUFFileType(rawValue: 38)
  public static let nvfp4 = GGUFFileType(rawValue: 39)
  public static let q1_0 = GGUFFileType(rawValue: 40)
  public static let q2_0 = GGUFFileType(rawValue: 41)
  /// The writer did not say; a reader guessed.
  public static let guessed = GGUFFileType(rawValue: 1024)

  /// The spelling known from file names (`Q4_K_M`), by number.
  private static let names: [UInt32: String] = [
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0", 1024: "GUESSED",
  ]

  /// All file types that have a name, by rising number. Numbers of removed types are not among them.
  public static let allNamed: [GGUFFileType] = names.keys.sorted().map { GGUFFileType(rawValue: $0) }

  /// The file type of that name (`Q4_K_M`); `nil` if there is none.
  public init?(name: String) {
    guard let number = GGUFFileType.names.first(where: { $0.value == name })?.key else { return nil }
    rawValue = number
  }
}

extension GGUFFileType: CustomStringConvertible {
  /// `Q4_K_M`, or `file type 99` for a number without a name.
  public var description: String { GGUFFileType.names[rawValue] ?? "file type \(rawValue)" }
}

extension GGUFMetadata {
  /// The value of `general.file_type`; `nil` if it is missing or no u32.
  public var fileType: GGUFFileType? {
    guard case .uint32(let value) = self[GGUFFileType.key] else { return nil }
    return GGUFFileType(rawValue: value)
  }
}
