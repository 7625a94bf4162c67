internal import ByteStreams
internal import ParallelWork
internal import Synchronization
internal import TensorFormats

/// The SHA-256 of many files, several of them read in parallel.
struct FileHashing: Sendable {
  let store: any ByteStore
  let threads: Int

  /// A range of a file's bytes.
  struct Piece: Hashable, Sendable {
    let path: String
    let range: Range<Int>
  }

  /// The number of bytes per read.
  private static let chunk = 4 << 20

  /// Reads every piece once, from its first byte to its last.
  ///
  /// Memory: four megabytes for each piece in progress.
  ///
  /// - Parameter progress: Called from any thread with the bytes read since the last call, and their file.
  /// - Returns: The digests in the order of the pieces; an error for a piece that could not be read.
  /// - Throws: `CancellationError`.
  func digests(
    of pieces: [Piece], progress: @escaping @Sendable (_ bytes: Int, _ file: String) -> Void
  ) async throws -> [Result<Digest, CheckpointError>] {
    let results = Mutex<[Int: Result<Digest, CheckpointError>]>([:])
    // Largest first, so that no large piece is left for a single core at the end.
    let order = pieces.indices.sorted { pieces[$0].range.count > pieces[$1].range.count }
    try await ParallelWork(threads: threads).run(order, delivering: .asFinished) { index in
      try digest(of: pieces[index]) { progress($0, pieces[index].path) }
    } takeIn: { index, result in
      results.withLock { $0[index] = result }
    }
    return results.withLock { results in
      pieces.indices.map { results[$0] ?? .failure(CheckpointError(.inputOutput, "was not read")) }
    }
  }

  /// - Throws: `CancellationError`.
  private func digest(
    of piece: Piece, progress: (Int) -> Void
  ) throws -> Result<Digest, CheckpointError> {
    do {
      let source = try store.open(piece.path)
      let buffer = BufferPool(keep: 0).take(min(Self.chunk, max(1, piece.range.count)))
      var digester = SHA256Digester()
      var position = piece.range.lowerBound
      while position < piece.range.upperBound {
        try Task.checkCancellation()
        let count = min(buffer.byteCount, piece.range.upperBound - position)
        let next = position + count..<min(position + 2 * count, piece.range.upperBound)
        if !next.isEmpty { source.prefetch(next) }
        try buffer.fill { (span) throws(CheckpointError) in
          var bytes = span._mutatingExtracting(first: count)
          try source.read(into: &bytes, at: position)
        }
        digester.update(buffer.bytes.extracting(0..<count))
        position += count
        progress(count)
      }
      guard try source.change != .content else {
        throw CheckpointError(.sourceChanged, "changed while it was being read", path: source.path)
      }
      return .success(digester.finalize())
    } catch let error as CheckpointError {
      return .failure(error)
    }
  }
}
