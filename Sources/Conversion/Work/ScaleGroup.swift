internal import ByteStreams
internal import Checkpoint
internal import StoredWeights
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// Matrices that share a scale, as the pipeline reads them.
struct ScaleGroup: Sendable {
  let members: [Member]

  /// One weight of the group; it may be rows of a larger stored tensor.
  struct Member: Sendable {
    let slice: ShardPlan.Slice
    let decoder: RowDecoder

    /// The weight's rows in each matrix.
    var rows: Range<Int> {
      let rank = slice.extent.count
      guard rank >= 2 else { return 0..<1 }
      return slice.origin[rank - 2]..<slice.origin[rank - 2] + slice.extent[rank - 2]
    }

    /// Its rows in unit-sized pieces.
    var pieces: [Range<Int>] {
      let rows = rows
      let step = max(1, SourceView.unitElements / max(1, decoder.columns))
      return stride(from: rows.lowerBound, to: rows.upperBound, by: step).map {
        $0..<min(rows.upperBound, $0 + step)
      }
    }

    /// Whether it is the whole tensor at a range of the source.
    func isAll(of range: FileRange) -> Bool {
      slice.file == range.file && slice.offset == range.bytes.lowerBound && slice.isWhole
    }
  }

  init(_ group: ShardPlan.ScaleGroup, _ checkpoint: Checkpoint) throws(CheckpointError) {
    var members: [Member] = []
    for slice in group.members {
      members.append(Member(slice: slice, decoder: try RowDecoder(slice.stored, in: checkpoint)))
    }
    self.members = members
  }
}
