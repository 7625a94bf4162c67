import Foundation

#if canImport(CBenchBLAS)
import CBenchBLAS
private typealias Dimension = blasint
#else
import Accelerate
private typealias Dimension = Int32
#endif

/// Products with F32 weights in memory: the attainable rate.
final class PlainProducts: @unchecked Sendable {
  let rows: Int
  let columns: Int
  let threads: Int
  private let weights: UnsafeMutablePointer<Float>

  init(rows: Int, columns: Int, threads: Int) {
    self.rows = rows
    self.columns = columns
    self.threads = threads
    weights = .allocate(capacity: rows * columns)
    for index in 0..<rows * columns { weights[index] = Float(index % 251) * 0.0002 - 0.025 }
  }

  deinit { weights.deallocate() }

  /// One call, with the library's own threads.
  func whole(_ input: UnsafePointer<Float>, tokens: Int, into result: UnsafeMutablePointer<Float>) {
    #if canImport(CBenchBLAS)
    openblas_set_num_threads(CInt(threads))
    defer { openblas_set_num_threads(1) }
    #endif
    multiply(input, tokens: tokens, 0..<rows, into: result)
  }

  /// Tiles of 256 rows, one after the other on each of our threads, with the library's threads off.
  func tiles(_ input: UnsafePointer<Float>, tokens: Int, into result: UnsafeMutablePointer<Float>) {
    let height = 256
    let count = (rows + height - 1) / height
    let width = threads
    nonisolated(unsafe) let (input, result) = (input, result)
    DispatchQueue.concurrentPerform(iterations: width) { thread in
      for tile in stride(from: thread, to: count, by: width) {
        self.multiply(
          input, tokens: tokens, tile * height..<min((tile + 1) * height, self.rows), into: result)
      }
    }
  }

  private func multiply(
    _ input: UnsafePointer<Float>, tokens: Int, _ range: Range<Int>,
    into result: UnsafeMutablePointer<Float>
  ) {
    cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, Dimension(tokens), Dimension(range.count),
      Dimension(columns), 1, input, Dimension(columns), weights + range.lowerBound * columns,
      Dimension(columns), 0, result + range.lowerBound, Dimension(rows))
  }
}
