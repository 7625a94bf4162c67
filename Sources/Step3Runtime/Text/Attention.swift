internal import Step3Model
internal import ParallelWork

/// Causal attention of query heads over shared key and value heads.
///
/// Memory: for each thread the scores of ``queryBlock`` queries with all keys of a sequence.
struct Attention: Sendable {
  let headCount: Int
  let keyValueHeadCount: Int
  let headDimension: Int
  /// The number of last positions that a token sees, including its own; `nil` for all.
  var window: Int?
  let threads: Int

  /// Queries whose scores are computed at a time.
  static let queryBlock = 128

  init(_ text: Step3Configuration.Text, threads: Int) {
    headCount = text.headCount
    keyValueHeadCount = text.keyValueHeadCount
    headDimension = text.headDimension
    self.threads = threads
  }

  /// - Precondition: Heads are shared evenly.
  init(headCount: Int, keyValueHeadCount: Int, headDimension: Int, window: Int?, threads: Int) {
    precondition(headCount % keyValueHeadCount == 0)
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headDimension = headDimension
    self.window = window
    self.threads = threads
  }

  /// Computes softmax(q kᵀ / sqrt(dimension)) v, masked so that no token sees a later one.
  ///
  /// - Parameters:
  ///   - query: `[tokens, heads · dimension]`, of one sequence.
  ///   - keys: `[keys, key-value heads · dimension]`, of which the last `tokens` are those of the queries.
  ///   - values: Likewise.
  ///   - result: `[all tokens, heads · dimension]`; the rows from `firstRow` on are written.
  func mix(
    _ query: Activations, rows: Range<Int>, keys: [Float], values: [Float], into result: Activations
  ) throws {
    try BLAS.prepare(threads: threads)
    let width = keyValueHeadCount * headDimension
    let keyCount = keys.count / width
    let earlier = keyCount - rows.count
    precondition(earlier >= 0 && values.count == keys.count && query.columns == headCount * headDimension)
    let blocks = (rows.count + Self.queryBlock - 1) / Self.queryBlock
    let scale = 1 / Float(headDimension).squareRoot()
    try ParallelWork.forEach(
      below: headCount * blocks, threads: threads,
      scratch: { [Float](repeating: 0, count: min(Self.queryBlock, rows.count) * keyCount) }
    ) { piece, scores in
      let (block, head) = piece.quotientAndRemainder(dividingBy: headCount)
      let queries = block * Self.queryBlock..<min((block + 1) * Self.queryBlock, rows.count)
      // The last query of the block sees this many keys.
      let seen = earlier + queries.upperBound
      let start = head * headDimension
      let shared = head / (headCount / keyValueHeadCount) * headDimension
      let first = (rows.lowerBound + queries.lowerBound) * query.columns + start
      unsafe keys.withUnsafeBufferPointer { keys in
        unsafe values.withUnsafeBufferPointer { values in
          unsafe scores.withUnsafeMutableBufferPointer { buffer in
            guard let keys = keys.baseAddress, let values = values.baseAddress,
              let scores = buffer.baseAddress
            else { return }
            unsafe BLAS.multiplyTransposed(
              query.base + first, query.columns, keys + shared, width, scores, seen, m: queries.count,
              n: seen,
              k: headDimension, factor: scale)
            for row in 0..<queries.count {
              var span = unsafe MutableSpan(_unsafeStart: scores + row * seen, count: seen)
              let end = earlier + queries.lowerBound + row + 1
              Elementwise.softmax(&span, from: window.map { max(0, end - $0) } ?? 0, count: end)
            }
            unsafe BLAS.multiply(
              scores, seen, values + shared, width, result.base + first, result.columns, m: queries.count,
              n: headDimension, k: seen)
          }
        }
      }
    }
  }
}
