internal import ByteStreams
public import QuantizationRecipes
public import TensorFormats

/// An importance matrix together with the digest of its file, which a plan records.
public struct ImportanceFile: Sendable {
  /// The matrix.
  public let matrix: ImportanceMatrix
  /// Where it is.
  public let path: String
  let name: String
  let byteCount: Int
  /// XXH3-128 of the file.
  package let xxh3: String

  /// Opens a file of either form.
  ///
  /// - Throws: What opening the file and reading the matrix throw.
  /// - Complexity: O(bytes of the file).
  public init(_ path: String) throws(CheckpointError) {
    let file = try InputFile(path)
    matrix = try ImportanceMatrix(file)
    self.path = path
    name = path.split(separator: "/").last.map(String.init) ?? path
    byteCount = file.byteCount
    var digester = XXH3Digester()
    var position = 0
    while position < file.byteCount {
      let end = min(position + 1 << 20, file.byteCount)
      digester.update(try file.readBytes(position..<end))
      position = end
    }
    xxh3 = "\(digester.finalize())"
  }

  /// What the plan says about it.
  func described(for tensors: [PlacedTensor], unweighted: Set<String>) -> ShardPlan.Importance {
    ShardPlan.Importance(
      file: name, bytes: byteCount, xxh3: xxh3,
      weighted: tensors.count { $0.treatment.operation.importance != nil },
      unweighted: unweighted.sorted())
  }
}
