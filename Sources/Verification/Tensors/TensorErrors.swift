internal import Quantization

/// What was found in some rows of a tensor, in a form that adds up in their order.
struct TensorErrors: Sendable {
  /// Where an element is, in the whole tensor.
  struct Place: Hashable, Sendable {
    var matrix: Int
    var row: Int
    var column: Int
  }

  /// A row or a block whose error is the largest share of what it may be.
  struct Worst: Sendable {
    /// The error over its bound; infinite where none is allowed.
    var share: Double
    /// Its first element.
    var place: Place
    var count: Int
    /// The norm of the error over that of the source.
    var relative: Double
    /// The largest that ``relative`` may be.
    var limit: Double

    /// Keeps the worse of two, the first of equals.
    static func keep(_ mine: inout Worst?, _ other: Worst?) {
      guard let other else { return }
      if let old = mine, (old.share, old.relative) >= (other.share, other.relative) { return }
      mine = other
    }
  }

  var sums = ErrorSums()
  /// Σ of the squared bounds of all blocks of rows that differ at all.
  var boundSquares = 0.0
  /// Where the largest absolute error is; `nil` if there is none.
  var largestErrorPlace: Place?
  var worstRow: Worst?
  var worstBlock: Worst?
  /// Rows with a block, and blocks, beyond their bound.
  var badRows = 0
  var badBlocks = 0
  /// Elements that are NaN or infinite on one side, or differently on both.
  var nonFinite = 0
  var firstNonFinite: Place?
  /// Elements that are NaN or infinite on both sides alike.
  var sameNonFinite = 0
  /// Bytes that differ, of tensors that are compared by their bytes.
  var differingBytes = 0
  /// The sums and bounds of single matrices of a stack.
  var matrices: [Int: Matrix] = [:]

  struct Matrix: Sendable {
    var squaredErrors = 0.0
    var squares = 0.0
    var boundSquares = 0.0

    mutating func add(_ other: Matrix) {
      squaredErrors += other.squaredErrors
      squares += other.squares
      boundSquares += other.boundSquares
    }

    var relative: Double { squaredErrors == 0 ? 0 : (squaredErrors / squares).squareRoot() }
    var share: Double { squaredErrors == 0 ? 0 : (squaredErrors / boundSquares).squareRoot() }
  }

  /// Adds what was found in later rows.
  mutating func merge(_ later: TensorErrors) {
    if later.sums.maximumAbsoluteError > sums.maximumAbsoluteError {
      largestErrorPlace = later.largestErrorPlace
    }
    sums.merge(later.sums)
    boundSquares += later.boundSquares
    Worst.keep(&worstRow, later.worstRow)
    Worst.keep(&worstBlock, later.worstBlock)
    badRows += later.badRows
    badBlocks += later.badBlocks
    nonFinite += later.nonFinite
    firstNonFinite = firstNonFinite ?? later.firstNonFinite
    sameNonFinite += later.sameNonFinite
    differingBytes += later.differingBytes
    for (index, matrix) in later.matrices { matrices[index, default: Matrix()].add(matrix) }
  }

  /// The matrix with the largest share of its bound.
  var worstMatrix: (index: Int, matrix: Matrix)? {
    matrices.min { a, b in
      (a.value.share, a.value.relative, b.key) > (b.value.share, b.value.relative, a.key)
    }.map { ($0.key, $0.value) }
  }
}
