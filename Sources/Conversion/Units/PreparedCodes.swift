public import QuantizationRecipes
public import TensorFormats

/// Codes and scales made before the conversion, for weights whose codes depend on more than their own rows.
///
/// The plan does not depend on them: names, shapes, formats and offsets are the same without.
public protocol PreparedCodes: Sendable {
  /// Matrices that were not made as requested.
  var fallbacks: [CalibrationFallback] { get }

  /// Whether it has the weight of a source tensor in a format.
  func covers(_ tensor: String, as format: StorageFormat) -> Bool

  /// The scale of a matrix as stored, with which its codes were made; `nil` if the format has none.
  ///
  /// - Throws: What reading throws.
  func matrixScale(ofMatrix matrix: Int, of tensor: String) throws(CheckpointError) -> Float?

  /// Reads whole rows of one matrix, as the format that the plan gives the weight stores them.
  ///
  /// - Parameters:
  ///   - rows: Rows of the matrix; if rows share scales, whole groups of them, except at the end.
  ///   - matrix: Its number in the stack; 0 for a weight that is not a stack.
  ///   - tensor: The weight's published name.
  ///   - codes: Receives the codes, or blocks, of all columns, row by row.
  ///   - scales: Receives the scales, row by row; empty for blocks.
  /// - Throws: What reading throws; `.malformed` if the sizes do not match.
  /// - Precondition: ``covers(_:as:)`` is `true`.
  func read(
    _ rows: Range<Int>, ofMatrix matrix: Int, of tensor: String, codes: inout MutableRawSpan,
    scales: inout MutableRawSpan
  ) throws(CheckpointError)
}
