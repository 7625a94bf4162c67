internal import Quantization
internal import TensorFormats

extension ErrorBound {
  /// The bound of a format with scales.
  static func ofStorage(_ storage: StoredPrecision) -> ErrorBound {
    if let scheme = storage.scheme { return ofScheme(scheme) }
    return blocks[storage.elementType] ?? ErrorBound(block: 128)
  }

  /// Half of F16's smallest step: the largest error of an F16 scale that small.
  private static let halfStep = 0x1p-25

  /// GGML's block formats.
  ///
  /// `absolute` is the smallest step of the F16 scale times the largest level. Formats whose sub-blocks have their own
  /// scales are judged by sub-blocks, and the block's largest magnitude bounds what rounding the sub-block's scale
  /// costs. IQ1_S is judged by whole blocks: its steps are too coarse to distinguish a wrong sub-block from an unlucky
  /// one.
  private static let blocks: [ElementType: ErrorBound] = [
    .q4_0: ErrorBound(
      block: 32, relative: 0.55, absolute: 16 * halfStep, typical: 0.29, expected: (0.0862, 0.1273)),
    .q4_1: ErrorBound(
      block: 32, relative: 0.60, absolute: 32 * halfStep, typical: 0.23, expected: (0.0783, 0.1014)),
    .q5_0: ErrorBound(
      block: 32, relative: 0.352, absolute: 32 * halfStep, typical: 0.255, expected: (0.0428, 0.0659)),
    .q5_1: ErrorBound(
      block: 32, relative: 0.271, absolute: 64 * halfStep, typical: 0.25, expected: (0.0379, 0.0485)),
    .q8_0: eightBits,
    .q8_1: eightBits,
    .q2K: ErrorBound(
      block: 16, reach: .neighbours(256), relative: 0.456, ofLargest: 0.138, absolute: 90 * halfStep,
      typical: 0.43, expected: (0.2968, 0.3490)),
    .q3K: ErrorBound(
      block: 16, reach: .neighbours(256), relative: 0.07, ofLargest: 0.138, absolute: 128 * halfStep,
      typical: 0.50, expected: (0.1511, 0.1879)),
    .q4K: ErrorBound(
      block: 32, reach: .neighbours(256), relative: 0.0105, ofLargest: 0.069, absolute: 1890 * halfStep,
      typical: 0.53, expected: (0.0714, 0.0923)),
    .q5K: ErrorBound(
      block: 32, reach: .neighbours(256), relative: 0.002, ofLargest: 0.0288, absolute: 3906 * halfStep,
      typical: 0.59, expected: (0.0362, 0.0470)),
    .q6K: ErrorBound(
      block: 16, reach: .neighbours(256), relative: 0.032, ofLargest: 0.0575, absolute: 4096 * halfStep,
      typical: 0.13, expected: (0.0178, 0.0257)),
    .q8K: ErrorBound(block: 256, relative: 0.044, typical: 0.82, expected: (0.0070, 0.0176)),
    .iq1S: oneBit,
    .iq1M: oneBit,
    .iq2XXS: ErrorBound(
      block: 32, reach: .neighbours(256), relative: 0.66, ofLargest: 0.088, absolute: 170 * halfStep,
      typical: 0.60, ceiling: 1.25, expected: (0.3901, 0.5253)),
    .iq2XS: ErrorBound(
      block: 16, reach: .neighbours(256), relative: 0.74, ofLargest: 0.056, absolute: 170 * halfStep,
      typical: 0.62, expected: (0.3474, 0.4341)),
    .iq2S: ErrorBound(
      block: 16, reach: .neighbours(256), relative: 0.314, ofLargest: 0.172, absolute: 170 * halfStep,
      typical: 0.52, expected: (0.2651, 0.4198)),
    .iq3XXS: ErrorBound(
      block: 32, reach: .neighbours(256), relative: 0.449, ofLargest: 0.0575, absolute: 480 * halfStep,
      typical: 0.50, expected: (0.2132, 0.2864)),
    .iq3S: ErrorBound(
      block: 32, reach: .neighbours(256), relative: 0.0726, ofLargest: 0.115, absolute: 465 * halfStep,
      typical: 0.63, expected: (0.1667, 0.2222)),
    .iq4NL: ErrorBound(
      block: 32, relative: 0.43, absolute: 127 * halfStep, typical: 0.31, expected: (0.0762, 0.1012)),
    .iq4XS: ErrorBound(
      block: 32, reach: .neighbours(256), relative: 0.0174, ofLargest: 0.0575, absolute: 4064 * halfStep,
      typical: 0.66, expected: (0.0768, 0.1024)),
    .tq1_0: ternary,
    .tq2_0: ternary,
    .q1_0: ErrorBound(block: 128, relative: 0.998, absolute: halfStep, expected: (0.6013, 0.7681)),
    .q2_0: ErrorBound(
      block: 64, relative: 0.995, absolute: halfStep, typical: 0.88, expected: (0.7186, 0.6783)),
    // Below 2^-125 there is no scale: the reference's wraps around, and everything becomes zero.
    .mxfp4: fourBitFloats(absolute: 0x1p-125),
    // Without a scale for the tensor: scales below 2^-10 are zero, and with them up to six times as much.
    .nvfp4: ErrorBound(
      block: 16, relative: 0.20, ofLargest: 0.0012, absolute: 6 * 0x1p-10, typical: 0.70,
      expected: (0.1034, 0.0931)),
  ]

