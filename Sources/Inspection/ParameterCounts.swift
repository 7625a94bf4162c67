internal import Checkpoint
internal import StoredWeights
internal import TensorFormats

/// What the tensors of a checkpoint contribute to the parameter count of the model.
struct ParameterCounts {
  /// The checkpoint, or the part of a partition set, that each file belongs to.
  private let owners: [WeightShapes]
  /// The tensors of a partition set whose elements an earlier part already holds; none for other checkpoints,
  /// whose names are unique.
  private let copies: Set<Checkpoint.Tensor>

  /// Reads what the parts of a partition set say about themselves.
  ///
  /// - Throws: `.malformed` if a part states a box outside its tensor.
  init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    guard !checkpoint.parts.isEmpty else {
      let shapes = WeightShapes(checkpoint)
      owners = checkpoint.files.map { _ in shapes }
      copies = []
      return
    }
    owners = checkpoint.parts.flatMap { part in
      let shapes = WeightShapes(part.checkpoint)
      return part.checkpoint.files.map { _ in shapes }
    }
    let weights = try ModelWeights(checkpoint, unread: .asStored)
    copies = Set(
      weights.names.flatMap { name in
        (weights[name]?.copies ?? []).map(\.stored.codes)
      })
  }

  /// The number of values in a tensor: a stored element may hold several packed codes.
  func elements(of tensor: Checkpoint.Tensor) -> Int {
    owners[tensor.file].valuesShape(of: tensor).elementCount
  }

  /// Whether an earlier part has the same elements of the same tensor.
  func isCopy(_ tensor: Checkpoint.Tensor) -> Bool { copies.contains(tensor) }
}
