package import Checkpoint
internal import Step3Model
internal import TensorFormats

/// How a model is divided between the attention, FFN and vision sides.
package struct CutFigures: Sendable {
  /// One machine's share, or that of all ranks with one role.
  package struct Share: Sendable {
    package let name: String
    package let side: PartRole
    package fileprivate(set) var tensors = 0
    package fileprivate(set) var bytes = 0
    /// By role, the largest first.
    package fileprivate(set) var roles: [(role: TensorRole, bytes: Int)] = []
  }

  /// Whether the checkpoint is partitioned like this; if not, this is what a partition would be.
  package let isMade: Bool
  package let shares: [Share]
  /// The bytes of tensors that no description assigns to a side.
  package let unplaced: Int
}

extension CutFigures {
  /// The partition of a partition set, or the one from the model's description.
  ///
  /// - Returns: `nil` for models whose description has no partition.
  init?(_ checkpoint: Checkpoint, _ entries: [TensorEntry]) throws(CheckpointError) {
    guard !checkpoint.parts.isEmpty else {
      self.init(planned: entries, of: checkpoint)
      return
    }
    var shares: [Share] = []
    for part in checkpoint.parts {
      let side = try PartitionRecord(of: part.checkpoint)?.identity.role ?? .model
      var share = Share(name: part.name, side: side)
      share.add(entries.filter { $0.file.hasPrefix(part.name + "/") })
      shares.append(share)
    }
    self.init(isMade: true, shares: shares, unplaced: 0)
  }

  private init?(planned entries: [TensorEntry], of checkpoint: Checkpoint) {
    guard let model = ModelFamily(of: checkpoint)?.model else { return nil }
    var sides: [PartRole: [TensorEntry]] = [:]
    var unplaced = 0
    for entry in entries {
      let known =
        model.tensor(published: entry.weight) ?? model.tensor(gguf: entry.weight)
        ?? Step3NameVariant(entry.weight, in: model)?.published
      guard let name = known else {
        unplaced += entry.bytes
        continue
      }
      sides[model.side(of: name, router: .attention), default: []].append(entry)
    }
    guard sides[.ffn] != nil, sides[.attention] != nil else { return nil }
    let shares = PartRole.parts.compactMap { side -> Share? in
      guard let entries = sides[side] else { return nil }
      var share = Share(name: side.rawValue, side: side)
      share.add(entries)
      return share
    }
    self.init(isMade: false, shares: shares, unplaced: unplaced)
  }
}

extension CutFigures.Share {
  fileprivate mutating func add(_ entries: [TensorEntry]) {
    var sums: [TensorRole: Int] = [:]
    for entry in entries {
      tensors += entry.count
      bytes += entry.bytes
      sums[entry.role, default: 0] += entry.bytes
    }
    roles = sums.sorted { ($0.value, $1.key.rawValue) > ($1.value, $0.key.rawValue) }.map {
      ($0.key, $0.value)
    }
  }
}
