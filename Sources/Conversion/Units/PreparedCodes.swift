public import TensorFormats

/// Codes and scales that were made before the conversion, for weights whose codes follow from more than their own rows.
///
/// The plan does not know them: names, shapes, formats and places are what they are without.
public protocol PreparedCodes: Sendable {
  /// Whether it has the weight of a source tensor.
  func covers(_ tensor: String) -> Bool

  /// Reads whole rows of one matrix, as the scheme that the plan gives the weight stores them.
  ///
  /// - Parameters:
  ///   - rows: Rows of the matrix.
  ///   - matrix: Its number in the stack; 0 for a weight that is no stack.
  ///   - codes: Receives the codes of all columns, row by row.
  ///   - scales: Receives the scales, row by row.
  /// - Throws: What reading throws; `.malformed` if the sizes do not fit.
  /// - Precondition: ``covers(_:)`` says so.
  func read(
    _ rows: Range<Int>, ofMatrix matrix: Int, of tensor: String, codes: inout MutableRawSpan,
    scales: inout MutableRawSpan
  ) throws(CheckpointError)
}
