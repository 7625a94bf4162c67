package import Checkpoint
internal import Quantization
package import TensorFormats

extension ShardPlan {
  /// Checks that every element of every source tensor is in the output exactly once, plus what the plan lists as
  /// replicated or absorbed, and that codes and scales belong together. The planner checks its own work with it.
  ///
  /// - Throws: `.invalidRequest` naming the first tensor that is lost or doubled.
  /// - Complexity: O(*n*) in the number of boxes.
  package func checkCoverage(of checkpoint: Checkpoint) throws(CheckpointError) {
    func mistake(_ message: String, _ tensor: String) -> CheckpointError {
      CheckpointError(
        .invalidRequest, "the plan \(message)", path: checkpoint.path, tensor: tensor,
        remedy: "this is a bug in the planner; please report it")
    }
    let copies = Dictionary(replicated.map { ($0.tensor, $0.parts) }, uniquingKeysWith: { first, _ in first })
    let absorbed = Set(absorbed.map(\.tensor))
    var placed: [String: Boxes] = [:]
    var carried: Set<String> = []
    for part in parts {
      for tensor in part.tensors {
        carried.formUnion(tensor.carriedScales)
        for slice in tensor.sources {
          placed[slice.tensor, default: Boxes()].add(slice, tensor.operation.part, in: part.directory)
        }
      }
    }
    for tensor in checkpoint.tensors where !absorbed.contains(tensor.name) {
      if carried.remove(tensor.name) != nil { continue }
      let boxes = placed.removeValue(forKey: tensor.name) ?? Boxes()
      if !boxes.scales.isEmpty, boxes.scales != boxes.codes {
        throw mistake("has codes and scales of different boxes", tensor.name)
      }
      if let parts = copies[tensor.name] {
        guard boxes.values.keys.sorted() == parts.sorted(), boxes.values.values.allSatisfy(Self.areWhole)
        else {
          throw mistake("does not place all of it in each of the parts that it lists", tensor.name)
        }
        continue
      }
      let values = boxes.values.values.flatMap { $0 }
      guard Self.areWhole(values) else {
        let covered = values.reduce(0) { $0 + ($1.box?.elementCount ?? 0) }
        throw mistake(
          "places \(covered) of its \(values.first?.shape.elementCount ?? tensor.shape.elementCount) elements, "
            + "or some twice", tensor.name)
      }
    }
    if let stranger = placed.keys.min() ?? carried.min() {
      throw CheckpointError(
        .invalidRequest, "the plan places a tensor that the source does not have", path: checkpoint.path,
        tensor: stranger, remedy: "this is a bug in the planner; please report it")
    }
  }

  /// The boxes of one source tensor. Scales are a second form of elements that their codes cover.
  private struct Boxes {
    /// By part.
    var values: [String: [Slice]] = [:]
    var codes: Set<PlacedSlice> = []
    var scales: Set<PlacedSlice> = []

    mutating func add(_ slice: Slice, _ scaled: StoredScheme.Part?, in part: String) {
      let place = PlacedSlice(part: part, box: slice.box)
      switch scaled {
      case .scales: scales.insert(place)
      // One for each matrix: those of a fused module are listed with the first weight.
      case .matrixScales, .shape: break
      case .codes:
        codes.insert(place)
        values[part, default: []].append(slice)
      case nil: values[part, default: []].append(slice)
      }
    }
  }

  private struct PlacedSlice: Hashable {
    let part: String
    let box: TensorBox?
  }

  /// Whether the boxes cover all of a tensor, and no element twice.
  private static func areWhole(_ slices: [Slice]) -> Bool {
    guard let shape = slices.first?.shape else { return false }
    let boxes = slices.compactMap(\.box)
    return boxes.count == slices.count && TensorBox.tile(boxes, shape)
  }
}

extension ShardPlan.Tensor {
  /// The source's scale tensors that it is made from.
  fileprivate var carriedScales: [String] {
    let scaling = sources.compactMap(\.scaling)
    return switch operation {
    case .copy, .convert, .encode, .unpack, .shape, .carry(.codes, _, _), .carry(.shape, _, _): []
    // Blocks hold the scales as well.
    case .pack, .carry(.scales, _, _): scaling.compactMap { $0.scales?.tensor }
    case .carry(.matrixScales, _, _): scaling.compactMap { $0.matrixScales?.tensor }
    }
  }
}
