internal import ParallelWork
internal import Step3Runtime

/// Computes the inverse of the Cholesky factor of a symmetric F64 matrix, in place and in tiles shared between threads:
/// each product is a single-threaded BLAS call, so that the result is the same for any number of threads.
///
/// Row-major; elements above the diagonal are not read.
package struct TriangularFactor {
  private static let tile = 128

  let size: Int
  private let values: SharedBuffer<Double>
  private let threads: Int

  /// Takes the lower triangle of a matrix.
  package init(_ values: SharedBuffer<Double>, size: Int, threads: Int) {
    precondition(values.count == size * size)
    self.values = values
    self.size = size
    self.threads = threads
  }

  package subscript(row: Int, column: Int) -> Double { values[row * size + column] }

  /// Replaces A by L with A = L Lᵀ.
  ///
  /// - Returns: `false` if A is not positive definite.
  /// - Complexity: n³/3 operations.
  package func decompose() throws -> Bool {
    try BLAS.prepare(threads: threads)
    let (size, values) = (size, values)
    for first in stride(from: 0, to: size, by: Self.tile) {
      let end = min(first + Self.tile, size)
      guard decompose(first..<end) else { return false }
      guard end < size else { break }
      let (width, inverse) = (end - first, inverted(first..<end))
      // L[i, k] = A[i, k] L[k, k]⁻ᵀ, tile by tile.
      let tiles = (size - end + Self.tile - 1) / Self.tile
      try ParallelWork.forEach(
        below: tiles, threads: threads, scratch: { SharedBuffer<Double>(count: Self.tile * width) }
      ) { number, copy in
        let row = end + number * Self.tile
        let height = min(Self.tile, size - row)
        unsafe Self.copy(values.base + row * size + first, size, to: copy.base, width, height, width)
        unsafe BLAS.multiply(
          BLAS.Shape(transposesB: true, m: height, n: width, k: width), copy.base, width, inverse.base, width,
          values.base + row * size + first, size)
      }
      try ParallelWork.forEach(below: tiles, threads: threads) { number in
        // Longest first.
        let row = end + (tiles - 1 - number) * Self.tile
        let height = min(Self.tile, size - row)
        unsafe BLAS.multiply(
          BLAS.Shape(transposesB: true, m: height, n: row + height - end, k: width),
          values.base + row * size + first, size, values.base + end * size + first, size,
          values.base + row * size + end, size, factor: -1, kept: 1)
      }
    }
    return true
  }

  /// Replaces L by its inverse.
  ///
  /// - Complexity: As ``decompose()``.
  package func invert() throws {
    let (size, values) = (size, values)
    let panel = SharedBuffer<Double>(count: size * Self.tile)
    for first in stride(from: 0, to: size, by: Self.tile).reversed() {
      let end = min(first + Self.tile, size)
      let (width, inverse) = (end - first, inverted(first..<end))
      unsafe Self.copy(values.base + end * size + first, size, to: panel.base, width, size - end, width)
      let tiles = (size - end + Self.tile - 1) / Self.tile
      try ParallelWork.forEach(
        below: tiles, threads: threads, scratch: { SharedBuffer<Double>(count: Self.tile * width) }
      ) { number, product in
        let row = end + (tiles - 1 - number) * Self.tile
        let height = min(Self.tile, size - row)
        // The part to the right is already inverted.
        unsafe BLAS.multiply(
          BLAS.Shape(m: height, n: width, k: row + height - end), values.base + row * size + end, size,
          panel.base, width, product.base, width)
        unsafe BLAS.multiply(
          BLAS.Shape(m: height, n: width, k: width), product.base, width, inverse.base, width,
          values.base + row * size + first, size, factor: -1)
      }
      unsafe Self.copy(inverse.base, width, to: values.base + first * size + first, size, width, width)
    }
  }

  private func decompose(_ range: Range<Int>) -> Bool {
    for column in range {
      var pivot = self[column, column]
      for k in range.lowerBound..<column { pivot -= self[column, k] * self[column, k] }
      guard pivot > 0, pivot.isFinite else { return false }
      let root = pivot.squareRoot()
      values[column * size + column] = root
      for row in column + 1..<max(column + 1, range.upperBound) {
        var sum = self[row, column]
        for k in range.lowerBound..<column { sum -= self[row, k] * self[column, k] }
        values[row * size + column] = sum / root
      }
    }
    return true
  }

  /// The inverse of a block of the diagonal, zeros above it.
  private func inverted(_ range: Range<Int>) -> SharedBuffer<Double> {
    let (width, first) = (range.count, range.lowerBound)
    let inverse = SharedBuffer<Double>(count: width * width)
    for column in 0..<width {
      inverse[column * width + column] = 1 / self[first + column, first + column]
      for row in column + 1..<max(column + 1, width) {
        var sum = 0.0
        for k in column..<row { sum += self[first + row, first + k] * inverse[k * width + column] }
        inverse[row * width + column] = -sum / self[first + row, first + row]
      }
    }
    return inverse
  }

  @unsafe private static func copy(
    _ source: UnsafePointer<Double>, _ sourceStride: Int, to target: UnsafeMutablePointer<Double>,
    _ targetStride: Int, _ rows: Int, _ columns: Int
  ) {
    for row in 0..<rows {
      unsafe (target + row * targetStride).update(from: source + row * sourceStride, count: columns)
    }
  }
}
