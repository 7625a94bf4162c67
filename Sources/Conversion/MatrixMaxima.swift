internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import ShardPlanning
internal import Synchronization
internal import TensorFormats

/// The largest magnitudes of matrices that share a scale, found when the first unit needs one.
///
/// A scale per matrix has to be known before any of its rows is encoded, and engines keep one for several matrices
/// (an expert's gate and up), of which the second may lie hundreds of megabytes further on. So its rows are read twice:
/// once for the maximum, soon after once more to be encoded, normally out of the page cache. Nothing is kept but the
/// result, and it depends on nothing but the source: a conversion that goes on after an interruption finds the same.
final class MatrixMaxima: Sendable {
  let groups: [ShardPlan.ScaleGroup]
  private let entries = Mutex<[Key: Entry]>([:])

  private struct Key: Hashable {
    let group: Int
    let matrix: Int
  }

  private enum Entry {
    case known(Float)
    case sought([Stretch])
  }

  /// Rows that are read at a time. Whoever comes while others are looking takes the stretches that are left.
  private final class Stretch: Sendable {
    let member: Int
    let rows: Range<Int>
    let maximum = Mutex<Float?>(nil)

    init(member: Int, rows: Range<Int>) {
      self.member = member
      self.rows = rows
    }
  }

  init(_ groups: [ShardPlan.ScaleGroup]) { self.groups = groups }

  /// The largest magnitude over the matrices of that number in all members of a group.
  ///
  /// - Throws: `.nonFinite` if one of them has NaN or infinity, and what reading throws.
  func maximum(ofGroup group: Int, matrix: Int, of processor: UnitProcessor) throws(CheckpointError) -> Float
  {
    let key = Key(group: group, matrix: matrix)
    let stretches: [Stretch]
    switch entries.withLock({ entry(key, in: &$0) }) {
    case .known(let maximum): return maximum
    case .sought(let found): stretches = found
    }
    var largest: Float = 0
    // First those that nobody has begun, then what others are still at.
    for stretch in stretches {
      let result = stretch.maximum.withLockIfAvailable { maximum in
        find(&maximum, stretch, matrix, group, processor)
      }
      if case .failure(let error)? = result { throw error }
    }
    for stretch in stretches {
      let result = stretch.maximum.withLock { maximum in find(&maximum, stretch, matrix, group, processor) }
      largest = max(largest, try result.get())
    }
    entries.withLock { $0[key] = .known(largest) }
    return largest
  }

  private func entry(_ key: Key, in entries: inout [Key: Entry]) -> Entry {
    if let entry = entries[key] { return entry }
    var stretches: [Stretch] = []
    for (member, slice) in groups[key.group].members.enumerated() {
      let first = slice.firstRow
      let step = max(1, SourceView.unitElements / max(1, slice.shape.columns))
      for row in stride(from: 0, to: slice.rows, by: step) {
        stretches.append(
          Stretch(member: member, rows: first + row..<first + min(slice.rows, row + step)))
      }
    }
    let entry = Entry.sought(stretches)
    entries[key] = entry
    return entry
  }

  private func find(
    _ maximum: inout Float?, _ stretch: Stretch, _ matrix: Int, _ group: Int, _ processor: UnitProcessor
  ) -> Result<Float, CheckpointError> {
    if let maximum { return .success(maximum) }
    do throws(CheckpointError) {
      let found = try processor.largestMagnitude(
        of: stretch.rows, matrix: matrix, in: groups[group].members[stretch.member])
      maximum = found
      return .success(found)
    } catch {
      return .failure(error)
    }
  }
}

extension ShardPlan.Slice {
  /// The rows of the box in each matrix.
  fileprivate var rows: Int { extent.count < 2 ? 1 : extent[extent.count - 2] }
  /// The first of them.
  fileprivate var firstRow: Int { origin.count < 2 ? 0 : origin[origin.count - 2] }
}

extension UnitProcessor {
  /// The largest magnitude of some rows of one matrix.
  fileprivate func largestMagnitude(
    of rows: Range<Int>, matrix: Int, in slice: ShardPlan.Slice
  ) throws(CheckpointError) -> Float {
    let dimensions = slice.shape.dimensions
    let source = SourceRows(
      elementType: slice.elementType, columns: slice.shape.columns,
      matrixRows: dimensions.count < 2 ? 1 : dimensions[dimensions.count - 2], scaling: slice.scaling)
    let first = matrix * source.matrixRows + rows.lowerBound
    let file = checkpoint.files[slice.file]
    let raw = pool.take(rows.count * source.rowBytes)
    try raw.fill { (span) throws(CheckpointError) in
      try file.source.read(into: &span, at: slice.offset + first * source.rowBytes)
    }
    let content = littleEndian(raw, file.byteOrder, slice.elementType)
    var (values, type) = (content, slice.elementType)
    if slice.scaling != nil || ![.f32, .bf16].contains(type) {
      values = try source.decode(content, first..<first + rows.count, of: self)
      type = .f32
    }
    let largest = try LargestMagnitude.of(values.bytes, type: type)
    guard largest.isFinite else {
      throw CheckpointError(
        .nonFinite,
        "an element of rows \(first) to \(first + rows.count - 1) is NaN or infinite, so the matrix has no scale",
        path: file.source.path, tensor: slice.tensor,
        remedy: "repair the checkpoint, or choose BF16, F16 or F32")
    }
    return largest
  }
}
