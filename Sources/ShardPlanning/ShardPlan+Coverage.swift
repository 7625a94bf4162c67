package import Checkpoint
package import TensorFormats

extension ShardPlan {
  /// Checks that every element of every source tensor is in the output exactly once, plus what the plan lists as
  /// replicated or absorbed, and that codes and scales of block-FP8 belong together. The planner asks this of its own
  /// work.
  ///
  /// - Throws: `.invalidRequest` naming the first tensor that is lost or doubled.
  /// - Complexity: O(*n* log *n*) in the number of output tensors.
  package func checkCoverage(of checkpoint: Checkpoint) throws(CheckpointError) {
    let copies = Dictionary(replicated.map { ($0.tensor, $0.parts) }, uniquingKeysWith: +)
    let absorbed = Set(absorbed.map(\.tensor))
    var placed: [String: Boxes] = [:]
    for part in parts {
      for file in part.files {
        for tensor in file.tensors {
          placed[tensor.source.tensor, default: Boxes()].add(tensor, in: part.directory)
        }
      }
    }
    for tensor in checkpoint.tensors where !absorbed.contains(tensor.name) {
      let boxes = placed.removeValue(forKey: tensor.name) ?? Boxes()
      func mistake(_ message: String) -> CheckpointError {
        CheckpointError(
          .invalidRequest, "the plan \(message)", path: checkpoint.path, tensor: tensor.name,
          remedy: "this is a mistake in the planner; please report it")
      }
      if !boxes.scales.isEmpty, boxes.scales != boxes.codes {
        throw mistake("has block-FP8 codes and scales of different boxes")
      }
      if let parts = copies[tensor.name] {
        guard boxes.values.allSatisfy(\.isWhole), boxes.parts.sorted() == parts.sorted() else {
          throw mistake("does not place all of it in each of the parts that it lists")
        }
        continue
      }
      let covered = boxes.values.reduce(0) { $0 + $1.extent.reduce(1, *) }
      guard !boxes.values.isEmpty, covered == tensor.shape.elementCount, Self.areDisjoint(boxes.values) else {
        throw mistake("places \(covered) of its \(tensor.shape.elementCount) elements, or some twice")
      }
    }
    if let stranger = placed.keys.min() {
      throw CheckpointError(
        .invalidRequest, "the plan places a tensor that the source does not have", path: checkpoint.path,
        tensor: stranger, remedy: "this is a mistake in the planner; please report it")
    }
  }

  /// The boxes of one source tensor. Scales are a second form of elements that their codes cover.
  private struct Boxes {
    var values: [Slice] = []
    var parts: [String] = []
    var codes: Set<PlacedSlice> = []
    var scales: Set<PlacedSlice> = []

    mutating func add(_ tensor: Tensor, in part: String) {
      let place = PlacedSlice(part: part, origin: tensor.source.origin, extent: tensor.source.extent)
      if tensor.derivation == .blockFP8Scales {
        scales.insert(place)
        return
      }
      if tensor.derivation == .blockFP8Codes { codes.insert(place) }
      values.append(tensor.source)
      parts.append(part)
    }
  }

  private struct PlacedSlice: Hashable {
    let part: String
    let origin: [Int]
    let extent: [Int]
  }

  /// Whether no two boxes have an element in common.
  private static func areDisjoint(_ slices: [Slice]) -> Bool {
    guard slices.count > 1 else { return true }
    if Set(slices.map(\.origin)).count < slices.count { return false }
    if slices[0].origin.indices.allSatisfy({ isGrid(slices, axis: $0) }) { return true }
    return slices.indices.allSatisfy { a in
      slices[(a + 1)...].allSatisfy { !$0.overlaps(slices[a]) }
    }
  }

  /// Whether the boxes' ranges along a dimension are the same or apart. If they are in every dimension, the boxes are
  /// cells of a grid, and two of them overlap only if they are the same: no pairs need to be compared.
  private static func isGrid(_ slices: [Slice], axis: Int) -> Bool {
    let ranges = Set(slices.map { $0.origin[axis]..<($0.origin[axis] + $0.extent[axis]) })
      .sorted { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }
    return zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound }
  }
}

extension ShardPlan.Slice {
  fileprivate func overlaps(_ other: Self) -> Bool {
    origin.indices.allSatisfy {
      origin[$0] < other.origin[$0] + other.extent[$0] && other.origin[$0] < origin[$0] + extent[$0]
    }
  }
}