  private static let eightBits = ErrorBound(
    block: 32, relative: 0.0225, absolute: 127 * halfStep, typical: 0.70, expected: (0.0054, 0.0086))
  private static let oneBit = ErrorBound(
    block: 256, relative: 0.985, absolute: 17 * halfStep, typical: 0.85, expected: (0.5457, 0.6477))
  /// Rounding to the nearest of three levels, including zero, is never off by more than the value.
  private static let ternary = ErrorBound(
    block: 256, relative: 0.995, absolute: halfStep, typical: 0.95, expected: (0.8094, 0.8161))
  private static func fourBitFloats(absolute: Double) -> ErrorBound {
    ErrorBound(block: 32, relative: 0.31, absolute: absolute, typical: 0.60, expected: (0.1139, 0.1410))
  }

  /// Half of BF16's smallest step: the largest error of a BF16 scale that small. Scales of rows are rounded to BF16 as
  /// well.
  private static let brainHalfStep = 0x1p-134

  /// Codes with separate scale tensors.
  ///
  /// Steps of equal width err by half a step; the scale makes the largest magnitude the last one. A tenth more allows
  /// for rounded scales, and INT4 may have been searched with calibration data, which trades errors of some weights for
  /// those of others.
  private static func ofScheme(_ scheme: WeightScheme) -> ErrorBound {
    switch scheme {
    case .fp8Block(let rows, let columns):
      // Tiles too large to be examined whole are judged by their scale: see ErrorComparison.
      let reach = rows <= largestTile && columns <= largestTile
      return ErrorBound(
        block: reach ? columns : 128, reach: reach ? .tile(rows: rows, columns: columns) : .row,
        relative: 0.0656, ofLargest: 1.1 * 0x1p-10 / 448, absolute: 0x1p-10 * smallestTile / 448,
        typical: 0.55, expected: (0.0265, 0.0260))
    case .fp8Channel:
      return ErrorBound(
        block: 128, reach: .row, relative: 0.0656, ofLargest: 1.1 * 0x1p-10 / 448,
        absolute: 448 * brainHalfStep, typical: 0.55,
        expected: (0.0265, 0.0260))
    case .int8Channel:
      return ErrorBound(
        block: 128, reach: .row, relative: 0.004, ofLargest: 1.1 / 254, absolute: 128 * brainHalfStep,
        typical: 0.66,
        expected: (0.0090, 0.0300))
    case .int4Group(let length):
      return ErrorBound(
        block: length, relative: 0.01, ofLargest: min(1.3 / 14, 0.94 / Double(length).squareRoot()),
        absolute: 8 * brainHalfStep, typical: 0.75, expected: (0.1100, 0.1500))
    case .nvfp4:
      // The product of the two scales is an F32 number, and so are values.
      return ErrorBound(
        block: 16, relative: 0.25, ofLargest: 0.0012, absolute: 7 * 0x1p-150, typical: 0.60,
        expected: (0.0950, 0.0920))
    // The smallest scale is 2^-127, and the smallest step under it half of that.
    case .mxfp4: return fourBitFloats(absolute: 0x1p-129)
    }
  }

  /// The smallest magnitude that a tile's scale is made for.
  private static let smallestTile = 1e-12

  /// The largest side for which tiles are examined whole.
  static let largestTile = 1024
}
