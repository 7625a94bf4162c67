/// A kernel that weights samples by their distance.
public enum ResamplingFilter: Hashable, Sendable {
  /// The triangle: weight 1 - |x| up to a distance of 1.
  case bilinear
  /// Keys' cubic convolution with a = -0.5, up to a distance of 2. Both Pillow and PyTorch use this value wherever
  /// they antialias (PyTorch without antialiasing: -0.75).
  ///
  /// Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29 (1981).
  case bicubic

  /// The radius beyond which weights are zero.
  var support: Double { self == .bilinear ? 1 : 2 }

  /// The weight at a distance, in samples.
  @inline(__always)
  func weight<Scalar: BinaryFloatingPoint>(_ distance: Scalar) -> Scalar {
    let x = abs(distance)
    switch self {
    case .bilinear: return x < 1 ? 1 - x : 0
    case .bicubic:
      let a: Scalar = -0.5
      if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
      return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0
    }
  }
}

/// The source samples and weights for each sample of a resized axis.
///
/// The axis consists of unit samples; those of the result are spaced evenly on it (corners are not aligned). When
/// the axis shrinks, the filter is widened by the same factor, so that every sample counts: that is the
/// antialiasing. Weights are normalised to a sum of 1. `Scalar` is the precision of the weights: Float gives
/// PyTorch's, Double Pillow's; centre and distance are rounded to it where those two do so.
struct ResamplingWeights<Scalar: BinaryFloatingPoint & Sendable>: Sendable {
  /// The first contributing sample of each result.
  private(set) var starts: [Int] = []
  /// The number of contributing samples of each result, at least one.
  private(set) var counts: [Int] = []
  /// The weights, shape [results, stride].
  private(set) var weights: [Scalar]
  /// The number of weight slots per result.
  let stride: Int

  /// Computes the weights. Time and memory are O(`target` * max(1, `source` / `target`)).
  init(_ filter: ResamplingFilter, from source: Int, to target: Int) {
    precondition(source > 0 && target > 0, "an axis must have at least one sample")
    let scale = Double(Scalar(source) / Scalar(target))
    let stretch = max(1, scale)
    let support = Double(Scalar(filter.support * stretch))
    let inverse = Double(Scalar(1 / stretch))
    stride = Int(support.rounded(.up)) * 2 + 1
    weights = [Scalar](repeating: 0, count: target * stride)
    starts.reserveCapacity(target)
    counts.reserveCapacity(target)
    for index in 0..<target {
      let center = Scalar(scale * (Double(index) + 0.5))
      let first = max(0, Int(Double(center - Scalar(support)) + 0.5))
      let end = min(source, Int(Double(center + Scalar(support)) + 0.5))
      let count = min(max(end - first, 0), stride)
      var total: Scalar = 0
      for tap in 0..<count {
        let distance = Scalar((Double(Scalar(first + tap) - center) + 0.5) * inverse)
        let weight = filter.weight(distance)
        weights[index * stride + tap] = weight
        total += weight
      }
      if total != 0 {
        for tap in 0..<count { weights[index * stride + tap] /= total }
      }
      starts.append(first)
      counts.append(count)
    }
  }
}
