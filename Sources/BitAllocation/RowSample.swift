/// The sampled rows of a tensor: the same number from each matrix, one from each of equal intervals of its rows, at a
/// position that depends on the tensor's name. The sample is always the same.
package struct RowSample: Sendable {
  /// Rows of one matrix.
  package struct Run: Hashable, Sendable {
    /// The index of the matrix in its stack.
    package let matrix: Int
    /// The rows, counted in the matrix, ascending.
    package let rows: [Int]
  }

  /// By ascending matrices, each at most once.
  package let runs: [Run]

  /// The number of rows.
  package var count: Int { runs.reduce(0) { $0 + $1.rows.count } }

  /// - Parameters:
  ///   - matrices: How many are stacked.
  ///   - rows: The rows of each.
  ///   - wanted: How many rows to sample; all of them if there are no more.
  package init(named name: String, matrices: Int, rows: Int, wanted: Int) {
    let wanted = max(wanted, matrices)
    var numbers = Numbers(
      seed: name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 })
    runs = (0..<(rows > 0 ? matrices : 0)).map { matrix in
      // Equally many in each, give or take one.
      let share =
        Self.boundary(matrix + 1, of: matrices, in: wanted) - Self.boundary(matrix, of: matrices, in: wanted)
      let count = min(share, rows)
      return Run(
        matrix: matrix,
        rows: (0..<count).map { index in
          let start = Self.boundary(index, of: count, in: rows)
          let length = Self.boundary(index + 1, of: count, in: rows) - start
          return start + Int(numbers.next() % UInt64(length))
        })
    }
  }

  /// Where an interval begins, without overflow for any size.
  private static func boundary(_ index: Int, of count: Int, in total: Int) -> Int {
    let (high, low) = total.multipliedFullWidth(by: index)
    return count.dividingFullWidth((high, low)).quotient
  }

  /// SplitMix64.
  ///
  /// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
  private struct Numbers {
    var seed: UInt64

    mutating func next() -> UInt64 {
      seed &+= 0x9E37_79B9_7F4A_7C15
      var mixed = seed
      mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
      mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
      return mixed ^ (mixed >> 31)
    }
  }
}
