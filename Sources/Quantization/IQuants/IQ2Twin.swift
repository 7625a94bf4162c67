/// IQ2_XXS, IQ2_XS and IQ2_S: groups of eight magnitudes as points of a codebook, with their signs. 256 elements each.
///
/// IQ2_XXS, 66 bytes, eight sub-blocks of 32:
///
///     0        2                              66
///     | unit   | sub-blocks                    |
///       F16      8 x 8 bytes: four positions U8, then a U32 with four times seven signs from the lowest bit on
///                and the scale's four bits at the top; the eighth sign makes the negative ones even in number
///
/// IQ2_XS, 74 bytes, sixteen sub-blocks of 16:
///
///     0        2                              66        74
///     | unit   | groups                        | scales  |
///       F16      32 x U16: position in nine      8 bytes: sub-block s in nibble s
///                bits, then seven signs
///
/// IQ2_S, 82 bytes, sixteen sub-blocks of 16:
///
///     0        2        34       66       74        82
///     | unit   | low    | signs  | high   | scales   |
///       F16      32 U8    32 U8    8 U8     as above
///                positions' low eight bits, all eight signs, positions' high two bits (group g in bit pair g)
///
///     value = unit * (0.5 + scale) / 4 * level * sign, where coordinate 0, 1, 2 stands for level 8, 25, 43
///
/// Source: `dequantize_row_iq2_*` and `quantize_row_iq2_*_impl` in ggml-quants.c.
enum IQ2Twin {
  private static let levels: [Float] = [8, 25, 43]

  private static func group(
    _ codebook: IQCodebook, _ position: Int, signs: UInt8, unit: Float, scale: UInt8
  ) -> [Float] {
    let own = unit * (0.5 + Float(scale)) * 0.25
    return codebook.point(position).enumerated().map { i, coordinate in
      own * levels[coordinate] * (signs >> i & 1 == 1 ? -1 : 1)
    }
  }

  /// Seven signs, and the eighth that makes their number even.
  static func completeSigns(_ seven: UInt8) -> UInt8 {
    seven | (seven.nonzeroBitCount % 2 == 1 ? 128 : 0)
  }

  /// The four bits of a sub-block's scale, given the inverse of the unit.
  static func scaleBits(_ found: IQLatticeTwin.Found?, inverse: Float) -> UInt8 {
    UInt8(max(0, min(15, IQTwin.nearest(0.5 * (inverse * (found?.scale ?? 0) - 1)))))
  }

  /// The largest scale of a block's sub-blocks.
  static func largestScale(_ found: [IQLatticeTwin.Found?]) -> Float {
    found.reduce(0) { largest, found in
      guard let found else { return largest }
      return largest > found.scale ? largest : found.scale
    }
  }

  // MARK: IQ2_XXS

  static func decodeXXS(_ block: [UInt8]) -> [Float] {
    (0..<32).flatMap { g in
      let tail = block.iqUInt32(at: 6 + 8 * (g / 4))
      return group(
        .iq2XXS, Int(block[2 + 8 * (g / 4) + g % 4]),
        signs: completeSigns(UInt8(tail >> (7 * (g % 4)) & 127)),
        unit: block.iqHalf(at: 0), scale: UInt8(tail >> 28))
    }
  }

  static func encodeXXS(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let lattice = IQLatticeTwin(
      codebook: .iq2XXS, size: 32, attempts: 6, step: 0.1, floor: 1e-15, evenSigns: true, refinement: .always,
      energyScale: 1, seeded: true)
    let found = lattice.search(x, importance: importance)
    var block = [UInt8](repeating: 0, count: 66)
    let largest = largestScale(found)
    if largest == 0 { return block }
    let unit = largest / 31
    block.iqPutHalf(unit, at: 0)
    for (s, own) in found.enumerated() {
      var tail = UInt32(scaleBits(own, inverse: 1 / unit)) << 28
      for k in 0..<4 {
        guard let own else { continue }
        block[2 + 8 * s + k] = UInt8(own.positions[k])
        tail |= UInt32(own.signs[k] & 127) << (7 * k)
      }
      block.iqPut(tail, at: 6 + 8 * s)
    }
    return block
  }

  // MARK: IQ2_XS

  static func decodeXS(_ block: [UInt8]) -> [Float] {
    (0..<32).flatMap { g in
      let bits = block.iqUInt16(at: 2 + 2 * g)
      return group(
        .iq2XS, Int(bits & 511), signs: completeSigns(UInt8(bits >> 9)), unit: block.iqHalf(at: 0),
        scale: block[66 + g / 4] >> (4 * (g / 2 % 2)) & 15)
    }
  }

  static func encodeXS(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let lattice = IQLatticeTwin(
      codebook: .iq2XS, size: 16, attempts: 9, step: 0.1, floor: 1e-15, evenSigns: true,
      refinement: .offPoints,
      energyScale: 1)
    let found = lattice.search(x, importance: importance)
    var block = [UInt8](repeating: 0, count: 74)
    let largest = largestScale(found)
    if largest == 0 { return block }
    let unit = largest / 31
    block.iqPutHalf(unit, at: 0)
    for (s, own) in found.enumerated() {
      block[66 + s / 2] |= scaleBits(own, inverse: 1 / unit) << (4 * (s % 2))
      for k in 0..<2 {
        guard let own else { continue }
        block.iqPut(UInt16(own.positions[k]) | UInt16(own.signs[k] & 127) << 9, at: 2 + 4 * s + 2 * k)
      }
    }
    return block
  }

  // MARK: IQ2_S

  static func decodeS(_ block: [UInt8]) -> [Float] {
    (0..<32).flatMap { g in
      let high = Int(block[66 + g / 4] >> (2 * (g % 4)) & 3)
      let scale = block[74 + g / 4] >> (4 * (g / 2 % 2)) & 15
      return group(
        .iq2S, Int(block[2 + g]) + 256 * high, signs: block[34 + g], unit: block.iqHalf(at: 0), scale: scale)
    }
  }

  static func encodeS(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let lattice = IQLatticeTwin(
      codebook: .iq2S, size: 16, attempts: 9, step: 0.1, floor: 1e-8, evenSigns: false,
      refinement: .offPoints,
      plainShare: 0.25)
    let found = lattice.search(x, importance: importance)
    var block = [UInt8](repeating: 0, count: 82)
    for (s, own) in found.enumerated() {
      for k in 0..<2 {
        guard let own else { continue }
        let g = 2 * s + k
        block[2 + g] = UInt8(own.positions[k] & 255)
        block[34 + g] = own.signs[k]
        block[66 + g / 4] |= UInt8(own.positions[k] >> 8) << (2 * (g % 4))
      }
    }
    let largest = largestScale(found)
    if largest == 0 { return block }
    let unit = largest / 31
    block.iqPutHalf(unit * 0.9875, at: 0)
    for (s, own) in found.enumerated() {
      block[74 + s / 2] |= scaleBits(own, inverse: 1 / unit) << (4 * (s % 2))
    }
    return block
  }
}
