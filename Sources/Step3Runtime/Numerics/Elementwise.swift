#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif
#if canImport(Glibc)
internal import Glibc
internal import ParallelWork
#endif

/// Row-wise functions between matrix products.
enum Elementwise {
  /// RMSNorm: `x / sqrt(mean(x²) + epsilon) · weight`, without an offset to the weight.
  static func rmsNorm(_ input: Activations, weight: [Float], epsilon: Double) -> Activations {
    precondition(weight.count == input.columns)
    let result = Activations(rows: input.rows, columns: input.columns)
    for row in 0..<input.rows {
      let source = input[row]
      var squares = 0.0
      for index in source.indices { squares += Double(source[index]) * Double(source[index]) }
      let scale = Float(1 / (squares / Double(input.columns) + epsilon).squareRoot())
      result.update(row) { target in
        for index in source.indices { target[index] = source[index] * scale * weight[index] }
      }
    }
    return result
  }

  /// RMSNorm over each head of each row, in place.
  ///
  /// - Parameter weight: One for all heads.
  static func rmsNormHeads(
    _ values: Activations, weight: [Float], epsilon: Double, threads: Int
  ) throws {
    let dimension = weight.count
    precondition(values.columns % dimension == 0)
    try ParallelWork.forEach(below: values.rows, threads: threads) { row in
      values.update(row) { span in
        for start in stride(from: 0, to: span.count, by: dimension) {
          var squares = 0.0
          for index in 0..<dimension { squares += Double(span[start + index]) * Double(span[start + index]) }
          let scale = Float(1 / (squares / Double(dimension) + epsilon).squareRoot())
          for index in 0..<dimension { span[start + index] *= scale * weight[index] }
        }
      }
    }
  }

  /// Multiplies each head of each row by the sigmoid of its gate, in place.
  ///
  /// - Parameter gates: `[rows, heads]`.
  static func gateHeads(_ values: Activations, _ gates: Activations, threads: Int) throws {
    precondition(gates.rows == values.rows && values.columns % gates.columns == 0)
    let dimension = values.columns / gates.columns
    try ParallelWork.forEach(below: values.rows, threads: threads) { row in
      let gate = gates[row]
      values.update(row) { span in
        for head in gate.indices {
          let factor = 1 / (1 + exp(-gate[head]))
          for index in head * dimension..<(head + 1) * dimension { span[index] *= factor }
        }
      }
    }
  }

  /// LayerNorm over each row, as PyTorch computes it.
  static func layerNorm(
    _ input: Activations, weight: [Float], bias: [Float], epsilon: Double, threads: Int
  ) throws -> Activations {
    precondition(weight.count == input.columns && bias.count == input.columns)
    let result = Activations(rows: input.rows, columns: input.columns)
    let length = Double(input.columns)
    try ParallelWork.forEach(below: input.rows, threads: threads) { row in
      let source = input[row]
      var sum = 0.0
      for index in source.indices { sum += Double(source[index]) }
      let mean = sum / length
      var squares = 0.0
      for index in source.indices {
        squares += (Double(source[index]) - mean) * (Double(source[index]) - mean)
      }
      let scale = 1 / (squares / length + epsilon).squareRoot()
      result.update(row) { target in
        for index in source.indices {
          target[index] = Float((Double(source[index]) - mean) * scale) * weight[index] + bias[index]
        }
      }
    }
    return result
  }

  /// `silu(gate) · up`, into `gate`. SiLU is `x · sigmoid(x)`.
  ///
  /// - Parameter limit: The upper limit for SiLU's result, and the limit for the magnitude of `up`; `nil` for none.
  static func swiGLU(_ gate: Activations, _ up: Activations, limit: Float? = nil, threads: Int) throws {
    precondition(gate.rows == up.rows && gate.columns == up.columns)
    try ParallelWork.forEach(below: gate.rows, threads: threads) { row in
      let factors = up[row]
      if let limit {
        gate.update(row) { values in
          for index in values.indices {
            let activated = min(values[index] / (1 + exp(-values[index])), limit)
            values[index] = activated * max(-limit, min(factors[index], limit))
          }
        }
        return
      }
      gate.update(row) { values in
        for index in values.indices {
          values[index] = values[index] / (1 + exp(-values[index])) * factors[index]
        }
      }
    }
  }

  /// `x · sigmoid(1.702 x)`, in place: the GELU of CLIP.
  static func quickGELU(_ values: Activations, threads: Int) throws {
    try ParallelWork.forEach(below: values.rows, threads: threads) { row in
      values.update(row) { span in
        for index in span.indices { span[index] = span[index] / (1 + exp(-1.702 * span[index])) }
      }
    }
  }

  /// Adds the same row to every row.
  static func addBias(_ values: Activations, _ bias: [Float], threads: Int) throws {
    precondition(bias.count == values.columns)
    try ParallelWork.forEach(below: values.rows, threads: threads) { row in
      values.update(row) { span in for index in span.indices { span[index] += bias[index] } }
    }
  }

  /// Softmax of the scores from `first` up to `count`, in place; the rest of the row becomes 0.
  static func softmax(_ row: inout MutableSpan<Float>, from first: Int = 0, count: Int) {
    for index in 0..<first { row[index] = 0 }
    var largest = -Float.infinity
    for index in first..<count { largest = max(largest, row[index]) }
    var sum: Float = 0
    for index in first..<count {
      let value = exp(row[index] - largest)
      row[index] = value
      sum += value
    }
    let scale = 1 / sum
    for index in first..<count { row[index] *= scale }
    for index in count..<row.count { row[index] = 0 }
  }
}
