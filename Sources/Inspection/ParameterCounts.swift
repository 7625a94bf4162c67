internal import Checkpoint
internal import StoredWeights
internal import TensorFormats

/// What the tensors of a checkpoint add to the parameters of the model.
struct ParameterCounts {
  /// The checkpoint, or the part of a partition set, that each file belongs to.
  private let owners: [WeightShapes]
  /// The tensors of a partition set whose elements an earlier part holds already; none of other checkpoints, whose
  /// names are unique.
  private let copies: Set<Checkpoint.Tensor>

  /// Reads what the parts of a partition set say of themselves.
  ///
  /// - Throws: `.malformed` if a part states a box that its tensor does not have.
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

  /// The values that a tensor holds: codes of four bits are several to a stored element.
  func elements(of tensor: Checkpoint.Tensor) -> Int {
    owners[tensor.file].valuesShape(of: tensor).elementCount
  }

  /// Whether a part before has the same elements of the same tensor.
  func isCopy(_ tensor: Checkpoint.Tensor) -> Bool { copies.contains(tensor) }
}
