package import Quantization

/// What was found in some rows of a tensor, in a form that adds up in their order.
package struct TensorErrors: PairFigures {
  /// Where an element is, in the whole tensor.
  package struct Place: Hashable, Sendable {
    package var matrix: Int
    package var row: Int
    package var column: Int

    package init(matrix: Int, row: Int, column: Int) {
      self.matrix = matrix
      self.row = row
      self.column = column
    }
  }

  /// A row or a block whose error is the largest share of what it may be.
  package struct Worst: Sendable {
    /// The error over its bound; infinite where none is allowed.
    package var share: Double
    /// Its first element.
    package var place: Place
    package var count: Int
    /// The norm of the error over that of the source.
    package var relative: Double
    /// The largest that ``relative`` may be.
    package var limit: Double

    /// Keeps the worse of two, the first of equals.
    package static func keep(_ mine: inout Worst?, _ other: Worst?) {
      guard let other else { return }
      if let old = mine, (old.share, old.relative) >= (other.share, other.relative) { return }
      mine = other
    }
  }

  package var sums = ErrorSums()
  /// Σ of the squared bounds of all blocks of rows that differ at all.
  package var boundSquares = 0.0
  /// The same of what errors come to on the whole.
  package var usualSquares = 0.0
  /// Where the largest absolute error is; `nil` if there is none.
  package var largestErrorPlace: Place?
  package var worstRow: Worst?
  package var worstBlock: Worst?
  /// Rows with a block, and blocks, beyond their bound.
  package var badRows = 0
  package var badBlocks = 0
  /// Elements that are NaN or infinite on one side, or differently on both.
  package var nonFinite = 0
  package var firstNonFinite: Place?
  /// Elements that are NaN or infinite on both sides alike.
  package var sameNonFinite = 0
  /// Bytes that differ, of tensors that are compared by their bytes.
  package var differingBytes = 0
  /// The sums and bounds of single matrices of a stack.
  package var matrices: [Int: Matrix] = [:]

  package struct Matrix: Sendable {
    package var squaredErrors = 0.0
    package var squares = 0.0
    package var boundSquares = 0.0

    mutating func add(_ other: Matrix) {
      squaredErrors += other.squaredErrors
      squares += other.squares
      boundSquares += other.boundSquares
    }

    package var relative: Double { squaredErrors == 0 ? 0 : (squaredErrors / squares).squareRoot() }
    package var share: Double { squaredErrors == 0 ? 0 : (squaredErrors / boundSquares).squareRoot() }
  }

  /// Nothing compared yet.
  package init() {}

  /// Adds what was found in later rows.
  package mutating func merge(_ later: TensorErrors) {
    if later.sums.maximumAbsoluteError > sums.maximumAbsoluteError {
      largestErrorPlace = later.largestErrorPlace
    }
    sums.merge(later.sums)
    boundSquares += later.boundSquares
    usualSquares += later.usualSquares
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
  package var worstMatrix: (index: Int, matrix: Matrix)? {
    matrices.min { a, b in
      (a.value.share, a.value.relative, b.key) > (b.value.share, b.value.relative, a.key)
    }.map { ($0.key, $0.value) }
  }
}
