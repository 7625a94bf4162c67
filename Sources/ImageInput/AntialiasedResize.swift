/// Resizing of F32 planes with antialiasing, as PyTorch's `interpolate(..., antialias=True, align_corners=False)` and
/// torchvision's `Resize` on float tensors do it: no clamping, no rounding.
///
/// Columns are resized first, then rows, everything in F32; only the order of additions within a sample may differ
/// from PyTorch's.
public struct AntialiasedResize: Sendable {
  /// The position of the channel dimension.
  public enum Layout: Hashable, Sendable {
    /// [channels, height, width]
    case channelsFirst
    /// [height, width, channels]
    case channelsLast
  }

  /// A plane's rows and columns.
  public struct Size: Hashable, Sendable {
    /// Rows.
    public var height: Int
    /// Columns.
    public var width: Int

    /// Creates a size.
    public init(height: Int, width: Int) {
      self.height = height
      self.width = width
    }
  }

  private let source: Size
  private let target: Size
  private let rows: ResamplingWeights<Float>
  private let columns: ResamplingWeights<Float>

  /// Computes the weights, which are reused for any number of planes.
  public init(_ filter: ResamplingFilter, from source: Size, to target: Size) {
    self.source = source
    self.target = target
    rows = ResamplingWeights(filter, from: source.height, to: target.height)
    columns = ResamplingWeights(filter, from: source.width, to: target.width)
  }

  /// Resizes planes. Time is O(samples * max(1, shrinking factor)).
  ///
  /// - Parameter values: row-major, in the shape given by `layout`, of the source size.
  /// - Returns: the same layout, of the target size.
  public func apply(_ values: [Float], channels: Int, layout: Layout) -> [Float] {
    precondition(
      channels > 0 && values.count == channels * source.height * source.width,
      "the sample count must match the size")
    if source == target { return values }
    // An axis of length n in a row-major array: a number of blocks of n runs of consecutive samples.
    let (planes, run) = layout == .channelsFirst ? (channels, 1) : (1, channels)
    let wide = resample(
      values, blocks: planes * source.height, length: source.width, run: run, columns, to: target.width)
    return resample(
      wide, blocks: planes, length: source.height, run: target.width * run, rows, to: target.height)
  }

  private func resample(
    _ values: [Float], blocks: Int, length: Int, run: Int, _ weights: ResamplingWeights<Float>,
    to target: Int
  ) -> [Float] {
    if length == target { return values }
    var result = [Float](repeating: 0, count: blocks * target * run)
    let input = values.span
    let factors = weights.weights.span
    var output = result.mutableSpan
    for block in 0..<blocks {
      for index in 0..<target {
        let to = (block * target + index) * run
        let from = (block * length + weights.starts[index]) * run
        let factor = index * weights.stride
        let taps = weights.counts[index]
        if run == 1 {
          var sum: Float = 0
          for tap in 0..<taps { sum += input[from + tap] * factors[factor + tap] }
          output[to] = sum
        } else {
          for tap in 0..<taps {
            let weight = factors[factor + tap]
            let start = from + tap * run
            for offset in 0..<run { output[to + offset] += input[start + offset] * weight }
          }
        }
      }
    }
    return result
  }
}
