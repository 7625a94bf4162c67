internal import Checkpoint
internal import Quantization
internal import QuantizationRecipes
public import TensorFormats

/// The formats that a budget may choose from.
public enum Candidates {
  /// The defaults: block formats that llama.cpp loads, from the smallest to the largest, without those that are
  /// inherently worse at the same size.
  public static let usual: [ElementType] = [
    .iq1S, .iq2XXS, .iq2XS, .iq2S, .q2K, .iq3XXS, .iq3S, .q3K, .iq4XS, .q4K, .q5K, .q6K, .q8_0,
  ]

  /// The defaults for rows that are not a whole number of 256-element blocks.
  static let usualOfShortBlocks: [ElementType] = [.q4_0, .iq4NL, .q5_0, .q5_1, .q8_0]

  /// Formats whose encoders do not need an importance matrix, but which `llama-quantize` refuses without one and which
  /// users have seen fail.
  private static let wantingImportance: Set<ElementType> = [.iq2S, .iq3XXS]

  /// Reads a list from the command line: `Q3_K,Q4_K,Q6_K`.
  ///
  /// - Throws: `.invalidRequest` for a format that GGUF does not hold or no encoder writes.
  public static func parse(_ text: String) throws(CheckpointError) -> [ElementType] {
    var types: [ElementType] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let spelling = String(part.filter { $0 != " " })
      guard case .element(let type) = try StorageFormat(spelling: spelling),
        StorageFormat.element(type).misfit(TensorShape([256]), source: .bf16, in: .gguf) == nil,
        BlockCodec.codec(for: type)?.canEncode == true
      else {
        throw CheckpointError(
          .invalidRequest, "'\(spelling.printable)' is not a format that can be written to GGUF",
          remedy: "choose from Q2_K, IQ3_S, Q3_K, IQ4_XS, Q4_K, Q5_K, Q6_K, Q8_0, BF16 and others")
      }
      if !types.contains(type) { types.append(type) }
    }
    return types
  }

  /// Those that a tensor can be stored in.
  ///
  /// - Parameters:
  ///   - asked: The user's list; `nil` for the defaults.
  ///   - shape: Of the tensor, row-major.
  ///   - source: The source's type, if its bytes could be kept.
  ///   - hasImportance: Whether the importance matrix covers it.
  static func fitting(
    _ asked: [ElementType]?, shape: TensorShape, source: ElementType?, hasImportance: Bool
  ) -> [ElementType] {
    var types = asked ?? (shape.columns % 256 == 0 ? usual : usualOfShortBlocks)
    // A tensor already in blocks loses nothing if kept.
    if asked == nil, let source, source.isBlockQuantized, !types.contains(source) { types.append(source) }
    return types.filter { type in
      guard StorageFormat.element(type).misfit(shape, source: .f32, in: .gguf) == nil else { return false }
      guard let codec = BlockCodec.codec(for: type), type == source || codec.canEncode else { return false }
      if type == source || hasImportance { return true }
      if case .required = codec.importanceUse { return false }
      return asked != nil || !wantingImportance.contains(type)
    }
  }
}
