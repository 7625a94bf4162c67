internal import Checkpoint
internal import ModelWeights
internal import TensorFormats

/// What the tensors of a checkpoint add to the parameters of the model.
struct ParameterCounts {
  /// The checkpoint, or the part of a partition set, that each file belongs to.
  private let owners: [Checkpoint]
  /// The tensors of a partition set whose elements an earlier part holds already; none of other checkpoints, whose
  /// names are unique.
  private let copies: Set<Checkpoint.Tensor>

  /// Reads what the parts of a partition set say of themselves.
  ///
  /// - Throws: `.malformed` if a part states a box that its tensor does not have.
  init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    guard !checkpoint.parts.isEmpty else {
      owners = checkpoint.files.map { _ in checkpoint }
      copies = []
      return
    }
    owners = checkpoint.parts.flatMap { part in part.checkpoint.files.map { _ in part.checkpoint } }
    let weights = try ModelWeights(checkpoint, unread: .asStored)
    copies = Set(
      weights.names.flatMap { name in
        (weights[name]?.copies ?? []).map(\.stored.codes)
      })
  }

  /// The values that a tensor holds: codes of four bits are several to a stored element.
  func elements(of tensor: Checkpoint.Tensor) -> Int {
    StoredWeight.valuesShape(of: tensor, in: owners[tensor.file]).elementCount
  }

  /// Whether a part before has the same elements of the same tensor.
  func isCopy(_ tensor: Checkpoint.Tensor) -> Bool { copies.contains(tensor) }
}
