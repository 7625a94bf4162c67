package import Checkpoint
internal import JSON
package import TensorFormats

/// Which elements of the model's tensors a part of a partition set holds.
package enum PartitionSlices {
  /// `step3_partition.slices` of a part's `config.json`, by the name in the part's files; empty for what is no part.
  ///
  /// - Throws: `.malformed` if a part states a box that its tensor does not have.
  package static func read(_ checkpoint: Checkpoint) throws(CheckpointError) -> [String: TensorBox] {
    guard let slices = checkpoint.configurationMembers?["step3_partition"]?["slices"]?.members else {
      return [:]
    }
    var boxes: [String: TensorBox] = [:]
    for (name, slice) in slices {
      guard case .object(let fields) = slice else { continue }
      guard let shape = integers(fields["shape"]).flatMap(TensorShape.init(checking:)),
        let origin = integers(fields["origin"]), let extent = integers(fields["extent"]),
        let box = TensorBox(shape, origin: origin, extent: extent)
      else {
        throw CheckpointError(
          .malformed, "step3_partition.slices states a box that is none",
          path: "\(checkpoint.directory)/config.json", tensor: name)
      }
      boxes[name] = box
    }
    return boxes
  }

  /// Whether the checkpoint is one part of a partition set.
  package static func describes(_ checkpoint: Checkpoint) -> Bool {
    checkpoint.parts.isEmpty && checkpoint.configurationMembers?["step3_partition"]?.members != nil
  }

  private static func integers(_ value: JSONValue?) -> [Int]? {
    guard case .array(let items)? = value else { return nil }
    var numbers: [Int] = []
    for item in items {
      guard let number = item.whole else { return nil }
      numbers.append(number)
    }
    return numbers
  }
}
