/// IQ3_XXS and IQ3_S: groups of four magnitudes as points of a codebook, with signs for eight. 256 elements each, in
/// eight sub-blocks of 32.
///
/// IQ3_XXS, 98 bytes:
///
///     0        2              66                 98
///     | unit   | positions    | signs and scales  |
///       F16      64 U8          8 x U32: four times seven signs from the lowest bit on and the scale's four bits at
///                               the top; the eighth sign makes the negative ones even in number
///
///     value = unit * (0.5 + scale) / 2 * level * sign, levels 4, 12, 20, 28, 36, 44, 52, 62
///
/// IQ3_S, 110 bytes:
///
///     0        2        66       74       106       110
///     | unit   | low    | high   | signs  | scales   |
///       F16      64 U8    8 U8     32 U8    4 U8: sub-block s in nibble s
///                positions' low eight bits, ninth bits (group k of sub-block s in bit k of byte s), all signs
///
///     value = unit * (1 + 2 * scale) * level * sign, levels 1, 3, ... 15
///
/// Source: `dequantize_row_iq3_*` and `quantize_row_iq3_*_impl` in ggml-quants.c.
enum IQ3Twin {
  private static let levelsXXS: [Float] = [4, 12, 20, 28, 36, 44, 52, 62]
  private static let levelsS: [Float] = [1, 3, 5, 7, 9, 11, 13, 15]

  /// The four values of group `k`, the signs of eight elements being shared by two groups.
  private static func group(
    _ k: Int, _ coordinates: [Int], _ levels: [Float], signs: UInt8, scale: Float
  ) -> [Float] {
    coordinates.enumerated().map { i, coordinate in
      scale * levels[coordinate] * (signs >> (4 * (k % 2) + i) & 1 == 1 ? -1 : 1)
    }
  }

  // MARK: IQ3_XXS

  static func decodeXXS(_ block: [UInt8]) -> [Float] {
    (0..<64).flatMap { k in
      let tail = block.iqUInt32(at: 66 + 4 * (k / 8))
      let signs = IQ2Twin.completeSigns(UInt8(tail >> (7 * (k / 2 % 4)) & 127))
      let scale = block.iqHalf(at: 0) * (0.5 + Float(tail >> 28)) * 0.5
      return group(k, IQCodebook.iq3XXS.point(Int(block[2 + k])), levelsXXS, signs: signs, scale: scale)
    }
  }

  static func encodeXXS(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let lattice = IQLatticeTwin(
      codebook: .iq3XXS, size: 32, attempts: 15, step: 0.2, floor: 1e-8, evenSigns: true,
      refinement: .offPoints)
    let found = lattice.search(x, importance: importance)
    var block = [UInt8](repeating: 0, count: 98)
    let largest = IQ2Twin.largestScale(found)
    if largest == 0 { return block }
    let unit = largest / 31
    block.iqPutHalf(unit * 1.0125, at: 0)
    for (s, own) in found.enumerated() {
      var tail = UInt32(IQ2Twin.scaleBits(own, inverse: 1 / unit)) << 28
      if let own {
        for (k, position) in own.positions.enumerated() { block[2 + 8 * s + k] = UInt8(position) }
        for (k, signs) in own.signs.enumerated() { tail |= UInt32(signs & 127) << (7 * k) }
      }
      block.iqPut(tail, at: 66 + 4 * s)
    }
    return block
  }

  // MARK: IQ3_S

  static func decodeS(_ block: [UInt8]) -> [Float] {
    (0..<64).flatMap { k in
      let s = k / 8
      let scale = block.iqHalf(at: 0) * Float(1 + 2 * (block[106 + s / 2] >> (4 * (s % 2)) & 15))
      let position = Int(block[2 + k]) | Int(block[66 + s] >> (k % 8) & 1) << 8
      return group(k, IQCodebook.iq3S.point(position), levelsS, signs: block[74 + k / 2], scale: scale)
    }
  }

  static func encodeS(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let lattice = IQLatticeTwin(
      codebook: .iq3S, size: 32, attempts: 9, step: 0.2, floor: .leastNonzeroMagnitude, evenSigns: false,
      refinement: .allIfAnyOffPoint)
    let found = lattice.search(x, importance: importance)
    var block = [UInt8](repeating: 0, count: 110)
    // The reference does not step over a sub-block that is all zero: later ones take its place among the low bits and
    // the signs, though not among the ninth bits and the scales. Existing files depend on it, so this does the same.
    for (slot, (s, own)) in found.enumerated().filter({ $0.element != nil }).enumerated() {
      guard let own else { continue }
      for (k, position) in own.positions.enumerated() {
        block[2 + 8 * slot + k] = UInt8(position & 255)
        block[66 + s] |= UInt8(position >> 8) << k
      }
      for (k, signs) in own.signs.enumerated() { block[74 + 4 * slot + k] = signs }
    }
    let largest = IQ2Twin.largestScale(found)
    if largest == 0 { return block }
    let unit = largest / 31
    block.iqPutHalf(unit * 1.033, at: 0)
    for (s, own) in found.enumerated() {
      block[106 + s / 2] |= IQ2Twin.scaleBits(own, inverse: 1 / unit) << (4 * (s % 2))
    }
    return block
  }
}
