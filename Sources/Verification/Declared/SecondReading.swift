package import Checkpoint
internal import JSON
package import TensorFormats

/// The independent reading on its own, for comparison with other implementations.
package enum SecondReading {
  /// All elements of a weight, row-major, by the definition of the format that a configuration states.
  ///
  /// - Parameters:
  ///   - tensor: The name of the codes.
  ///   - settings: `quantization_config`, as JSON.
  /// - Returns: `nil` for a tensor that holds its values; an element is `nil` if readers of the format disagree.
  /// - Throws: `.unsupported` for forms that are not decoded, `.malformed` if configuration and tensors contradict each
  ///   other, and what reading throws.
  /// - Complexity: O(number of elements), slowly.
  package static func values(
    of tensor: String, in checkpoint: Checkpoint, settings: [UInt8]
  ) throws(CheckpointError) -> [Double?]? {
    guard let codes = checkpoint[tensor] else {
      throw CheckpointError(.notFound, "does not exist", path: checkpoint.path, tensor: tensor)
    }
    let found = try DeclaredModules(checkpoint).module(of: tensor)
    let module = DeclaredModule(
      stem: found.stem, parts: found.parts,
      configuration: DeclaredConfiguration(try JSONValue.parse(settings, name: "quantization_config")),
      checkpoint: checkpoint)
    let layout: DefinedCodes
    switch try DeclaredReading(module, of: codes) {
    case .values: return nil
    case .codes(let found): layout = found
    case .unclear(let reason):
      throw CheckpointError(.unsupported, reason, path: checkpoint.path, tensor: tensor)
    case .contradicts(let reason):
      throw CheckpointError(.malformed, reason, path: checkpoint.path, tensor: tensor)
    }
    var reader = DefinedCodesReader(layout, in: checkpoint)
    var values: [Double?] = []
    values.reserveCapacity(layout.matrices * layout.rows * layout.columns)
    for matrix in 0..<layout.matrices {
      for row in 0..<layout.rows {
        for column in 0..<layout.columns {
          values.append(try reader.value(matrix: matrix, row: row, column: column))
        }
      }
    }
    return values
  }
}
