package import ByteStreams
package import ParallelWork
internal import Synchronization
internal import TensorFormats

/// Writes one weight file into the container: pieces are encoded in parallel and appended in order.
package struct FileArchiver: Sendable {
  private let source: InputFile
  private let sections: [PlannedSection]
  private let work: ParallelWork
  private let monitor: WorkMonitor

  /// - Parameters:
  ///   - sections: As ``plan(_:layout:work:)`` gives them.
  ///   - work: How many batches are in progress at a time; each needs ``batchMemory``.
  package init(source: InputFile, sections: [PlannedSection], work: ParallelWork, monitor: WorkMonitor) {
    self.source = source
    self.sections = sections
    self.work = work
    self.monitor = monitor
  }

  /// The memory that one batch in progress needs, in bytes.
  package static let batchMemory = Batch.memory

  /// The number of original bytes in one batch.
  package static let batchByteCount = Batch.byteCount

  /// How many batches may be in progress within `memory` bytes.
  package static func work(threads: Int, memory: Int) -> ParallelWork {
    let most = max(1, memory / batchMemory)
    return ParallelWork(threads: min(threads, most), inFlight: min(2 * threads, most))
  }

  /// Chooses a method for each section of a file by trying them on samples.
  ///
  /// - Returns: The sections, in order, and their estimated compressed size.
  package static func plan(
    _ source: InputFile, layout: ArchiveLayout, work: ParallelWork
  ) async throws -> (sections: [PlannedSection], estimatedBytes: Int) {
    final class Planned: Sendable {
      let lock = Mutex<(sections: [PlannedSection], bytes: Double)>(([], 0))
    }
    let planned = Planned()
    try await work.run(layout.sections, scratch: { PieceEncoder() }) { section, encoder in
      let sample = try ArchiveMethod.sample(of: section.range).map { try source.readBytes($0) }
      return try ArchiveMethod.choose(for: section.elementType, sample: sample, encoder: encoder)
    } takeIn: { section, choice, _ in
      planned.lock.withLock {
        $0.sections.append(PlannedSection(section: section, method: choice.method))
        $0.bytes += Double(section.range.count) * choice.share
      }
    }
    return planned.lock.withLock { ($0.sections, Int($0.bytes)) }
  }

  /// What has been appended, and the digest of the original bytes so far.
  private struct State: ~Copyable {
    var sha256 = SHA256Digester()
    var table = ArchiveTable()
    var methods: [MethodKey: (bytes: Int, storedBytes: Int)] = [:]
  }

  private final class SharedState: Sendable { let lock = Mutex(State()) }

  private struct MethodKey: Hashable {
    let elementType: ElementType?
    let method: ArchiveMethod
  }

  /// A piece in the file that differs from what would be written.
  private struct Mismatch: Error {}

  private struct EncodedBatch: Sendable {
    let original: [UInt8]
    let bytes: [UInt8]
    let frames: [ArchiveFrame]
  }

  /// A batch that an interrupted run has appended.
  fileprivate struct Appended: Sendable {
    let batch: Batch
    let frames: [Range<Int>]
  }

  /// Coders that are reused from batch to batch.
  private final class Coders {
    let encoder = PieceEncoder()
    let decoder = PieceDecoder()
  }

  /// Archives the file as `name` in `root`, synced.
  ///
  /// The output of an interrupted run is decoded, compared with the source, and kept as far as it matches.
  ///
  /// - Parameters:
  ///   - name: The name of the file while it is written.
  ///   - path: The original's path.
  /// - Returns: Its record for the archive's manifest.
  package func run(
    into name: String, in root: HeldDirectory, path: String
  ) async throws -> ArchiveManifest.File {
    let exists = try root.entry(name) != nil
    let output =
      try exists ? AppendFile(name, in: root) : AppendFile(creating: name, in: root, bytes: [])
    let state = SharedState()
    if exists { try await keep(InputFile(name, in: root), state) }
    try output.truncate(to: state.lock.withLock { $0.table.byteCount })
    try await append(to: output, state)
    let record = try state.lock.withLock { state throws(CheckpointError) in
      try output.append(state.table.closing)
      return ArchiveManifest.File(
        path: path, bytes: source.byteCount, sha256: "\(state.sha256.finalize())",
        stored: path + ArchiveManifest.suffix,
        storedBytes: state.table.byteCount + state.table.closing.count, methods: Self.summary(state.methods))
    }
    try output.synchronize()
    let written = try ArchiveSource(InputFile(name, in: root))
    guard written.byteCount == source.byteCount else {
      throw CheckpointError(.inputOutput, "does not read as it was written", path: output.path)
    }
    return record
  }

  private static func summary(
    _ methods: [MethodKey: (bytes: Int, storedBytes: Int)]
  ) -> [ArchiveManifest.MethodTotal] {
    methods.map { key, sums in
      ArchiveManifest.MethodTotal(
        elementType: key.elementType?.rawValue, method: key.method.name, bytes: sums.bytes,
        storedBytes: sums.storedBytes)
    }.sorted { ($1.bytes, $0.elementType ?? "", $0.method) < ($0.bytes, $1.elementType ?? "", $1.method) }
  }

  /// Records a batch that is in the file.
  private func note(
    _ batch: Batch, _ frames: [ArchiveFrame], original: [UInt8], _ state: SharedState
  ) throws(CheckpointError) {
    try state.lock.withLock { state throws(CheckpointError) in
      state.sha256.update(original)
      for (piece, frame) in zip(batch.pieces, frames) {
        let planned = sections[piece.section]
        try state.table.append(frame, planned.method.transform)
        let key = MethodKey(elementType: planned.section.elementType, method: planned.method)
        state.methods[key, default: (0, 0)].bytes += frame.originalByteCount
        state.methods[key, default: (0, 0)].storedBytes += frame.byteCount
      }
    }
    source.discardCached(batch.range)
    monitor.advance(batch.range.count)
  }
}

