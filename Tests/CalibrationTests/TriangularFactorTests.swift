import Calibration
import CheckpointTesting
import Testing

@Suite("Triangular factors")
struct TriangularFactorTests {
  /// X Xᵀ / size plus a small multiple of the identity, row-major.
  static func matrix(_ size: Int, seed: UInt64) -> [Double] {
    var generator = SeededGenerator(seed: seed)
    let x = (0..<size * size).map { _ in Double.random(in: -1...1, using: &generator) }
    var result = [Double](repeating: 0, count: size * size)
    for row in 0..<size {
      for column in 0..<size {
        var sum = row == column ? 0.05 : 0
        for k in 0..<size { sum += x[row * size + k] * x[column * size + k] / Double(size) }
        result[row * size + column] = sum
      }
    }
    return result
  }

  static func buffer(_ values: [Double]) -> SharedBuffer<Double> {
    let buffer = SharedBuffer<Double>(count: values.count)
    for index in values.indices { buffer[index] = values[index] }
    return buffer
  }

  @Test("L Lᵀ is the matrix, and the inverse is that of L", arguments: [1, 2, 127, 128, 129, 300])
  func factors(_ size: Int) throws {
    let matrix = Self.matrix(size, seed: 3)
    let buffer = Self.buffer(matrix)
    let triangle = TriangularFactor(buffer, size: size, threads: 2)
    #expect(try triangle.decompose())
    let lower = buffer.array
    for row in 0..<size {
      for column in 0...row {
        var sum = 0.0
        for k in 0...column { sum += lower[row * size + k] * lower[column * size + k] }
        #expect(abs(sum - matrix[row * size + column]) < 1e-12)
      }
    }
    try triangle.invert()
    for row in 0..<size {
      for column in 0...row {
        var sum = 0.0
        for k in column...row { sum += lower[row * size + k] * triangle[k, column] }
        #expect(abs(sum - (row == column ? 1 : 0)) < 1e-10)
      }
    }
  }

  @Test("the bits do not depend on the number of threads")
  func threads() throws {
    let matrix = Self.matrix(300, seed: 5)
    let results = try [1, 2, 7].map { threads in
      let triangle = TriangularFactor(Self.buffer(matrix), size: 300, threads: threads)
      _ = try triangle.decompose()
      try triangle.invert()
      return (0..<300).flatMap { row in (0...row).map { triangle[row, $0] } }
    }
    #expect(results[0] == results[1] && results[0] == results[2])
  }

  @Test("a matrix that is not positive definite is reported as such", arguments: [0, 140, 299])
  func indefinite(_ place: Int) throws {
    var matrix = Self.matrix(300, seed: 7)
    matrix[place * 300 + place] = -1
    #expect(try !TriangularFactor(Self.buffer(matrix), size: 300, threads: 2).decompose())
    matrix[place * 300 + place] = .nan
    #expect(try !TriangularFactor(Self.buffer(matrix), size: 300, threads: 2).decompose())
  }
}
