extension RGBImage {
  /// The picture in another size, as Pillow's `resize(..., BILINEAR)` makes it, bit for bit.
  ///
  /// Weights are rounded to 22 fractional bits; columns are resized first and rounded to 8 bits, then rows. An axis
  /// that keeps its length is left alone. Source of the arithmetic: Pillow's documentation of its resampling ("fixed
  /// point with 8-bit samples") and comparison of results.
  public func resizedLikePillow(width newWidth: Int, height newHeight: Int) -> RGBImage {
    let wide = RGBImage.resample(pixels, blocks: height, length: width, run: 3, to: newWidth)
    let all = RGBImage.resample(wide, blocks: 1, length: height, run: newWidth * 3, to: newHeight)
    return RGBImage(height: newHeight, width: newWidth, pixels: all)
  }

  private static let fractionBits = 22

  private static func resample(
    _ samples: [UInt8], blocks: Int, length: Int, run: Int, to target: Int
  ) -> [UInt8] {
    if length == target { return samples }
    let weights = ResamplingWeights<Double>(.bilinear, from: length, to: target)
    let one = Double(1 << fractionBits)
    // The triangle has no negative weights, so that adding a half rounds.
    let factors = weights.weights.map { Int32($0 * one + 0.5) }
    var result = [UInt8](repeating: 0, count: blocks * target * run)
    var sums = [Int32](repeating: 0, count: run)
    let input = samples.span
    var output = result.mutableSpan
    var sum = sums.mutableSpan
    for block in 0..<blocks {
      for index in 0..<target {
        for offset in 0..<run { sum[offset] = 1 << (fractionBits - 1) }
        let from = (block * length + weights.starts[index]) * run
        for tap in 0..<weights.counts[index] {
          let factor = factors[index * weights.stride + tap]
          let start = from + tap * run
          // Weights add up to one, give or take a unit each: 255 times that stays far below 2^31.
          for offset in 0..<run { sum[offset] &+= Int32(input[start + offset]) &* factor }
        }
        let to = (block * target + index) * run
        for offset in 0..<run {
          output[to + offset] = UInt8(truncatingIfNeeded: min(255, sum[offset] >> Int32(fractionBits)))
        }
      }
    }
    return result
  }
}
