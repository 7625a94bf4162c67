import Checkpoint
import Foundation
import StoredWeights
import Step3Model
import Step3Runtime
import Testing

/// The computation of disaggregation without processes and wires: each part's partial sum from rounded tokens, rounded, added
/// in the order of the parts. The rounding is written a second time here.
struct RoundingFeedForward: FeedForward {
  private let ranks: [LocalFeedForward]
  private let tokens: TokenWireFormat
  private let results: ResultWireFormat

  init(_ parts: [String], tokens: TokenWireFormat, results: ResultWireFormat) throws {
    ranks = try parts.map { part in
      let weights = try ModelWeights(Checkpoint.open(part))
      let text = try #require(weights.configuration).text
      return LocalFeedForward(weights, text, Products(threads: 1))
    }
    self.tokens = tokens
    self.results = results
  }

  func output(layer: Int, _ input: Activations, _ routing: Routing?) throws -> Activations {
    let sent: [Float] =
      switch tokens {
      case .f32: input.array
      case .bf16: input.array.map(Self.bf16)
      case .fp8: Self.fp8(input.array, columns: input.columns)
      }
    let rounded = Activations(rows: input.rows, columns: input.columns, sent)
    var sum = [Float](repeating: 0, count: sent.count)
    for rank in ranks {
      let partial = try rank.output(layer: layer, rounded, routing).array
      for index in sum.indices { sum[index] += results == .bf16 ? Self.bf16(partial[index]) : partial[index] }
    }
    return Activations(rows: input.rows, columns: input.columns, sum)
  }

  private static func bf16(_ value: Float) -> Float {
    let bits: UInt32 = value.bitPattern
    let odd: UInt32 = (bits >> 16) & 1
    return Float(bitPattern: (bits + 0x7FFF + odd) & 0xFFFF_0000)
  }

  private static func fp8(_ values: [Float], columns: Int) -> [Float] {
    var result = values
    for row in stride(from: 0, to: values.count, by: columns) {
      for first in stride(from: 0, to: columns, by: 128) {
        let group = row + first..<row + min(first + 128, columns)
        let largest = group.reduce(Float(0)) { max($0, abs(values[$1])) }
        let scale = largest > 0 ? largest / 448 : 1
        for index in group { result[index] = e4m3(values[index] / scale) * scale }
      }
    }
    return result
  }

  /// The nearest number with three mantissa bits from 2^-6 on, and the nearest multiple of 2^-9 below.
  private static func e4m3(_ value: Float) -> Float {
    guard value != 0 else { return value }
    let step = Float(sign: .plus, exponent: max(Int(value.exponent), -6) - 3, significand: 1)
    return (value / step).rounded(.toNearestOrEven) * step
  }
}
