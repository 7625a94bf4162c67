public import TensorFormats

// Values that a format cannot hold are refused, by the same rule for all formats: a finite value that is larger than
// the largest number of the format (RangeCheck), or that its bytes decode to NaN or infinity because a scale has left
// the range of the scales' type. Encoders would saturate, or lose the whole block. To store such a weight, choose a
// format with a wider range for its tensor.

extension ElementType {
  /// The largest magnitude that an element can be given: the largest level under the largest scales, with what is
  /// rounded down to it for the scalars. `nil` where no finite number is too large, or there are no real numbers.
  ///
  /// F16, BF16 and F32 are not among them: what is too large for one of them becomes infinity, which is detected.
  ///
  /// Source: the layouts of ggml (`ggml-common.h`) and its `dequantize_row_*`; for the eight-bit floats, the papers
  /// named at `EightBitFloat`.
  public var largestMagnitude: Float? {
    let half: Float = 65_504
    switch self {
    case .q4_0: return half * 8
    case .q4_1: return half * (15 + 1)
    case .q5_0: return half * 16
    case .q5_1: return half * (31 + 1)
    case .q8_0, .q8_1: return half * 127
    case .q2K: return half * 15 * 3
    case .q3K: return half * 32 * 4
    case .q4K: return half * 63 * 15
    case .q5K: return half * 63 * 31
    case .q6K: return half * 128 * 32
    case .iq1S, .iq1M: return half * 15 * 1.125
    case .iq2XXS, .iq2XS, .iq2S: return half * 15.5 * 0.25 * 43
    case .iq3XXS: return half * 15.5 * 0.5 * 62
    case .iq3S: return half * 31 * 15
    case .iq4NL: return half * 127
    case .iq4XS: return half * 32 * 127
    case .tq1_0, .tq2_0, .q1_0, .q2_0: return half
    // 8 times the largest scale is no longer an F32 number, so 6 times it is the largest.
    case .mxfp4: return 0x1.8p127
    case .nvfp4: return 448 * 6
    case .f8E4M3: return 464
    case .f8E5M2, .f8E5M2FNUZ: return 61_440
    case .f8E4M3FNUZ: return 248
    default: return nil
    }
  }
}

extension WeightScheme {
  /// The same for a scheme. `nil` where scales are F32 or BF16, or are taken from the largest magnitude of the matrix.
  public var largestMagnitude: Float? {
    self == .mxfp4 ? ElementType.mxfp4.largestMagnitude : nil
  }
}

/// Finds what a format cannot hold.
struct RangeCheck {
  /// What messages call the format.
  let format: String
  let largest: Float?

  init(_ type: ElementType) {
    format = "\(type)"
    largest = type.largestMagnitude
  }

  init(_ scheme: WeightScheme) {
    format = "\(scheme)"
    largest = scheme.largestMagnitude
  }

  /// The position of values in their tensor: rows of `stride` elements, from column `firstColumn` of row `firstRow` on.
  struct Place {
    var firstRow: Int
    var firstColumn = 0
    var stride: Int
  }

  /// Refuses finite values beyond the format's range, before they are encoded.
  ///
  /// - Throws: `.nonFinite`, naming the row, the column and the value.
  /// - Complexity: O(*n*), at memory speed.
  func check(_ values: Span<Float>, at place: Place, tier: KernelTier) throws(CheckpointError) {
    guard let largest else { return }
    // NaN and infinity have been handled.
    guard !(LargestMagnitude.of(values, tier: tier) <= largest) else { return }
    guard let index = values.indices.first(where: { values[$0].isFinite && values[$0].magnitude > largest })
    else { return }
    throw error(values, index, at: place)
  }

  /// Refuses finite values that come out as NaN or infinity.
  ///
  /// - Parameters:
  ///   - values: What was encoded.
  ///   - restored: What it decodes to.
  ///   - group: The number of neighbours in a row that share a scale; the largest of them is to blame.
  /// - Throws: As ``check(_:at:tier:)``.
  func check(
    _ values: Span<Float>, restored: Span<Float>, group: Int, at place: Place, tier: KernelTier
  ) throws(CheckpointError) {
    guard let first = FiniteCheck.firstNonFinite(restored, tier: tier) else { return }
    for index in first..<values.count where !restored[index].isFinite && values[index].isFinite {
      let row = index / place.stride * place.stride
      let start = row + (index - row) / group * group
      let end = min(start + group, row + place.stride)
      var worst = index
      for other in start..<end
      where values[other].isFinite && values[other].magnitude > values[worst].magnitude {
        worst = other
      }
      throw error(values, worst, at: place)
    }
  }

  private func error(_ values: Span<Float>, _ index: Int, at place: Place) -> CheckpointError {
    let limit = largest.map { ", whose largest number is \($0)" } ?? ""
    return CheckpointError(
      .nonFinite,
      "the element in row \(place.firstRow + index / place.stride), column "
        + "\(place.firstColumn + index % place.stride) is \(values[index]), beyond the range of \(format)\(limit)",
      remedy:
        "choose a format with a wider range for this tensor, such as BF16 or F32, or repair the checkpoint")
  }
}
