/// Rows of one matrix as stored in the files: their codes and the scales that belong to them.
///
/// Grows to the largest band read into it and is reused.
public struct StoredRows: Sendable {
  /// The rows, counted in the stored matrix.
  var rows = 0..<0
  var codes: [UInt8] = []
  /// The bytes of `codes` that were read.
  var codeCount = 0
  var scales: [UInt8] = []
  /// The scale of the whole matrix as it is stored.
  var matrixScale: Float = 1
  /// The first row's offset within the rows that share its row of scales.
  var phase = 0

  /// Makes an empty one.
  public init() {}

  /// Whether the bytes of both are the same, and so the values, if both are stored in the same way.
  public func hasSameBytes(as other: StoredRows) -> Bool {
    guard codeCount == other.codeCount, phase == other.phase, scales == other.scales,
      matrixScale.bitPattern == other.matrixScale.bitPattern
    else { return false }
    return codes[..<codeCount] == other.codes[..<codeCount]
  }
}
