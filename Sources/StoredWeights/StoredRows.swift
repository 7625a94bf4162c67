/// Rows of one matrix as they lie in the files: their codes and the scales that belong to them.
///
/// Grows to the largest band that is read into it and is used again.
public struct StoredRows: Sendable {
  /// The rows, counted in the stored matrix.
  var rows = 0..<0
  var codes: [UInt8] = []
  /// The bytes of `codes` that were read.
  var codeCount = 0
  var scales: [UInt8] = []
  /// The scale of the whole matrix as it is stored.
  var matrixScale: Float = 1
  /// How many rows of the first row of scales lie above the first row.
  var phase = 0

  /// Makes an empty one.
  public init() {}

  /// Whether the bytes of both are the same, and mean the same if both are stored in one way.
  public func hasSameBytes(as other: StoredRows) -> Bool {
    guard codeCount == other.codeCount, phase == other.phase, scales == other.scales,
      matrixScale.bitPattern == other.matrixScale.bitPattern
    else { return false }
    return codes[..<codeCount] == other.codes[..<codeCount]
  }
}
