/// The versions of Pillow whose bilinear `resize` of 8-bit pictures gives different samples, occasionally by one.
public enum PillowVersion: Hashable, Sendable {
  /// Always columns first. Current when the model was published.
  case upTo12
  /// From 13.0 (October 2026): rows first, if that removes more than twice as many rows as columns.
  ///
  /// Source: python-pillow pull request 9549; the exact condition from comparing results.
  case from13

  func resizesRowsFirst(from old: RGBImage, width: Int, height: Int) -> Bool {
    self == .from13 && height < old.height && old.height - height > 2 * (old.width - width)
  }
}

extension RGBImage {
  /// The picture resized, bit-identical to Pillow's `resize(..., BILINEAR)`.
  ///
  /// Weights are rounded to 22 fractional bits, and samples to 8 bits after each axis. An axis that keeps its length
  /// is skipped. Source: comparison with Pillow 11.3, 12.1 and 13.0.
  public func resizedLikePillow(
    width newWidth: Int, height newHeight: Int, version: PillowVersion = .upTo12
  ) -> RGBImage {
    let all: [UInt8]
    if version.resizesRowsFirst(from: self, width: newWidth, height: newHeight) {
      let low = RGBImage.resample(pixels, blocks: 1, length: height, run: width * 3, to: newHeight)
      all = RGBImage.resample(low, blocks: newHeight, length: width, run: 3, to: newWidth)
    } else {
      let wide = RGBImage.resample(pixels, blocks: height, length: width, run: 3, to: newWidth)
      all = RGBImage.resample(wide, blocks: 1, length: height, run: newWidth * 3, to: newHeight)
    }
    return RGBImage(height: newHeight, width: newWidth, pixels: all)
  }

  private static let fractionBits = 22

  private static func resample(
    _ samples: [UInt8], blocks: Int, length: Int, run: Int, to target: Int
  ) -> [UInt8] {
    if length == target { return samples }
    let weights = ResamplingWeights<Double>(.bilinear, from: length, to: target)
    let one = Double(1 << fractionBits)
    // The triangle filter has no negative weights, so adding a half rounds correctly.
    let weightsInBits = weights.weights.map { Int32($0 * one + 0.5) }
    let factors = weightsInBits.span
    var result = [UInt8](repeating: 0, count: blocks * target * run)
    var sums = [Int32](repeating: 0, count: run)
    let input = samples.span
    var output = result.mutableSpan
    var sum = sums.mutableSpan
    let half: Int32 = 1 << Int32(fractionBits - 1)
    // Weights add up to one, within one unit each: 255 times that stays far below 2^31.
    for block in 0..<blocks {
      for index in 0..<target {
        let from = (block * length + weights.starts[index]) * run
        let to = (block * target + index) * run
        let factor = index * weights.stride
        let taps = weights.counts[index]
        if run == 3 {
          // Along a row: the three samples of a pixel stay in registers.
          var (red, green, blue) = (half, half, half)
          for tap in 0..<taps {
            let weight = factors[factor + tap]
            let start = from + 3 * tap
            red &+= Int32(input[start]) &* weight
            green &+= Int32(input[start + 1]) &* weight
            blue &+= Int32(input[start + 2]) &* weight
          }
          output[to] = sample(red)
          output[to + 1] = sample(green)
          output[to + 2] = sample(blue)
          continue
        }
        for offset in 0..<run { sum[offset] = half }
        for tap in 0..<taps {
          let weight = factors[factor + tap]
          let start = from + tap * run
          for offset in 0..<run { sum[offset] &+= Int32(input[start + offset]) &* weight }
        }
        for offset in 0..<run { output[to + offset] = sample(sum[offset]) }
      }
    }
    return result
  }

  /// The integer part of a sum of weighted samples.
  @inline(__always)
  private static func sample(_ sum: Int32) -> UInt8 {
    UInt8(truncatingIfNeeded: min(255, sum >> Int32(fractionBits)))
  }
}
