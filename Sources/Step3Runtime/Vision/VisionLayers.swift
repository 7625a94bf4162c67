internal import StoredWeights
internal import Step3Model
internal import TensorFormats

/// The vision tower's layers: `x += norm1(attention(x))`, `x += norm2(mlp(x))`.
struct VisionLayers {
  let vision: Step3Configuration.Vision
  let weights: ModelWeights
  let products: Products

  /// Rows that go through the MLP at a time; its inner vectors are eight times as long as the rows. Rereading the
  /// weights for every band costs next to nothing compared with the products.
  static let bandRows = 4096

  /// Runs one layer: the residual stream `[rows, width]` is changed in place.
  func run(_ layer: Int, _ hidden: Activations, _ batch: ImageBatch) throws {
    let width = vision.hiddenSize
    do {
      let projected = try linear(.visionQKV, layer, hidden, 3 * width)
      let mixed = try VisionAttention(vision, threads: products.threads).mix(
        projected, batch.images.map(\.rows))
      hidden.add(try norm(.visionNorm1, layer, linear(.visionOutput, layer, mixed, width)))
    }
    for first in stride(from: 0, to: hidden.rows, by: Self.bandRows) {
      let rows = first..<min(first + Self.bandRows, hidden.rows)
      let band = rows.count == hidden.rows ? hidden : hidden.copy(rows: rows)
      let inner = try linear(.visionFC1, layer, band, vision.intermediateSize)
      try Elementwise.quickGELU(inner, threads: products.threads)
      let output = try norm(.visionNorm2, layer, linear(.visionFC2, layer, inner, width))
      hidden.add(output, from: first)
    }
  }

  private func linear(
    _ module: Step3Module, _ layer: Int, _ input: Activations, _ rows: Int
  ) throws -> Activations {
    let matrix = try weights.matrix(Step3TensorName(module, layer: layer), [rows, input.columns])
    let bias = try weights.vector(Step3TensorName(module, layer: layer, suffix: .bias), rows)
    let result = try products.multiply(input, matrix)
    try Elementwise.addBias(result, bias, threads: products.threads)
    return result
  }

  private func norm(_ module: Step3Module, _ layer: Int, _ input: Activations) throws -> Activations {
    let width = vision.hiddenSize
    return try Elementwise.layerNorm(
      input, weight: weights.vector(Step3TensorName(module, layer: layer), width),
      bias: weights.vector(Step3TensorName(module, layer: layer, suffix: .bias), width),
      // The published forward pass does not use the configuration's.
      epsilon: Step3Configuration.Vision.computedLayerNormEpsilon, threads: products.threads)
  }
}
