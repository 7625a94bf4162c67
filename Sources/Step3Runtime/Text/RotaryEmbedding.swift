internal import Step3Model

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif
#if canImport(Glibc)
internal import Glibc
internal import ParallelWork
#endif

/// The rotary embedding: pairs of elements half a head apart are rotated by an angle proportional to the position.
///
/// Angles are computed in F64, as positions times small frequencies require. Sources: RoFormer (arXiv 2104.09864),
/// YaRN (arXiv 2309.00071), and the scaling rules that `config.json`'s `rope_scaling` names in transformers.
struct RotaryEmbedding: Sendable {
  /// Radians per position, one for each pair.
  let frequencies: [Double]
  /// The factor for cosine and sine.
  let factor: Double
  /// Elements of a head; those after the rotated ones are unchanged.
  let headDimension: Int

  /// The embedding of full-attention layers.
  init(_ text: Step3Configuration.Text) {
    let dimension = text.rotaryDimension ?? text.headDimension
    headDimension = text.headDimension
    let plain = Self.frequencies(dimension, base: text.ropeTheta)
    guard let scaling = text.ropeScaling else {
      (frequencies, factor) = (plain, 1)
      return
    }
    switch scaling.kind {
    case .linear: (frequencies, factor) = (plain.map { $0 / scaling.factor }, 1)
    case .llama3: (frequencies, factor) = (Self.llama3(plain, scaling, text), 1)
    case .yarn: (frequencies, factor) = Self.yarn(plain, scaling, text)
    }
  }

  /// One without scaling.
  init(turning dimension: Int, of headDimension: Int, base: Double) {
    self.headDimension = headDimension
    (frequencies, factor) = (Self.frequencies(dimension, base: base), 1)
  }

  private static func frequencies(_ dimension: Int, base: Double) -> [Double] {
    stride(from: 0, to: dimension, by: 2).map { pow(base, -Double($0) / Double(dimension)) }
  }

  /// High frequencies, relative to the original context, stay; low ones are scaled; those in between are interpolated.
  private static func llama3(
    _ plain: [Double], _ scaling: Step3Configuration.RopeScaling, _ text: Step3Configuration.Text
  ) -> [Double] {
    let length = Double(scaling.originalContextLength ?? text.contextLength)
    let low = scaling.parameters["low_freq_factor"] ?? 1
    let high = scaling.parameters["high_freq_factor"] ?? 4
    return plain.map { frequency in
      let turns = length * frequency / (2 * .pi)
      let kept = min(max((turns - low) / (high - low), 0), 1)
      return frequency * kept + frequency / scaling.factor * (1 - kept)
    }
  }

  private static func yarn(
    _ plain: [Double], _ scaling: Step3Configuration.RopeScaling, _ text: Step3Configuration.Text
  ) -> ([Double], Double) {
    let dimension = Double(text.rotaryDimension ?? text.headDimension)
    let length = Double(scaling.originalContextLength ?? text.contextLength)
    /// The pair that makes this many turns within the original context.
    func pair(turning turns: Double) -> Double {
      dimension * log(length / (turns * 2 * .pi)) / (2 * log(text.ropeTheta))
    }
    let low = max(floor(pair(turning: scaling.parameters["beta_fast"] ?? 32)), 0)
    let high = min(ceil(pair(turning: scaling.parameters["beta_slow"] ?? 1)), dimension - 1)
    let frequencies = plain.enumerated().map { index, frequency in
      let kept = 1 - min(max((Double(index) - low) / max(high - low, 0.001), 0), 1)
      return frequency * kept + frequency / scaling.factor * (1 - kept)
    }
    func scale(_ weight: Double) -> Double {
      scaling.factor > 1 ? 0.1 * weight * log(scaling.factor) + 1 : 1
    }
    if let stated = scaling.parameters["attention_factor"] { return (frequencies, stated) }
    if let own = scaling.parameters["mscale"], let all = scaling.parameters["mscale_all_dim"] {
      return (frequencies, scale(own) / scale(all))
    }
    return (frequencies, scale(1))
  }

  /// Rotates each head of each token, in place.
  ///
  /// - Parameter positions: One per row of `values`, whose columns are a whole number of heads.
  func apply(to values: Activations, positions: [Int], threads: Int) throws {
    let half = frequencies.count
    precondition(positions.count == values.rows && values.columns % headDimension == 0)
    try ParallelWork.forEach(below: values.rows, threads: threads) { row in
      var cosines = [Float](repeating: 0, count: half)
      var sines = cosines
      for index in 0..<half {
        let angle = Double(positions[row]) * frequencies[index]
        cosines[index] = Float(cos(angle) * factor)
        sines[index] = Float(sin(angle) * factor)
      }
      values.update(row) { span in
        for head in stride(from: 0, to: span.count, by: headDimension) {
          for index in 0..<half {
            let (first, second) = (span[head + index], span[head + half + index])
            span[head + index] = first * cosines[index] - second * sines[index]
            span[head + half + index] = second * cosines[index] + first * sines[index]
          }
        }
      }
    }
  }
}
