/// A box of elements of a tensor: a range along every dimension.
public struct TensorBox: Hashable, Sendable {
  /// The dimensions of the whole tensor.
  public let shape: TensorShape
  /// The first index along each dimension.
  public private(set) var origin: [Int]
  /// How many indices along each dimension.
  public private(set) var extent: [Int]

  /// All elements.
  public init(wholeOf shape: TensorShape) {
    self.shape = shape
    origin = Array(repeating: 0, count: shape.rank)
    extent = shape.dimensions
  }

  /// A box; `nil` unless it lies within the tensor.
  public init?(_ shape: TensorShape, origin: [Int], extent: [Int]) {
    guard origin.count == shape.rank, extent.count == shape.rank else { return nil }
    for (axis, dimension) in shape.dimensions.enumerated() {
      guard extent[axis] >= 0, (0...dimension).contains(origin[axis]),
        extent[axis] <= dimension - origin[axis]
      else { return nil }
    }
    self.shape = shape
    self.origin = origin
    self.extent = extent
  }

  /// Whether it is all of the tensor.
  public var isWhole: Bool { extent == shape.dimensions }
  /// How many elements it has.
  public var elementCount: Int { extent.reduce(1, *) }

  /// The same box with other indices along one dimension, counted from the start of the tensor.
  ///
  /// - Precondition: They are indices of that dimension.
  public func narrowed(_ axis: Int, to range: Range<Int>) -> TensorBox {
    precondition(range.lowerBound >= 0 && range.upperBound <= shape.dimensions[axis])
    var box = self
    box.origin[axis] = range.lowerBound
    box.extent[axis] = range.count
    return box
  }

  /// Whether boxes tile a tensor: cover all of it, and no element twice.
  ///
  /// Dimensions that no box cuts do not matter. Along the others only a box's corners count, with alternating signs as
  /// in a difference taken along each dimension: the sums over all boxes equal those of the whole tensor if and only if
  /// the boxes tile it. If there are more corners than pairs of boxes, the boxes are compared in pairs instead: the
  /// number of dimensions in a file is unbounded.
  ///
  /// - Complexity: O(*n* · min(2^*c*, *n* · *c*)) for *n* boxes, *c* dimensions being cut.
  public static func tile(_ boxes: [TensorBox], _ shape: TensorShape) -> Bool {
    guard boxes.allSatisfy({ $0.shape == shape }) else { return false }
    let boxes = boxes.filter { $0.elementCount > 0 }
    guard shape.elementCount > 0 else { return true }
    let cut = shape.dimensions.indices.filter { axis in
      boxes.contains { $0.extent[axis] != shape.dimensions[axis] }
    }
    guard cut.count < 40, 1 << cut.count <= max(8, boxes.count * cut.count) else {
      return areDisjoint(boxes)
        && boxes.reduce(0, { $0 &+ $1.elementCount }) == shape.elementCount
    }
    var corners: [[Int]: Int] = [:]
    func add(_ box: TensorBox, _ weight: Int) {
      for corner in 0..<(1 << cut.count) {
        let point = cut.indices.map { index in
          box.origin[cut[index]] + (corner >> index & 1) * box.extent[cut[index]]
        }
        corners[point, default: 0] += corner.nonzeroBitCount.isMultiple(of: 2) ? weight : -weight
      }
    }
    for box in boxes { add(box, 1) }
    add(TensorBox(wholeOf: shape), -1)
    return corners.values.allSatisfy { $0 == 0 }
  }

  private static func areDisjoint(_ boxes: [TensorBox]) -> Bool {
    for (index, box) in boxes.enumerated() {
      for other in boxes[..<index] where box.intersection(other) != nil { return false }
    }
    return true
  }

  /// The elements that both boxes hold; `nil` if there are none, unless the boxes are the same.
  ///
  /// - Precondition: Both are boxes of tensors of one shape.
  public func intersection(_ other: TensorBox) -> TensorBox? {
    if self == other { return self }
    let start = zip(origin, other.origin).map(max)
    let end = extent.indices.map {
      min(origin[$0] + extent[$0], other.origin[$0] + other.extent[$0])
    }
    guard zip(start, end).allSatisfy({ $0 < $1 }) else { return nil }
    return TensorBox(shape, origin: start, extent: zip(end, start).map { $0 - $1 })
  }

  /// The row-major index in `outer` of the element with row-major index `index` in this box.
  ///
  /// - Precondition: `outer` contains this box.
  public func position(of index: Int, in outer: TensorBox) -> Int {
    var rest = index
    var position = 0
    var stride = 1
    for axis in extent.indices.reversed() {
      let (quotient, coordinate) = rest.quotientAndRemainder(dividingBy: extent[axis])
      position += (coordinate + origin[axis] - outer.origin[axis]) * stride
      stride *= outer.extent[axis]
      rest = quotient
    }
    return position
  }

  /// How many elements of this box follow each other without a gap in each of `outers`: the box consists of runs
  /// of that length.
  ///
  /// - Precondition: All of `outers` contain this box.
  public func runLength(in outers: [TensorBox]) -> Int {
    var length = 1
    for axis in extent.indices.reversed() {
      length *= extent[axis]
      guard outers.allSatisfy({ $0.extent[axis] == extent[axis] }) else { break }
    }
    return length
  }
}
