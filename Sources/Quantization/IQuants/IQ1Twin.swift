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
/// Source: `dequantize_row_iq1_*` and `quantize_row_iq1_*_impl` in ggml-quants.c.
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
        Int(block[g]) | Int(high & 7) << 8, scale: Float(Float16(bitPattern: unit)) * Float(2 * bits + 1),
        isDown: high & 8 != 0)
    }
  }

  // MARK: Encoding

  /// What the search finds for a sub-block: positions in the codebook, and per group whether the shift is down.
  private struct Found {
    var scale: Float
    var positions: [Int]
    var isDown: [Bool]
  }

  private static func weights(_ x: [Float], _ importance: [Float]?) -> [Float] {
    let energy = 2 * IQTwin.energy(x) / 256
    return x.indices.map { i in
      if let importance { importance[i] * (energy + x[i] * x[i]).squareRoot() } else { x[i] * x[i] }
    }
  }

  /// Moves every group to a point of the codebook and fits the scale again if any had to move.
  private static func settle(
    _ x: ArraySlice<Float>, _ weights: ArraySlice<Float>, _ coordinates: [Int], scale: Float, isDown: [Bool]
  ) -> Found {
    let codebook = IQCodebook.iq1
    let x = Array(x)
    let weights = Array(weights)
    var moved = false
    var cells: [Int] = []
    for (group, isDown) in isDown.enumerated() {
      let grid = isDown ? down : up
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
        let level = (isDown[i / 8] ? down : up)[coordinate]
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

  // MARK: IQ1_S

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
      isDown: [Bool](repeating: found.isDown != mirrored, count: count / 8))
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
        high |= UInt16(bits) << 12 | (own?.isDown[0] == true ? 0x8000 : 0)
      }
      block.iqPut(high, at: 34 + 2 * s)
    }
    return block
  }

  // MARK: IQ1_M

  /// Tries every split of the sorted elements in three, with the four combinations of the two groups' shifts.
  private static func searchM(_ x: ArraySlice<Float>, _ weights: ArraySlice<Float>) -> Found? {
    let count = x.count
    let largest = x.reduce(0) { $0 > $1.magnitude ? $0 : $1.magnitude }
    if largest < 1e-7 { return nil }
    let order = ascending(x)
    let second = x.startIndex + count / 2
    let shifts = [[false, false], [false, true], [true, false], [true, true]]
    var best = -Float.greatestFiniteMagnitude
    var found: (scale: Float, lower: Int, upper: Int, isDown: [Bool])?
    for lower in 0...count {
      for upper in lower...count {
        for isDown in shifts {
          var qx: Float = 0
          var qq: Float = 0
          for (rank, i) in order.enumerated() {
            let grid = isDown[i < second ? 0 : 1] ? down : up
            let level = grid[rank < lower ? 0 : rank < upper ? 1 : 2]
            qx += weights[i] * level * x[i]
            qq += weights[i] * level * level
          }
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
      scale: mirrored ? -found.scale : found.scale, isDown: found.isDown.map { $0 != mirrored })
  }

  static func encodeM(_ x: [Float], importance: [Float]?) -> [UInt8] {
    let weights = weights(x, importance)
    let found = (0..<16).map { s in searchM(x[16 * s..<16 * s + 16], weights[16 * s..<16 * s + 16]) }
    var block = [UInt8](repeating: 0, count: 56)
    for (s, own) in found.enumerated() {
      guard let own else { continue }
      for k in 0..<2 {
        block[2 * s + k] = UInt8(own.positions[k] & 255)
        block[32 + s] |= UInt8(own.positions[k] >> 8) << (4 * k)
      }
    }
    let largest = found.reduce(0) { $0 > ($1?.scale ?? 0) ? $0 : $1?.scale ?? $0 }
    if largest == 0 { return block }

    // The unit is fitted once more, to all sub-blocks with their rounded scales.
    var unit = largest / 15
    let inverse = 1 / unit
    var scales: [UInt16] = [0, 0, 0, 0]
    var qx: Float = 0
    var qq: Float = 0
    for (s, own) in found.enumerated() {
      let bits = max(0, min(7, IQTwin.nearest(0.5 * (inverse * (own?.scale ?? 0) - 1))))
      scales[s / 4] |= UInt16(bits) << (3 * (s % 4))
      for k in 0..<2 {
        let isDown = own?.isDown[k] ?? false
        if isDown { block[32 + s] |= 8 << (4 * k) }
        for (i, coordinate) in IQCodebook.iq1.point(own?.positions[k] ?? 0).enumerated() {
          let level = (isDown ? down : up)[coordinate] * Float(2 * bits + 1)
          let weight = weights[16 * s + 8 * k + i]
          qx += weight * level * x[16 * s + 8 * k + i]
          qq += weight * level * level
        }
      }
    }
    if qq > 0 { unit = qx / qq }
    let half = (unit * 1.1125).iqHalfBits
    for i in 0..<4 { block.iqPut(scales[i] | ((half >> (4 * i)) & 15) << 12, at: 48 + 2 * i) }
    return block
  }
}
