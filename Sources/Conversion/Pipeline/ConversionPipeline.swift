internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import ShardPlanning
internal import Synchronization
internal import TensorFormats

/// Runs a work list: units are fetched, made and stored side by side; their bytes are hashed in order.
///
///     streams ──► fetch ──► make ──► store ──► in the order of the stream ──► source lane    digests of the source
///      of units   threads   cores    threads                            └───► output lanes   digests of file, tensor
///                 that wait          that wait                                  └──► archive, once a file is whole
///
/// Each stage has a width of its own, so that a source with latency holds no core and a busy core no read. Several
/// source files are under way at a time (``StreamOrder``), each with its own lane, because a digest takes the bytes of
/// a file one after the other. The journal notes a unit when it has been stored.
///
/// A unit holds permits for its memory from before it is fetched until the last lane is done with it: that bounds the
/// memory, whatever the size of the model.
struct ConversionPipeline: Sendable {
  let context: UnitContext
  let scope: Scope
  /// One for each source file that is read.
  let sources: [Int: SourceLane]
  /// One for each output file; none where only a share of the units is made, of which no file's digest follows.
  let outputs: [OutputLane]
  /// Where output files go when they are whole; `nil` if they stay as they are.
  let archive: OutputArchive?
  let options: Options
  let meters: StageMeters
  let tally: UnitTally
  /// Called when a source file has been read to its end.
  let sourceRead: @Sendable (_ file: Int, _ digests: FileDigests) throws -> Void
  /// Called after each unit has been handed to its lanes.
  let progress: @Sendable (WorkUnit) -> Void

  /// Which units are made.
  struct Scope: Sendable {
    /// The source files whose units a share makes; `nil` for all.
    var files: Set<Int>?
    /// The source files, with their digests, all of whose units have been written and noted: these are read back, and
    /// the source is not read.
    var settled: [Int: FileDigests] = [:]

    var isShare: Bool { files != nil }

    /// Whether a source file is read.
    func reads(_ file: Int) -> Bool { settled[file] == nil && files?.contains(file) ?? true }

    /// The source files whose units are made or read back.
    func streams(of work: WorkList) -> [SourceStream] {
      work.streams.filter { files?.contains($0.file) ?? true }
    }

    /// What is known of the source beforehand.
    func sourceReports(of count: Int) -> [LaneReport?] {
      (0..<count).map { file in settled[file].map { LaneReport(digests: $0, tensors: []) } }
    }
  }

  /// How much may be under way at a time.
  struct Options: Sendable {
    /// Units that are made: one for each core that shall compute.
    var threads: Int
    /// Reads.
    var fetches: Int
    /// Writes.
    var stores: Int
    /// The memory of all units, in bytes.
    var memory: Int
  }

  /// What all files came to.
  struct Report: Sendable {
    /// By the number of the file in the source; `nil` for what is not on disk.
    let sources: [LaneReport?]
    let outputs: [LaneReport]
  }

  /// - Throws: The first error of any unit or lane; everything else is then cancelled.
  func run() async throws -> Report {
    let streams = UnitStreams(self)
    return try await withThrowingTaskGroup(of: Outcome.self) { group in
      group.addTask {
        try await streams.run()
        return .fed
      }
      for (file, lane) in sources { group.addTask { .source(file, try await lane.run()) } }
      for (index, lane) in outputs.enumerated() {
        group.addTask { .output(index, try await lane.run { try await archive?.put(index) }) }
      }
      if let archive {
        group.addTask {
          try await archive.run()
          return .archived
        }
      }
      var sourceReports = scope.sourceReports(of: context.checkpoint.files.count)
      var outputReports = [LaneReport?](repeating: nil, count: outputs.count)
      for try await outcome in group {
        switch outcome {
        case .fed:
          sources.values.forEach { $0.input.finish() }
          outputs.forEach { $0.input.finish() }
        case .source(let file, let report):
          try sourceRead(file, report.digests)
          sourceReports[file] = report
        case .output(let index, let report):
          outputReports[index] = report
          if outputReports.allSatisfy({ $0 != nil }) { archive?.finish() }
        case .archived: break
        }
      }
      return Report(sources: sourceReports, outputs: completed(outputReports, sourceReports))
    }
  }

  private enum Outcome: Sendable {
    case fed
    case source(Int, LaneReport)
    case output(Int, LaneReport)
    case archived
  }

  /// Output files that are source files have the digests of those.
  private func completed(_ reports: [LaneReport?], _ sources: [LaneReport?]) -> [LaneReport] {
    zip(outputs, reports).compactMap { lane, report in
      guard let twin = lane.twin, let digests = sources[twin]?.digests else { return report }
      return report.map { LaneReport(digests: digests, tensors: $0.tensors) }
    }
  }
}

/// Counts units. A class, because the tasks of a run share it.
final class UnitTally: Sendable {
  private let made = Atomic<Int>(0)
  private let found = Atomic<Int>(0)

  /// Units so far.
  var total: Int { made.load(ordering: .relaxed) + found.load(ordering: .relaxed) }
  /// Those among them that were done already.
  var reused: Int { found.load(ordering: .relaxed) }

  /// Counts a unit.
  func count(isReused: Bool) {
    if isReused { found.add(1, ordering: .relaxed) } else { made.add(1, ordering: .relaxed) }
  }
}
