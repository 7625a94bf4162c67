internal import Checkpoint
internal import TensorFormats

extension ShardPlan {
  /// Checks that every element of every source tensor is in the output exactly once, plus what the plan lists as
  /// replicated or absorbed. The planner asks this of its own work.
  ///
  /// - Throws: `.invalidRequest` naming the first tensor that is lost or doubled.
  /// - Complexity: O(*n* log *n*) in the number of output tensors.
  func checkCoverage(of checkpoint: Checkpoint) throws(CheckpointError) {
    let replicated = Set(replicated.map(\.tensor))
    let absorbed = Set(absorbed.map(\.tensor))
    var boxes: [String: [Slice]] = [:]
    for tensor in files.flatMap(\.tensors) { boxes[tensor.source.tensor, default: []].append(tensor.source) }
    for tensor in checkpoint.tensors where !absorbed.contains(tensor.name) {
      let slices = boxes[tensor.name] ?? []
      if replicated.contains(tensor.name), slices.contains(where: \.isWhole) { continue }
      let covered = slices.reduce(0) { $0 + $1.extent.reduce(1, *) }
      guard !slices.isEmpty, covered == tensor.shape.elementCount, Self.areDisjoint(slices) else {
        throw CheckpointError(
          .invalidRequest,
          "the plan places \(covered) of its \(tensor.shape.elementCount) elements, or some twice",
          path: checkpoint.path, tensor: tensor.name,
          remedy: "this is a mistake in the planner; please report it")
      }
    }
  }

  /// Whether no two boxes have an element in common. A cut runs along one dimension, so boxes sorted by their origin
  /// only ever meet their neighbours.
  private static func areDisjoint(_ slices: [Slice]) -> Bool {
    let sorted = slices.sorted { $0.origin.lexicographicallyPrecedes($1.origin) }
    return zip(sorted, sorted.dropFirst()).allSatisfy { a, b in
      a.extent.indices.contains { axis in
        let (left, right) = (a.origin[axis], b.origin[axis])
        return left + a.extent[axis] <= right || right + b.extent[axis] <= left
      }
    }
  }
}
