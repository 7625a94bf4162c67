internal import StoredWeights
internal import Step3Model
internal import TensorFormats
internal import ParallelWork

/// From patches to the language model's vectors: two strided convolutions that give fewer and longer vectors, then
/// one linear layer.
struct FeatureProjector {
  let vision: Step3Configuration.Vision
  let hiddenSize: Int
  let weights: ModelWeights
  let products: Products

  /// A convolution over a square grid.
  struct Convolution {
    let module: Step3Module
    let kernel: Int
    let stride: Int
    let padding: Int

    /// Kernel positions along each side of a grid.
    func outputGrid(_ grid: Int) -> Int { (grid + 2 * padding - kernel) / stride + 1 }
  }

  /// `vit_downsampler`, whose stride the configuration gives, and `vit_downsampler2`.
  static func convolutions(_ vision: Step3Configuration.Vision) -> [Convolution] {
    [
      Convolution(module: .downsampler1, kernel: 2, stride: vision.projectorStride, padding: 0),
      Convolution(module: .downsampler2, kernel: 3, stride: 2, padding: 1),
    ]
  }

  /// How many vectors a picture of that grid becomes.
  static func featureCount(_ grid: Int, _ vision: Step3Configuration.Vision) -> Int {
    let side = convolutions(vision).reduce(grid) { $1.outputGrid($0) }
    return side * side
  }

  /// The elements of windows unfolded at a time, which bounds memory for any number of pictures.
  static let bandElements = 1 << 25

  /// Projects patches.
  ///
  /// - Parameters:
  ///   - patches: `[patches of all pictures, width]`, line by line.
  ///   - grids: Patches along each side of each picture.
  /// - Returns: `[features of all pictures, hidden]`.
  func project(_ patches: Activations, grids: [Int]) throws -> Activations {
    let outputs = [vision.outputSize, 2 * vision.outputSize]
    var (values, grids) = (patches, grids)
    for (convolution, channels) in zip(Self.convolutions(vision), outputs) {
      values = try apply(convolution, values, grids: grids, channels: channels)
      grids = grids.map(convolution.outputGrid)
    }
    let result = try products.multiply(
      values, weights.matrix(Step3TensorName(.projector), [hiddenSize, values.columns]))
    let bias = Step3TensorName(.projector, suffix: .bias)
    if vision.projectorBias || weights[bias] != nil {
      try Elementwise.addBias(result, weights.vector(bias, hiddenSize), threads: products.threads)
    }
    return result
  }

  private func apply(
    _ convolution: Convolution, _ input: Activations, grids: [Int], channels: Int
  ) throws -> Activations {
    let (kernel, name) = (convolution.kernel, Step3TensorName(convolution.module))
    let matrix = try weights.convolution(name, [channels, input.columns, kernel, kernel])
    let bias = try weights.vector(Step3TensorName(convolution.module, suffix: .bias), channels)
    let windows = Self.windows(of: convolution, grids: grids)
    let result = Activations(rows: windows.count, columns: channels)
    let band = max(256, Self.bandElements / matrix.columns)
    for first in stride(from: 0, to: windows.count, by: band) {
      let range = first..<min(first + band, windows.count)
      let unfolded = Activations(rows: range.count, columns: matrix.columns)
      try ParallelWork.forEach(below: range.count, threads: products.threads) { row in
        unfolded.update(row) { windows[first + row].unfold(input, kernel: kernel, into: &$0) }
      }
      result.replace(from: first, with: try products.multiply(unfolded, matrix))
    }
    try Elementwise.addBias(result, bias, threads: products.threads)
    return result
  }

  /// One position of a kernel.
  private struct Window {
    /// The first patch of its picture.
    let first: Int
    let grid: Int
    /// The grid position of the kernel's first corner; outside the grid, where there is padding, are zeros.
    let line: Int
    let column: Int

    /// Writes `[channels, kernel, kernel]`, the order of the stored weight's rows.
    func unfold(_ input: Activations, kernel: Int, into span: inout MutableSpan<Float>) {
      let area = kernel * kernel
      for y in 0..<kernel where (0..<grid).contains(line + y) {
        for x in 0..<kernel where (0..<grid).contains(column + x) {
          let source = input[first + (line + y) * grid + column + x]
          for channel in source.indices { span[channel * area + y * kernel + x] = source[channel] }
        }
      }
    }
  }

  /// The windows of all pictures, line by line.
  private static func windows(of convolution: Convolution, grids: [Int]) -> [Window] {
    var windows: [Window] = []
    var first = 0
    for grid in grids {
      let side = convolution.outputGrid(grid)
      for line in 0..<side {
        for column in 0..<side {
          windows.append(
            Window(
              first: first, grid: grid, line: line * convolution.stride - convolution.padding,
              column: column * convolution.stride - convolution.padding))
        }
      }
      first += grid * grid
    }
    return windows
  }
}
