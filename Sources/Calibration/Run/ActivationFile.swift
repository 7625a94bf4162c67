internal import ByteStreams
internal import Step3Runtime
internal import TensorFormats

/// One row of F32 for each token, on disk, because all tokens of a calibration text do not fit into memory.
///
/// The page cache keeps as much as fits. Rows are in native byte order; nobody else reads the file.
struct ActivationFile: Sendable {
  let rows: Int
  let columns: Int
  private let file: OutputFile

  /// Creates the file, or reopens one of that size.
  ///
  /// - Throws: `.cannotCreate`, `.inputOutput` if there is no space.
  init(_ path: String, rows: Int, columns: Int) throws(CheckpointError) {
    self.rows = rows
    self.columns = columns
    // Small rows are updated in place, so this must not bypass the cache.
    file = try OutputFile(
      path, byteCount: rows * columns * 4, reopening: try FileSystem.isTaken(path), largeFrom: .max)
  }

  /// The rows of a range.
  func read(_ wanted: Range<Int>) throws(CheckpointError) -> Activations {
    let values = Activations(rows: wanted.count, columns: columns)
    try values.updateAll { span throws(CheckpointError) in
      var bytes = unsafe span.mutableBytes
      try file.read(into: &bytes, at: wanted.lowerBound * columns * 4)
    }
    return values
  }

  /// The rows with these indices, in that order.
  func read(_ numbers: [Int]) throws(CheckpointError) -> Activations {
    let values = Activations(rows: numbers.count, columns: columns)
    for (row, number) in numbers.enumerated() {
      try values.update(row) { span throws(CheckpointError) in
        var bytes = unsafe span.mutableBytes
        try file.read(into: &bytes, at: number * columns * 4)
      }
    }
    return values
  }

  /// Writes the rows from `first` on.
  func write(_ values: Activations, from first: Int) throws(CheckpointError) {
    precondition(values.columns == columns)
    try unsafe file.write(values.values.bytes, at: first * columns * 4)
  }

  /// Adds each row, times its weight, to the row with the given index.
  func add(_ values: Activations, weights: [Float], to numbers: [Int]) throws(CheckpointError) {
    let sums = try read(numbers)
    for (row, number) in numbers.enumerated() {
      let (added, weight) = (values[row], weights[row])
      sums.update(row) { span in
        for column in span.indices { span[column] += weight * added[column] }
      }
      try unsafe file.write(sums[row].bytes, at: number * columns * 4)
    }
  }

  /// Makes sure that what was written survives a power cut.
  func synchronize() throws(CheckpointError) { try file.synchronize() }
}
