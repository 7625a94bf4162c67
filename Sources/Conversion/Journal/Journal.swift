internal import Archives
internal import ByteStreams
internal import Dispatch
internal import Quantization
internal import ShardPlanning
internal import Synchronization
internal import TensorFormats

/// Records which units are finished, so that an interrupted conversion can be resumed.
///
/// Records are collected and written in batches: first every file in the batch is synced, then the batch is
/// appended, then the journal is synced. A unit that the journal calls finished is therefore on the device, even
/// after a power cut. A crash costs at most one batch (`batchBytes` of output, or ten seconds).
final class Journal: Sendable {
  /// The units that an earlier run finished.
  let finished: FinishedUnits

  private let file: AppendFile
  private let outputs: [OutputFile]
  private let batchBytes: Int
  private let meter: Meter
  private let state = Mutex(State())
  /// Syncing waits for the device, so it must not block a thread that could re-encode meanwhile.
  private let queue = DispatchQueue(label: "step3-convert.journal")

  private struct State {
    var records: [UInt8] = []
    /// Frames with the outcome of source files.
    var sources: [UInt8] = []
    var unsynced: Set<Int> = []
    var bytes = 0
    var lastFlush = ContinuousClock.now
  }

  /// - Parameters:
  ///   - file: The journal, open and ending in an intact frame.
  ///   - finished: What it holds.
  ///   - outputs: The files of the plan.
  ///   - batchBytes: After how many output bytes to write a batch.
  ///   - meter: Counts the time spent in syncing.
  init(_ file: AppendFile, finished: FinishedUnits, outputs: [OutputFile], batchBytes: Int, meter: Meter) {
    self.file = file
    self.finished = finished
    self.outputs = outputs
    self.batchBytes = batchBytes
    self.meter = meter
  }

  /// Records that a unit has been written.
  ///
  /// - Parameter files: The indices of the files it went to.
  func add(_ record: UnitRecord, of unit: Int, files: [Int], bytes: Int) {
    state.withLock { state in
      JournalFormat.append(record, of: unit, to: &state.records)
      state.unsynced.formUnion(files)
      state.bytes += bytes
    }
  }

  /// Records the outcome of a source file, all of whose units have been written.
  func add(_ digests: FileDigests, ofSource file: Int) {
    state.withLock { $0.sources += JournalFormat.frame(ofSource: file, digests) }
  }

  /// Records that an output file has been archived and synced, after everything recorded before.
  ///
  /// - Throws: As ``flush()``.
  func add(_ description: ArchiveManifest.File, ofArchived output: Int) async throws {
    try await queued {
      try self.flush()
      try self.file.append(JournalFormat.frame(ofArchived: output, description))
      try self.file.synchronize()
    }
  }

  /// Writes the last batch, and records that nothing is left to do.
  ///
  /// - Throws: As ``flush()``.
  func finishShare() throws(CheckpointError) {
    try flush()
    try file.append(JournalFormat.frame(.shareDone))
    try file.synchronize()
  }

  /// Writes a batch now.
  ///
  /// - Throws: `.inputOutput`; the batch is then lost, and its units count as unfinished.
  func flush() throws(CheckpointError) {
    let (records, sources, files) = state.withLock { state in
      defer { state = State() }
      return (state.records, state.sources, state.unsynced)
    }
    guard !records.isEmpty || !sources.isEmpty else { return }
    try meter.measure { () throws(CheckpointError) in
      for index in files.sorted() { try outputs[index].synchronize() }
      try file.append((records.isEmpty ? [] : JournalFormat.frame(.units, records)) + sources)
      try file.synchronize()
    }
  }

  private var isDue: Bool {
    state.withLock { state in
      guard !state.records.isEmpty else { return false }
      // Far below the largest frame, which cannot be reached before the next check.
      return state.bytes >= batchBytes || state.records.count > JournalFormat.largestPayload / 4
        || state.lastFlush.duration(to: .now) > .seconds(10)
    }
  }

  /// Runs `work` and writes batches meanwhile, and a last one when it ends, even by an error.
  ///
  /// - Throws: What `work` throws, or what ``flush()`` throws.
  func keeping<Result: Sendable>(_ work: @escaping @Sendable () async throws -> Result) async throws -> Result
  {
    do {
      let result = try await withThrowingTaskGroup(of: Result?.self) { group in
        group.addTask { try await work() }
        group.addTask {
          try await self.writeBatches()
          return nil
        }
        defer { group.cancelAll() }
        while let outcome = try await group.next() {
          if let result = outcome { return result }
        }
        throw CancellationError()
      }
      try flush()
      return result
    } catch {
      // The first error is the one to report.
      try? flush()
      throw error
    }
  }

  private func writeBatches() async throws {
    while !Task.isCancelled {
      do { try await Task.sleep(for: .milliseconds(50)) } catch { return }
      guard isDue else { continue }
      try await queued { try self.flush() }
    }
  }

  private func queued(_ work: @escaping @Sendable () throws -> Void) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      queue.async { continuation.resume(with: Swift.Result { try work() }) }
    }
  }
}
