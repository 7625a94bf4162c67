internal import CBlockKernels

/// The points that a group of coordinates may take in an IQ format, and for every other cell of the lattice the points
/// near it.
///
/// A cell is a group of coordinates packed into an integer, the first coordinate in the lowest bits: four coordinates of
/// three bits for IQ3, eight of two bits (of which only 0, 1 and 2 occur) for IQ1 and IQ2.
struct IQCodebook: Sendable {
  /// Coordinates of a point.
  let dimensions: Int
  /// Bits of a coordinate in a cell.
  let bits: Int
  /// The largest coordinate.
  let top: Int
  /// The points' cells in ascending order; a block stores a point's position here.
  let points: [UInt16]
  /// The position of a cell's point, or -1.
  let positions: [Int]
  /// Per cell that is not a point: the points at its `shells` smallest distances, nearest first, then in ascending order.
  /// Searches keep the first of equals, so the order matters.
  let neighbours: [[UInt16]]

  private init(_ codebook: cbk_iq_codebook, dimensions: Int, top: Int, shells: Int) {
    var count = 0
    let table = unsafe cbk_iq_points(codebook, &count)
    let points = (0..<count).compactMap { unsafe table?[$0] }
    let bits = dimensions == 4 ? 3 : 2
    let cells = 1 << (bits * dimensions)
    var positions = [Int](repeating: -1, count: cells)
    for (position, point) in points.enumerated() { positions[Int(point)] = position }

    let unpacked = points.map { Self.coordinates(of: Int($0), dimensions: dimensions) }
    var neighbours = [[UInt16]](repeating: [], count: cells)
    for cell in 0..<cells where positions[cell] < 0 {
      let own = Self.coordinates(of: cell, dimensions: dimensions)
      guard own.allSatisfy({ $0 <= top }) else { continue }
      let distances = unpacked.map { point in
        var distance = 0
        for axis in 0..<dimensions { distance += (point[axis] - own[axis]) * (point[axis] - own[axis]) }
        return distance
      }
      let nearby = Set(distances).sorted().prefix(shells)
      neighbours[cell] = nearby.flatMap { shell in
        points.indices.filter { distances[$0] == shell }.map { points[$0] }
      }
    }

    self.dimensions = dimensions
    self.bits = bits
    self.top = top
    self.points = points
    self.positions = positions
    self.neighbours = neighbours
  }

  static let iq1 = IQCodebook(CBK_IQ1, dimensions: 8, top: 2, shells: 3)
  static let iq2XXS = IQCodebook(CBK_IQ2_XXS, dimensions: 8, top: 2, shells: 2)
  static let iq2XS = IQCodebook(CBK_IQ2_XS, dimensions: 8, top: 2, shells: 2)
  static let iq2S = IQCodebook(CBK_IQ2_S, dimensions: 8, top: 2, shells: 1)
  static let iq3XXS = IQCodebook(CBK_IQ3_XXS, dimensions: 4, top: 7, shells: 2)
  static let iq3S = IQCodebook(CBK_IQ3_S, dimensions: 4, top: 7, shells: 3)

  private static func coordinates(of cell: Int, dimensions: Int) -> [Int] {
    let bits = dimensions == 4 ? 3 : 2
    return (0..<dimensions).map { cell >> (bits * $0) & (1 << bits - 1) }
  }

  /// The coordinates of a cell.
  func coordinates(of cell: Int) -> [Int] { Self.coordinates(of: cell, dimensions: dimensions) }

  /// The coordinates of the point at a position.
  func point(_ position: Int) -> [Int] { coordinates(of: Int(points[position])) }

  /// The cell of some coordinates.
  func cell(of coordinates: some Collection<Int>) -> Int {
    coordinates.enumerated().reduce(0) { $0 | $1.element << (bits * $1.offset) }
  }

  /// The neighbour of a cell with the least distance, first of equals; the first one if no distance is finite.
  func nearest(to cell: Int, distance: (_ coordinates: [Int]) -> Float) -> Int {
    var least = Float.infinity
    var nearest = neighbours[cell][0]
    for neighbour in neighbours[cell] {
      let own = distance(coordinates(of: Int(neighbour)))
      if own < least {
        least = own
        nearest = neighbour
      }
    }
    return Int(nearest)
  }
}
