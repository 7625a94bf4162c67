import TensorFormats
import Testing

@Suite struct TensorBoxTests {
  /// How many of the boxes contain each element, row-major.
  private func counts(_ boxes: [TensorBox], _ shape: TensorShape) -> [Int] {
    let whole = TensorBox(wholeOf: shape)
    var counts = [Int](repeating: 0, count: shape.elementCount)
    for box in boxes { for index in 0..<box.elementCount { counts[box.position(of: index, in: whole)] += 1 } }
    return counts
  }

  @Test("boxes tile a tensor if and only if each element is in one", arguments: [1, 2, 3, 7])
  func tile(rank: Int) throws {
    var random = SystemRandomNumberGenerator()
    var found = (whole: 0, broken: 0)
    for _ in 0..<2000 {
      let shape = TensorShape((0..<rank).map { _ in Int.random(in: 1...(rank > 3 ? 2 : 4), using: &random) })
      // Cut in two at random, repeatedly; then sometimes drop, repeat, move or widen a box.
      var boxes = [TensorBox(wholeOf: shape)]
      for _ in 0..<Int.random(in: 0...6) {
        let box = boxes.remove(at: Int.random(in: boxes.indices))
        let axis = Int.random(in: 0..<rank)
        let range = box.origin[axis]..<box.origin[axis] + box.extent[axis]
        let middle = Int.random(in: range.lowerBound...range.upperBound)
        boxes.append(box.narrowed(axis, to: range.lowerBound..<middle))
        boxes.append(box.narrowed(axis, to: middle..<range.upperBound))
      }
      let index = Int.random(in: boxes.indices)
      let axis = Int.random(in: 0..<rank)
      switch Int.random(in: 0..<6) {
      case 0: boxes.remove(at: index)
      case 1: boxes.append(boxes[index])
      case 2:
        let length = boxes[index].extent[axis]
        let start = Int.random(in: 0...shape.dimensions[axis] - length)
        boxes[index] = boxes[index].narrowed(axis, to: start..<start + length)
      case 3: boxes[index] = boxes[index].narrowed(axis, to: 0..<shape.dimensions[axis])
      default: break
      }
      let isWhole = counts(boxes, shape).allSatisfy { $0 == 1 }
      #expect(TensorBox.tile(boxes, shape) == isWhole, "\(boxes) of \(shape)")
      if isWhole { found.whole += 1 } else { found.broken += 1 }
    }
    #expect(found.whole > 200 && found.broken > 200)
  }

  @Test("boxes of another rank tile nothing; an empty tensor needs no boxes")
  func otherShapes() {
    let shape = TensorShape([2, 3])
    #expect(!TensorBox.tile([TensorBox(wholeOf: TensorShape([3, 2]))], shape))
    #expect(!TensorBox.tile([], shape))
    #expect(TensorBox.tile([], TensorShape([2, 0])))
  }

  @Test("tensors may have any number of dimensions, at the cost of the boxes alone")
  func manyDimensions() throws {
    let shape = TensorShape(Array(repeating: 1, count: 70) + Array(repeating: 2, count: 50))
    let whole = TensorBox(wholeOf: shape)
    #expect(TensorBox.tile([whole], shape))
    // Halves along one dimension after the other, the rest of each cut along the next.
    var (boxes, rest) = ([TensorBox](), whole)
    for axis in 70..<120 {
      boxes.append(rest.narrowed(axis, to: 0..<1))
      rest = rest.narrowed(axis, to: 1..<2)
    }
    #expect(TensorBox.tile(boxes + [rest], shape))
    #expect(!TensorBox.tile(boxes, shape))
    #expect(!TensorBox.tile(boxes + [boxes[49]], shape))
    #expect(!TensorBox.tile(boxes + [whole], shape))
  }
}
