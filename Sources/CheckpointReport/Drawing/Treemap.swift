/// A rectangle of a drawing.
package struct Frame: Equatable {
  package var x: Double
  package var y: Double
  package var width: Double
  package var height: Double

  package init(x: Double, y: Double, width: Double, height: Double) {
    (self.x, self.y, self.width, self.height) = (x, y, width, height)
  }

  package var area: Double { width * height }

  /// The frame inset by a margin on every side; empty if there is no room.
  func inset(by margin: Double, top: Double = 0) -> Frame {
    Frame(
      x: x + margin, y: y + margin + top, width: max(0, width - 2 * margin),
      height: max(0, height - 2 * margin - top))
  }

  /// As attributes of an SVG `rect`.
  var attributes: String {
    "x=\"\(x.coordinate)\" y=\"\(y.coordinate)\" width=\"\(width.coordinate)\" height=\"\(height.coordinate)\""
  }
}

/// Fills a frame with rectangles whose areas are in proportion to weights, avoiding long and thin ones.
///
/// Source: M. Bruls, K. Huizing, J. van Wijk, *Squarified treemaps* (2000).
package enum Treemap {
  /// - Parameter weights: The largest first, none negative.
  /// - Returns: A rectangle for each weight, in their order.
  /// - Complexity: O(n) for weights in order.
  package static func layout(_ weights: [Double], in frame: Frame) -> [Frame] {
    let total = weights.reduce(0, +)
    guard total > 0, frame.area > 0 else {
      return weights.map { _ in Frame(x: frame.x, y: frame.y, width: 0, height: 0) }
    }
    let scale = frame.area / total
    var result: [Frame] = []
    result.reserveCapacity(weights.count)
    var rest = frame
    var start = 0
    while start < weights.count {
      // A row along the shorter side takes weights as long as its worst aspect ratio does not get worse.
      let side = min(rest.width, rest.height)
      var end = start + 1
      var sum = weights[start] * scale
      var worst = Self.worst(largest: sum, smallest: sum, sum: sum, side: side)
      while end < weights.count {
        let next = weights[end] * scale
        let candidate = Self.worst(
          largest: weights[start] * scale, smallest: next, sum: sum + next, side: side)
        guard candidate <= worst else { break }
        worst = candidate
        sum += next
        end += 1
      }
      let depth = side > 0 ? sum / side : 0
      var position = 0.0
      for weight in weights[start..<end] {
        let length = sum > 0 ? weight * scale / sum * side : 0
        result.append(
          rest.width >= rest.height
            ? Frame(x: rest.x, y: rest.y + position, width: depth, height: length)
            : Frame(x: rest.x + position, y: rest.y, width: length, height: depth))
        position += length
      }
      if rest.width >= rest.height {
        rest.x += depth
        rest.width = max(0, rest.width - depth)
      } else {
        rest.y += depth
        rest.height = max(0, rest.height - depth)
      }
      start = end
    }
    return result
  }

  /// The ratio of the sides of a row's worst rectangle.
  private static func worst(largest: Double, smallest: Double, sum: Double, side: Double) -> Double {
    guard smallest > 0, sum > 0, side > 0 else { return .infinity }
    let (square, area) = (side * side, sum * sum)
    return max(square * largest / area, area / (square * smallest))
  }
}
