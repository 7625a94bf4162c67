/// IQ4_NL and IQ4_XS: four bits per element, which choose one of sixteen levels with uneven gaps.
///
/// IQ4_NL, 18 bytes for 32 elements:
///
///     0        2                18
///     | unit   | levels          |
///       F16      16 bytes: element j in the low nibble of byte j, element 16 + j in the high one
///
///     value = unit * level
///
/// IQ4_XS, 136 bytes for 256 elements, eight sub-blocks of 32:
///
///     0        2        4        8                 136
///     | unit   | high   | low    | levels            |
///       F16      U16      4 x U8   8 x 16 bytes, each as in IQ4_NL
///
///     scale of sub-block s = unit * (low nibble s + 16 * high bit pair s - 32)
///     value = scale * level
///
/// Source: `quantize_row_iq4_nl_impl`, `dequantize_row_iq4_nl` and `dequantize_row_iq4_xs` in ggml-quants.c, levels
/// `kvalues_iq4nl` in ggml-common.h.
enum IQ4Twin {
  static let levels: [Float] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

  /// The position of the level nearest to a value; the upper one at the midpoint.
  static func nearestLevel(_ value: Float) -> Int {
    if value <= levels[0] { return 0 }
    if value >= levels[15] { return 15 }
    let upper = levels.firstIndex { value < $0 } ?? 15
    return value - levels[upper - 1] < levels[upper] - value ? upper - 1 : upper
  }

  // MARK: Decoding

  private static func decodeNibbles(_ packed: ArraySlice<UInt8>, scale: Float) -> [Float] {
    packed.map { scale * levels[Int($0 & 15)] } + packed.map { scale * levels[Int($0 >> 4)] }
  }

  static func decodeNL(_ block: [UInt8]) -> [Float] {
    decodeNibbles(block[2..<18], scale: block.iqHalf(at: 0))
  }

  static func decodeXS(_ block: [UInt8]) -> [Float] {
    scalesXS(block).enumerated().flatMap { s, scale in
      decodeNibbles(block[8 + 16 * s..<24 + 16 * s], scale: scale)
    }
  }

  /// The scales of the sub-blocks.
  static func scalesXS(_ block: [UInt8]) -> [Float] {
    let unit = block.iqHalf(at: 0)
    return (0..<8).map { s in
      let low = Int(block[4 + s / 2] >> (4 * (s % 2)) & 15)
      let high = Int(block.iqUInt16(at: 2) >> (2 * s) & 3)
      return unit * Float(low + 16 * high - 32)
    }
  }

  // MARK: Encoding

  /// The scale of 32 elements with the largest gain among sixteen candidates, each fitted to the levels it leads to.
  ///
  /// - Parameter energy: Twice the mean square of the block; used with importance only.
  static func bestScale(_ x: [Float], importance: [Float]?, energy: Float) -> Float {
    let weights = x.indices.map { j in
      if let importance { importance[j] * (energy + x[j] * x[j]).squareRoot() } else { x[j] * x[j] }
    }
    // The element of the largest magnitude, with its sign; the first of equals.
    var extreme: Float = 0
    for value in x where value.magnitude > extreme.magnitude { extreme = value }
    if extreme.magnitude < 1e-15 { return 0 }

    func fit(_ inverse: Float) -> (qx: Float, qq: Float) {
      var qx: Float = 0
      var qq: Float = 0
      for (value, weight) in zip(x, weights) {
        let level = levels[nearestLevel(inverse * value)]
        qx += weight * level * value
        qq += weight * level * level
      }
      return (qx, qq)
    }
    // The first candidate maps the extreme element to the lowest level, the others to whole numbers around it.
    let first = fit(1 / (-extreme / levels[0]))
    var scale = first.qq > 0 ? first.qx / first.qq : 0
    var best = scale * first.qx
    for attempt in -7...7 {
      let (qx, qq) = fit((Float(attempt) + levels[0]) / extreme)
      if qq > 0 && qx * qx > best * qq {
        scale = qx / qq
        best = scale * qx
      }
    }
    return scale
  }

  private static func nibbles(_ x: ArraySlice<Float>, scale: Float) -> [UInt8] {
    let inverse = scale != 0 ? 1 / scale : 0
    let own = x.map { UInt8(nearestLevel(inverse * $0)) }
    return (0..<16).map { own[$0] | own[16 + $0] << 4 }
  }

  static func encodeNL(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let scale = bestScale(x, importance: importance, energy: IQTwin.energy(x) * (2 / 32))
    var block: [UInt8] = [0, 0]
    block.iqPutHalf(scale, at: 0)
    return block + nibbles(x[...], scale: scale)
  }

  static func encodeXS(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let energy = IQTwin.energy(x) * (2 / 256)
    let scales = (0..<8).map { s in
      let part = 32 * s..<32 * s + 32
      return bestScale(Array(x[part]), importance: importance.map { Array($0[part]) }, energy: energy)
    }
    var extreme: Float = 0
    for scale in scales where scale.magnitude > extreme.magnitude { extreme = scale }
    let unit = -extreme / 32
    let inverse = unit != 0 ? 1 / unit : 0

    var block = [UInt8](repeating: 0, count: 8)
    var high: UInt16 = 0
    for (s, scale) in scales.enumerated() {
      let level = max(-32, min(31, IQTwin.nearest(inverse * scale)))
      block[4 + s / 2] |= UInt8((level + 32) & 15) << (4 * (s % 2))
      high |= UInt16((level + 32) >> 4) << (2 * s)
      block += nibbles(x[32 * s..<32 * s + 32], scale: unit * Float(level))
    }
    block.iqPutHalf(unit, at: 0)
    block.iqPut(high, at: 2)
    return block
  }
}
