public import QuantizationRecipes
public import TensorFormats

/// Codes and scales that were made before the conversion, for weights whose codes follow from more than their own rows.
///
/// The plan does not know them: names, shapes, formats and places are what they are without.
public protocol PreparedCodes: Sendable {
  /// What was not made as asked.
  var fallbacks: [CalibrationFallback] { get }

  /// Whether it has the weight of a source tensor in a format.
  func covers(_ tensor: String, as format: StorageFormat) -> Bool

  /// The scale of a matrix as it is stored, under which its codes were made; `nil` where the format has none.
  ///
  /// - Throws: What reading throws.
  func matrixScale(ofMatrix matrix: Int, of tensor: String) throws(CheckpointError) -> Float?

  /// Reads whole rows of one matrix, as the format that the plan gives the weight stores them.
  ///
  /// - Parameters:
  ///   - rows: Rows of the matrix; where rows share scales, all that do, or as many as there are.
  ///   - matrix: Its number in the stack; 0 for a weight that is no stack.
  ///   - tensor: The weight's published name.
  ///   - codes: Receives the codes, or blocks, of all columns, row by row.
  ///   - scales: Receives the scales, row by row; empty for blocks.
  /// - Throws: What reading throws; `.malformed` if the sizes do not fit.
  /// - Precondition: ``covers(_:as:)`` says so.
  func read(
    _ rows: Range<Int>, ofMatrix matrix: Int, of tensor: String, codes: inout MutableRawSpan,
    scales: inout MutableRawSpan
  ) throws(CheckpointError)
}
