/// Sums over a part of a row, by which a block is judged.
package struct BlockSums {
  /// Σ x².
  package var squares: Double
  /// Σ (x - y)².
  package var squaredErrors: Double

  /// Sums in sixteen lanes of F32, or in F64 if squares would leave F32's range.
  ///
  /// - Precondition: `range` lies within both spans.
  package init(_ x: Span<Float>, _ y: Span<Float>, _ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= min(x.count, y.count))
    var lanes = SIMD16<Float>.zero
    var errors = SIMD16<Float>.zero
    var tail: (Float, Float) = (0, 0)
    unsafe x.withUnsafeBufferPointer { x in
      unsafe y.withUnsafeBufferPointer { y in
        var index = range.lowerBound
        while index + 16 <= range.upperBound {
          let a = unsafe UnsafeRawPointer(x.baseAddress.unsafelyUnwrapped + index)
            .loadUnaligned(as: SIMD16<Float>.self)
          let b = unsafe UnsafeRawPointer(y.baseAddress.unsafelyUnwrapped + index)
            .loadUnaligned(as: SIMD16<Float>.self)
          let difference = a - b
          lanes += a * a
          errors += difference * difference
          index += 16
        }
        while index < range.upperBound {
          let (a, b) = unsafe (x[index], y[index])
          tail.0 += a * a
          tail.1 += (a - b) * (a - b)
          index += 1
        }
      }
    }
    squares = Double(lanes.sum() + tail.0)
    squaredErrors = Double(errors.sum() + tail.1)
    let safe = 1e-28...1e37
    if !safe.contains(squares) || !(squaredErrors == 0 || safe.contains(squaredErrors)) {
      (squares, squaredErrors) = (0, 0)
      for index in range {
        let (a, b) = (Double(x[index]), Double(y[index]))
        squares += a * a
        squaredErrors += (a - b) * (a - b)
      }
    }
  }

  /// The largest magnitude in a range; 0 if empty.
  ///
  /// - Precondition: The values are finite.
  package static func largest(_ x: Span<Float>, _ range: Range<Int>) -> Float {
    precondition(range.lowerBound >= 0 && range.upperBound <= x.count)
    return unsafe x.withUnsafeBufferPointer { x in
      var lanes = SIMD16<UInt32>.zero
      var index = range.lowerBound
      while index + 16 <= range.upperBound {
        let bits = unsafe UnsafeRawPointer(x.baseAddress.unsafelyUnwrapped + index)
          .loadUnaligned(as: SIMD16<UInt32>.self)
        lanes = pointwiseMax(lanes, bits & 0x7FFF_FFFF)
        index += 16
      }
      // Without their signs, floats are ordered as their bits are.
      var largest = lanes.max()
      while index < range.upperBound {
        largest = unsafe max(largest, x[index].magnitude.bitPattern)
        index += 1
      }
      return Float(bitPattern: largest)
    }
  }
}

private func pointwiseMax(_ a: SIMD16<UInt32>, _ b: SIMD16<UInt32>) -> SIMD16<UInt32> {
  a.replacing(with: b, where: a .< b)
}