// MARK: - Pieces

extension FileArchiver {
  /// Encodes the missing pieces in parallel and appends them in order.
  private func append(to output: AppendFile, _ state: SharedState) async throws {
    let start = state.lock.withLock { $0.table.originalByteCount }
    try await work.run(Batches(sections, from: start), scratch: { Coders() }) { batch, coders in
      let original = try source.readBytes(batch.range)
      var (bytes, frames): ([UInt8], [ArchiveFrame]) = ([], [])
      bytes.reserveCapacity(original.count)
      for piece in batch.pieces {
        frames.append(
          try unsafe coders.encoder.encode(
            original.span.bytes.extracting(batch.place(of: piece)), by: sections[piece.section].method,
            appendingTo: &bytes))
      }
      return EncodedBatch(original: original, bytes: bytes, frames: frames)
    } takeIn: { batch, made, _ in
      try output.append(made.bytes)
      try note(batch, made.frames, original: made.original, state)
    }
  }

  /// Keeps what an interrupted run appended, as far as it matches what would be written.
  private func keep(_ output: InputFile, _ state: SharedState) async throws {
    do {
      try await work.run(AppendedBatches(sections, output), scratch: { Coders() }) { unit, coders in
        let original = try source.readBytes(unit.batch.range)
        let start = unit.frames[0].lowerBound
        let bytes = try output.readBytes(start..<unit.frames[unit.frames.count - 1].upperBound)
        return EncodedBatch(
          original: original, bytes: [],
          frames: try zip(unit.batch.pieces, unit.frames).map { piece, frame in
            let place = frame.lowerBound - start..<frame.upperBound - start
            let wanted = Array(original[unit.batch.place(of: piece)])
            var found = [UInt8](repeating: 0, count: wanted.count)
            do {
              var span = found.mutableSpan
              var target = unsafe span.mutableBytes
              try unsafe coders.decoder.decode(
                bytes.span.bytes.extracting(place), sections[piece.section].method.transform, checksum: nil,
                isOurs: true, into: &target)
            } catch { throw Mismatch() }
            guard found == wanted else { throw Mismatch() }
            // A frame ends with the checksum of its content, which has just been compared.
            let checksum = bytes[place].suffix(4).reversed().reduce(0 as UInt32) { $0 << 8 | UInt32($1) }
            return ArchiveFrame(
              byteCount: frame.count, originalByteCount: piece.range.count, checksum: checksum)
          })
      } takeIn: { unit, made, _ in
        try note(unit.batch, made.frames, original: made.original, state)
      }
    } catch is Mismatch {
      // It is rewritten from there on.
    }
  }
}

/// The batches whose frames an unfinished file holds.
private struct AppendedBatches: Sequence, IteratorProtocol {
  private let sections: [PlannedSection]
  private var batches: Batches
  private var walker: FrameWalker
  private var isAtEnd = false

  init(_ sections: [PlannedSection], _ output: InputFile) {
    self.sections = sections
    batches = Batches(sections, from: 0)
    walker = FrameWalker(output)
  }

  mutating func next() -> FileArchiver.Appended? {
    guard !isAtEnd, var batch = batches.next() else { return nil }
    var frames: [Range<Int>] = []
    for piece in batch.pieces {
      // An incomplete frame at the end was still being written.
      guard let frame = try? walker.next(), !frame.isSkippable,
        frame.contentByteCount == UInt64(piece.range.count)
      else {
        isAtEnd = true
        break
      }
      frames.append(frame.position)
    }
    batch.pieces.removeLast(batch.pieces.count - frames.count)
    return frames.isEmpty ? nil : FileArchiver.Appended(batch: batch, frames: frames)
  }
}
