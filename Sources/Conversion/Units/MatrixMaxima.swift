internal import ByteStreams
internal import Checkpoint
internal import StoredWeights
internal import Quantization
internal import Synchronization
internal import ShardPlanning
internal import TensorFormats

/// The largest magnitudes of matrices that share a scale.
///
/// A scale per matrix has to be known before any of its rows is encoded, and engines keep one for several matrices (an
/// expert's gate and up), of which the second may be gigabytes further on. A matrix that fits into the read-ahead
/// window is measured in a first pass over the rows that were read for encoding; others, and the other members of its
/// group, are read an extra time for this (``Scan``), which normally fills the page cache. Only the result is kept,
/// and it depends only on the source: a resumed conversion finds the same.
final class MatrixMaxima: Sendable {
  /// The matrices with one index in all members of a group.
  struct Key: Hashable, Sendable {
    let group: Int
    let matrix: Int
  }

  /// A piece of a matrix that is read to be measured.
  struct Scan: Sendable {
    let member: ScaleGroup.Member
    let matrix: Int
    /// Counted in their matrix.
    let rows: Range<Int>

    var reads: RowDecoder.Reads { member.decoder.reads(rows, ofMatrix: matrix) }
  }

  private enum Entry {
    case known(Float)
    /// The number of pieces still being measured, the largest magnitude so far, and who is waiting for it.
    case sought(pieces: Int, largest: Float, waiting: [Int: CheckedContinuation<Float, any Error>])
  }

  private struct State {
    var entries: [Key: Entry] = [:]
    var nextWaiter = 0
  }

  private let groups: [ScaleGroup]
  private let state = Mutex(State())

  init(_ groups: [ScaleGroup]) { self.groups = groups }

  /// The pieces of a key's matrices.
  ///
  /// - Parameter range: The range of a tensor whose piece is measured in another way; `nil` for none.
  func scans(_ key: Key, without range: FileRange? = nil) -> [Scan] {
    groups[key.group].members.flatMap { member -> [Scan] in
      if let range, member.isAll(of: range) { return [] }
      return member.pieces.map { Scan(member: member, matrix: key.matrix, rows: $0) }
    }
  }

  /// The member of a key's group that is a whole tensor; `nil` if the tensor holds more than that.
  func member(_ key: Key, at range: FileRange) -> ScaleGroup.Member? {
    groups[key.group].members.first { $0.isAll(of: range) }
  }

  /// Claims the task of finding a maximum.
  ///
  /// - Parameter pieces: How many calls of ``add(_:to:)`` will complete it: at least one.
  /// - Returns: `false` if it is known, or already claimed.
  func claim(_ key: Key, pieces: Int) -> Bool {
    precondition(pieces > 0)
    return state.withLock { state in
      guard state.entries[key] == nil else { return false }
      state.entries[key] = .sought(pieces: pieces, largest: 0, waiting: [:])
      return true
    }
  }

  /// Takes in the maximum of one piece.
  func add(_ magnitude: Float, to key: Key) {
    let done: (Float, [CheckedContinuation<Float, any Error>])? = state.withLock { state in
      guard case .sought(let pieces, let largest, let waiting)? = state.entries[key] else {
        preconditionFailure("a piece of a matrix that nobody has claimed")
      }
      let maximum = max(largest, magnitude)
      guard pieces == 1 else {
        state.entries[key] = .sought(pieces: pieces - 1, largest: maximum, waiting: waiting)
        return nil
      }
      state.entries[key] = .known(maximum)
      return (maximum, Array(waiting.values))
    }
    guard let (maximum, waiting) = done else { return }
    for continuation in waiting { continuation.resume(returning: maximum) }
  }

  /// Waits until a maximum is known.
  ///
  /// - Throws: `CancellationError` if the task is cancelled: another piece may have failed.
  /// - Precondition: It has been claimed.
  func value(_ key: Key) async throws -> Float {
    let waiter = state.withLock { state in
      defer { state.nextWaiter += 1 }
      return state.nextWaiter
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let known: Result<Float, any Error>? = state.withLock { state in
          switch state.entries[key] {
          case .known(let maximum): return .success(maximum)
          case .sought(let pieces, let largest, var waiting):
            // A cancelled task would never be woken.
            guard !Task.isCancelled else { return .failure(CancellationError()) }
            waiting[waiter] = continuation
            state.entries[key] = .sought(pieces: pieces, largest: largest, waiting: waiting)
            return nil
          case nil: preconditionFailure("a matrix that nobody has claimed")
          }
        }
        if let known { continuation.resume(with: known) }
      }
    } onCancel: {
      let continuation: CheckedContinuation<Float, any Error>? = state.withLock { state in
        guard case .sought(let pieces, let largest, var waiting)? = state.entries[key] else { return nil }
        let continuation = waiting.removeValue(forKey: waiter)
        state.entries[key] = .sought(pieces: pieces, largest: largest, waiting: waiting)
        return continuation
      }
      continuation?.resume(throwing: CancellationError())
    }
  }
}

// MARK: - Measuring

extension ScaleGroup.Member {
  /// The largest magnitude of rows of one of its matrices.
  ///
  /// - Parameters:
  ///   - fetched: Their bytes, in the byte order of the file.
  ///   - rows: Counted in their matrix.
  /// - Throws: `.nonFinite` for NaN and infinity, naming the tensor and the rows, and what decoding throws.
  func largestMagnitude(
    _ fetched: FetchedRows, rows: Range<Int>, matrix: Int, _ context: UnitContext
  ) throws(CheckpointError) -> Float {
    let file = context.checkpoint.files[slice.file]
    let content = context.littleEndian(fetched.codes, file.byteOrder, slice.elementType)
    let isPlain = slice.scaling == nil && [.f32, .bf16].contains(slice.elementType)
    let values =
      isPlain
      ? content
      : try decoder.decode(
        content, scales: fetched.scales, matrixScale: fetched.matrixScale, rows: rows, context.pool)
    let largest = try LargestMagnitude.of(values.bytes, type: isPlain ? slice.elementType : .f32)
    guard largest.isFinite else {
      let first = matrix * decoder.matrixRows + rows.lowerBound
      throw CheckpointError(
        .nonFinite,
        "an element of rows \(first) to \(first + rows.count - 1) is NaN or infinite, so the matrix has no scale",
        path: file.source.path, tensor: slice.tensor,
        remedy: "repair the checkpoint, or choose BF16, F16 or F32")
    }
    return largest
  }
}
