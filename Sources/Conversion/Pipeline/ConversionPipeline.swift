internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import ShardPlanning
internal import Synchronization
internal import TensorFormats

/// Runs a work list: units are fetched, made and stored concurrently; their bytes are hashed in order.
///
///     streams ──► fetch ──► make ──► store ──► in the order of the stream ──► source lane    digests of the source
///      of units   threads   cores    threads                            └───► output lanes   digests of file, tensor
///                 that wait          that wait                                  └──► archive, once a file is whole
///
/// Each stage has its own width, so that a slow source does not block cores, and busy cores do not block reads.
/// Several source files are in progress at a time (``StreamOrder``), each with its own lane, because a digest takes
/// the bytes of a file one after the other. The journal records a unit when it has been stored.
///
/// A unit holds permits for its memory from before it is fetched until the last lane is done with it: this bounds
/// memory, whatever the size of the model.
struct ConversionPipeline: Sendable {
  let context: UnitContext
  let scope: Scope
  /// One for each source file that is read.
  let sources: [Int: SourceLane]
  /// One for each output file; none if only a share of the units is made, from which no file's digest can be computed.
  let outputs: [OutputLane]
  /// Where output files go when they are complete; `nil` if they are not archived.
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
    /// The source files, with their digests, all of whose units have been written and recorded: these are read back
    /// from the output instead of the source.
    var settled: [Int: FileDigests] = [:]

    var isShare: Bool { files != nil }

    /// Whether a source file is read.
    func reads(_ file: Int) -> Bool { settled[file] == nil && files?.contains(file) ?? true }

    /// The source files whose units are made or read back.
    func streams(of work: WorkList) -> [SourceStream] {
      work.streams.filter { files?.contains($0.file) ?? true }
    }

    /// What is known about the source beforehand.
    func sourceReports(of count: Int) -> [LaneReport?] {
      (0..<count).map { file in settled[file].map { LaneReport(digests: $0, tensors: []) } }
    }
  }

  /// How much may be in progress at a time.
  struct Options: Sendable {
    /// Units that are made: one for each core to use.
    var threads: Int
    /// Reads.
    var fetches: Int
    /// Writes.
    var stores: Int
    /// The memory of all units, in bytes.
    var memory: Int
  }

  /// The outcome of all files.
  struct Report: Sendable {
    /// By the number of the file in the source; `nil` for files that are not on disk.
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

  /// Output files identical to source files share their digests.
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
  /// Those among them that had already been done.
  var reused: Int { found.load(ordering: .relaxed) }

  /// Counts a unit.
  func count(isReused: Bool) {
    if isReused { found.add(1, ordering: .relaxed) } else { made.add(1, ordering: .relaxed) }
  }
}
