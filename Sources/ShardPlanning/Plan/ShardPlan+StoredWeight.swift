internal import Checkpoint
package import StoredWeights
internal import Quantization
internal import TensorFormats

extension ShardPlan.Slice {
  /// The box's weight, in the form that decoders take.
  package var stored: StoredWeight {
    let packing = scaling?.scheme?.scheme.geometry.codesPerElement ?? 1
    var dimensions = shape.dimensions
    if let columns = dimensions.popLast() { dimensions.append(columns / packing) }
    return StoredWeight(
      scaling?.scheme,
      .planned(tensor, elementType, TensorShape(dimensions), file: file, offset: offset), shape,
      scales: scaling?.scales?.tensorOfSource, matrixScales: scaling?.matrixScales?.tensorOfSource)
  }
}

extension ShardPlan.Scales {
  fileprivate var tensorOfSource: Checkpoint.Tensor {
    .planned(tensor, elementType, shape, file: file, offset: offset)
  }
}

extension Checkpoint.Tensor {
  fileprivate static func planned(
    _ name: String, _ type: ElementType, _ shape: TensorShape, file: Int, offset: Int
  ) -> Checkpoint.Tensor {
    Checkpoint.Tensor(
      name: name, elementType: type, shape: shape, file: file,
      byteRange: offset..<offset + (shape.byteCount(as: type) ?? 0))
  }
}
