/// IQ1_S and IQ1_M: groups of eight ternary values as points of a codebook, on a grid shifted by an eighth up or down.
/// 256 elements each.
///
/// IQ1_S, 50 bytes, eight sub-blocks of 32:
///
///     0        2              34              50
///     | unit   | low          | high           |
///       F16      32 U8          8 x U16: four times three high bits of the positions, the scale's three bits, and
///                               at the top whether the shift is down
///
/// IQ1_M, 56 bytes, sixteen sub-blocks of 16:
///
///     0              32             48               56
///     | low          | high         | scales          |
///       32 U8          32 nibbles:    4 x U16: four scales of three bits, and at the top four bits of the unit's
///                      three high     F16, lowest first
///                      bits, shift
///
///     value = unit * (2 * scale + 1) * (coordinate - 1 ± 0.125)
///
/// IQ1_M is only read: its reference encoder's output for rows of equal values could not be reproduced.
///
/// Source: `dequantize_row_iq1_*` and `quantize_row_iq1_s_impl` in ggml-quants.c.
enum IQ1Twin {
  /// The three values of a coordinate with the shift up and down.
  private static let up: [Float] = [-1 + 0.125, 0.125, 1 + 0.125]
  private static let down: [Float] = [-1 - 0.125, -0.125, 1 - 0.125]

  // MARK: Decoding

  private static func group(_ position: Int, scale: Float, isDown: Bool) -> [Float] {
    IQCodebook.iq1.point(position).map { scale * (Float($0 - 1) + (isDown ? -0.125 : 0.125)) }
  }

  static func decodeS(_ block: [UInt8]) -> [Float] {
    (0..<32).flatMap { g in
      let high = block.iqUInt16(at: 34 + 2 * (g / 4))
      let scale = block.iqHalf(at: 0) * Float(2 * (high >> 12 & 7) + 1)
      let position = Int(block[2 + g]) | Int(high >> (3 * (g % 4)) & 7) << 8
      return group(position, scale: scale, isDown: high >> 15 == 1)
    }
  }

  static func decodeM(_ block: [UInt8]) -> [Float] {
    let scales = (0..<4).map { block.iqUInt16(at: 48 + 2 * $0) }
    let unit = scales.enumerated().reduce(UInt16(0)) { $0 | ($1.element >> 12) << (4 * $1.offset) }
    return (0..<32).flatMap { g in
      let bits = scales[g / 8] >> (3 * (g / 2 % 4)) & 7
      let high = block[32 + g / 2] >> (4 * (g % 2)) & 15
      return group(
        Int(block[g]) | Int(high & 7) << 8, scale: HalfPrecision.float(unit) * Float(2 * bits + 1),
        isDown: high & 8 != 0)
    }
  }

  // MARK: Encoding

  /// What the search finds for a sub-block: positions in the codebook, and whether the shift is down.
  private struct Found {
    var scale: Float
    var positions: [Int]
    var isDown: Bool
  }

  private static func weights(_ x: [Float], _ importance: [Float]?) -> [Float] {
    guard let importance else { preconditionFailure("BlockCodec refuses IQ1_S without importance") }
    let energy = 2 * IQTwin.energy(x) / 256
    return x.indices.map { importance[$0] * (energy + x[$0] * x[$0]).squareRoot() }
  }

  /// Moves every group to a point of the codebook and fits the scale again if any had to move.
  private static func settle(
    _ x: ArraySlice<Float>, _ weights: ArraySlice<Float>, _ coordinates: [Int], scale: Float, isDown: Bool
  ) -> Found {
    let codebook = IQCodebook.iq1
    let x = Array(x)
    let weights = Array(weights)
    var moved = false
    var cells: [Int] = []
    let grid = isDown ? down : up
    for group in 0..<x.count / 8 {
      let cell = codebook.cell(of: coordinates[8 * group..<8 * group + 8])
      if codebook.positions[cell] >= 0 {
        cells.append(cell)
        continue
      }
      moved = true
      cells.append(
        codebook.nearest(to: cell) { neighbour in
          var distance: Float = 0
          for (i, coordinate) in neighbour.enumerated() {
            let difference = scale * grid[coordinate] - x[8 * group + i]
            distance += weights[8 * group + i] * difference * difference
          }
          return distance
        })
    }
    var fitted = scale
    if moved {
      var qx: Float = 0
      var qq: Float = 0
      for (i, coordinate) in cells.flatMap(codebook.coordinates(of:)).enumerated() {
        let level = grid[coordinate]
        qx += weights[i] * level * x[i]
        qq += weights[i] * level * level
      }
      if qx > 0 && qq > 0 { fitted = qx / qq }
    }
    return Found(scale: fitted, positions: cells.map { codebook.positions[$0] }, isDown: isDown)
  }

