internal import ImageInput
internal import StoredWeights
internal import Step3Model
internal import TensorFormats
internal import ParallelWork

/// The vision tower's input: patches as vectors, positions, and class rows in front.
struct PatchEmbedding {
  let vision: Step3Configuration.Vision
  let weights: ModelWeights
  let products: Products

  /// Embeds pictures.
  ///
  /// - Returns: `[rows of all pictures, width]`.
  func embed(_ batch: ImageBatch) throws -> Activations {
    let width = vision.hiddenSize
    let embedded = try patches(of: batch)
    let classRow = try weights.row(Step3TensorName(.classEmbedding, suffix: .none), width)
    let result = Activations(rows: batch.rowCount, columns: width)
    var tables: [Int: [Float]] = [:]
    let stored = try positions()
    var patch = 0
    for image in batch.images {
      let table = tables[image.grid] ?? resized(stored, to: image.grid)
      tables[image.grid] = table
      for row in image.rows.lowerBound..<image.patches.lowerBound {
        result.update(row) { span in
          for index in 0..<width { span[index] = classRow[index] + table[index] }
        }
      }
      for (position, row) in image.patches.enumerated() {
        let source = embedded[patch]
        result.update(row) { span in
          for index in 0..<width { span[index] = source[index] + table[(position + 1) * width + index] }
        }
        patch += 1
      }
    }
    return result
  }

  /// The convolution whose windows are the patches and do not overlap, as one matrix product.
  ///
  /// - Returns: `[patches of all pictures, width]`.
  private func patches(of batch: ImageBatch) throws -> Activations {
    let (size, channels, width) = (vision.patchSize, vision.channelCount, vision.hiddenSize)
    let windows = Activations(
      rows: batch.images.reduce(0) { $0 + $1.grid * $1.grid }, columns: channels * size * size)
    var row = 0
    for image in batch.images {
      let pixels = batch.sources[image.source]
      let (grid, first) = (image.grid, row)
      try ParallelWork.forEach(below: grid * grid, threads: products.threads) { patch in
        let (line, column) = patch.quotientAndRemainder(dividingBy: grid)
        windows.update(first + patch) { window in
          var index = 0
          for channel in 0..<channels {
            for y in 0..<size {
              let start =
                ((image.index * channels + channel) * pixels.side + line * size + y) * pixels.side + column
                * size
              for x in 0..<size {
                window[index] = pixels.values[start + x]
                index += 1
              }
            }
          }
        }
      }
      row += grid * grid
    }
    let matrix = try weights.convolution(
      Step3TensorName(.patchEmbedding), [width, channels, size, size])
    let result = try products.multiply(windows, matrix)
    let bias = try weights.vector(Step3TensorName(.patchEmbedding, suffix: .bias), width)
    try Elementwise.addBias(result, bias, threads: products.threads)
    return result
  }

  /// The stored table: `[1 + side · side, width]`, the class token's position first.
  private func positions() throws(CheckpointError) -> [Float] {
    let weight = try weights.weight(
      Step3TensorName(.positionEmbedding), [vision.positionCount, vision.hiddenSize])
    return try weights.values(of: weight)
  }

  /// The table for another grid: bicubic and antialiased, the class token's position left as it is.
  private func resized(_ table: [Float], to grid: Int) -> [Float] {
    let side = vision.imageSize / vision.patchSize
    guard side != grid else { return table }
    let resize = AntialiasedResize(
      .bicubic, from: .init(height: side, width: side), to: .init(height: grid, width: grid))
    let width = vision.hiddenSize
    return Array(table[..<width])
      + resize.apply(Array(table[width...]), channels: width, layout: .channelsLast)
  }
}
