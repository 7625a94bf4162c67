internal import Checkpoint
public import TensorFormats

/// What happens to a tensor that its rule's format does not fit: its rows are not whole blocks, or the output's
/// files have no such type. The plan says what happened, with the reason.
public enum Fallback: Hashable, Sendable, Codable {
  /// The chain of ``standardChain(for:source:)``; an error if a whole recipe is used with the wrong container.
  case standard
  /// An error that names the tensor.
  case error
  /// The first of these formats that fits; an error if none does.
  case chain([StorageFormat])

  /// The formats to try, in this order, after `format` has failed.
  ///
  /// The standard chain covers rows that are not whole blocks, and a `keep` that the container has no type for. It
  /// does not cover a format that the container does not have at all: a Q4_K recipe on a safetensors output is a
  /// mistake about the whole conversion, and turning all of it into BF16 would not be an answer.
  func formats(after format: StorageFormat, for subject: RecipeSubject, in container: Checkpoint.Format)
    -> [StorageFormat]
  {
    switch self {
    case .error: return []
    case .chain(let formats): return formats
    case .standard:
      let format = format.resolved(in: container)
      guard format == .keep || format.exists(in: container, source: subject.sourceType) else { return [] }
      return Fallback.standardChain(for: format, source: subject.sourceType)
    }
  }

  /// The formats that stand in for one whose blocks do not fit the row: the format of 32-element blocks that is
  /// nearest in size from above, then 16 bits.
  ///
  /// | format | stands in |
  /// |---|---|
  /// | Q4_K | Q5_0 |
  /// | Q5_K | Q5_1 |
  /// | Q6_K, Q8_K | Q8_0 |
  /// | Q2_K, Q3_K, IQ1_S to IQ4_XS | IQ4_NL |
  /// | NVFP4 | IQ4_NL |
  /// | TQ1_0, TQ2_0, Q1_0, Q2_0 | Q4_0 |
  /// | formats of 32-element blocks, and where those do not fit either | F16 for an F16 source, otherwise BF16 |
  ///
  /// Source: `tensor_type_fallback` in llama.cpp's `src/llama-quant.cpp`. Deliberate differences: Q2_K and Q3_K go to
  /// IQ4_NL, which has the size of the Q4_0 used there and a smaller error; NVFP4 and Q1_0 have no stand-in there;
  /// and the last resort there is F16, which cannot hold every BF16 value.
  public static func standardChain(for format: StorageFormat, source: ElementType) -> [StorageFormat] {
    let sixteenBits = StorageFormat.element(source == .f16 ? .f16 : .bf16)
    guard case .element(let type) = format else { return [sixteenBits] }
    let standIn: ElementType? =
      switch type {
      case .q4K: .q5_0
      case .q5K: .q5_1
      case .q6K, .q8K: .q8_0
      case .q2K, .q3K, .iq1S, .iq1M, .iq2XXS, .iq2XS, .iq2S, .iq3XXS, .iq3S, .iq4XS, .nvfp4: .iq4NL
      case .tq1_0, .tq2_0, .q1_0, .q2_0: .q4_0
      default: nil
      }
    return (standIn.map { [.element($0)] } ?? []) + [sixteenBits]
  }
}

extension Fallback: CustomStringConvertible {
  /// As recipe files spell it.
  public var description: String {
    switch self {
    case .standard: "standard"
    case .error: "error"
    case .chain(let formats): "[" + formats.map(\.spelling).joined(separator: ", ") + "]"
    }
  }
}