  /// The elements' indices by ascending value; equal ones keep their order.
  private static func ascending(_ x: ArraySlice<Float>) -> [Int] {
    // The library's sort is stable in practice but does not promise it.
    x.indices.sorted { (x[$0], $0) < (x[$1], $1) }
  }

  /// Coordinates for a split of the sorted elements: 0 below `lower`, 1 below `upper`, 2 from there on; mirrored if the
  /// scale is negative.
  private static func split(_ order: [Int], _ lower: Int, _ upper: Int, mirrored: Bool) -> [Int] {
    let first = order.min() ?? 0
    var coordinates = [Int](repeating: 0, count: order.count)
    for (rank, index) in order.enumerated() {
      let coordinate = rank < lower ? 0 : rank < upper ? 1 : 2
      coordinates[index - first] = mirrored ? 2 - coordinate : coordinate
    }
    return coordinates
  }

  /// Tries every split of the sorted elements in three, with both shifts.
  private static func searchS(_ x: ArraySlice<Float>, _ weights: ArraySlice<Float>) -> Found? {
    let count = x.count
    let largest = x.reduce(0) { $0 > $1.magnitude ? $0 : $1.magnitude }
    if largest < 1e-12 { return nil }
    let order = ascending(x)
    var sumX: [Float] = [0]
    var sumW: [Float] = [0]
    for (rank, i) in order.enumerated() {
      sumX.append(sumX[rank] + weights[i] * x[i])
      sumW.append(sumW[rank] + weights[i])
    }
    var best = -Float.greatestFiniteMagnitude
    var found: (scale: Float, lower: Int, upper: Int, isDown: Bool)?
    for lower in 0...count {
      for upper in lower...count {
        for isDown in [false, true] {
          let grid = isDown ? down : up
          let qx =
            (sumX[lower] - sumX[0]) * grid[0] + (sumX[upper] - sumX[lower]) * grid[1]
            + (sumX[count] - sumX[upper]) * grid[2]
          let lowest = (sumW[lower] - sumW[0]) * grid[0] * grid[0]
          let middle = (sumW[upper] - sumW[lower]) * grid[1] * grid[1]
          let qq = lowest + middle + (sumW[count] - sumW[upper]) * grid[2] * grid[2]
          if qq > 0 && qx * qx > best * qq {
            let scale = qx / qq
            best = scale * qx
            found = (scale, lower, upper, isDown)
          }
        }
      }
    }
    guard let found else { return nil }
    let mirrored = found.scale < 0
    return settle(
      x, weights, split(order, found.lower, found.upper, mirrored: mirrored),
      scale: mirrored ? -found.scale : found.scale,
      isDown: found.isDown != mirrored)
  }

  static func encodeS(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let weights = weights(x, importance)
    let found = (0..<8).map { s in searchS(x[32 * s..<32 * s + 32], weights[32 * s..<32 * s + 32]) }
    var block = [UInt8](repeating: 0, count: 50)
    let largest = found.reduce(0) { $0 > ($1?.scale ?? 0) ? $0 : $1?.scale ?? $0 }
    let unit = largest / 15
    if largest != 0 { block.iqPutHalf(unit * 1.125, at: 0) }
    for (s, own) in found.enumerated() {
      var high: UInt16 = 0
      for (k, position) in (own?.positions ?? []).enumerated() {
        block[2 + 4 * s + k] = UInt8(position & 255)
        high |= UInt16(position >> 8) << (3 * k)
      }
      if largest != 0 {
        let bits = max(0, min(7, IQTwin.nearest(0.5 * (1 / unit * (own?.scale ?? 0) - 1))))
        high |= UInt16(bits) << 12 | (own?.isDown == true ? 0x8000 : 0)
      }
      block.iqPut(high, at: 34 + 2 * s)
    }
    return block
  }
}
