internal import AsyncAlgorithms
internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// Runs a work list: units are read, recoded and written side by side; their bytes are hashed in order.
///
///     units ──► processors (one task each, `width` at a time) ──► in order ──► source lane    digests of the source
///                read, recode, write to the final offset              └─────► output lanes   digests of file, tensor
///
/// The journal notes a unit when it has been written. Every arrow holds at most a few units: a processor starts only when an older unit has been handed to its lanes, and
/// a lane takes the next piece only when it is done with the last. Peak memory is `width` units and what the lanes
/// hold, whatever the size of the model.
struct ConversionPipeline: Sendable {
  let runner: UnitRunner
  let sources: [SourceLane]
  let outputs: [OutputLane]
  /// How many units may be recoded at the same time.
  let threads: Int
  /// How many units may be under way, those included that wait for their turn to be hashed.
  let width: Int
  /// Called when a source file has been read to its end.
  let sourceRead: @Sendable (_ file: Int, _ digests: FileDigests) throws -> Void
  /// Called after each unit has been handed to its lanes.
  let progress: @Sendable (WorkUnit) -> Void

  /// What all files came to.
  struct Report: Sendable {
    let sources: [LaneReport]
    let outputs: [LaneReport]
  }

  /// - Throws: The first error of any unit or lane; everything else is then cancelled.
  func run() async throws -> Report {
    try await withThrowingTaskGroup(of: Outcome.self) { group in
      group.addTask {
        try await feed()
        return .fed
      }
      for (index, lane) in sources.enumerated() { group.addTask { .source(index, try await lane.run()) } }
      for (index, lane) in outputs.enumerated() { group.addTask { .output(index, try await lane.run()) } }
      var sourceReports = [LaneReport?](repeating: nil, count: sources.count)
      var outputReports = [LaneReport?](repeating: nil, count: outputs.count)
      for try await outcome in group {
        switch outcome {
        case .fed:
          sources.forEach { $0.units.finish() }
          outputs.forEach { $0.pieces.finish() }
        case .source(let index, let report):
          try sourceRead(index, report.digests)
          sourceReports[index] = report
        case .output(let index, let report): outputReports[index] = report
        }
      }
      return Report(sources: sourceReports.compactMap { $0 }, outputs: outputReports.compactMap { $0 })
    }
  }

  private enum Outcome: Sendable {
    case fed
    case source(Int, LaneReport)
    case output(Int, LaneReport)
  }
}

// MARK: - Feeding

extension ConversionPipeline {
  /// Processes all units, `width` at a time, and hands them to the lanes in order.
  private func feed() async throws {
    try await withThrowingTaskGroup(of: (number: Int, unit: ProcessedUnit).self) { group in
      var units = runner.processor.work.units.makeIterator()
      var started = 0
      var running = 0
      var handedOver = 0
      var waiting: [Int: ProcessedUnit] = [:]
      while true {
        while running < threads, started - handedOver < width, let unit = units.next() {
          let number = started
          runner.processor.checkpoint.files[unit.file].source.prefetch(unit.byteRange)
          group.addTask {
            try Task.checkCancellation()
            return (number, try runner.run(unit, number: number))
          }
          started += 1
          running += 1
        }
        if let unit = waiting.removeValue(forKey: handedOver) {
          try await handOver(unit)
          handedOver += 1
        } else if let (number, unit) = try await group.next() {
          waiting[number] = unit
          running -= 1
        } else {
          return
        }
      }
    }
  }

  private func handOver(_ unit: ProcessedUnit) async throws {
    await sources[unit.unit.file].units.send(unit)
    for result in unit.results {
      let lane = runner.processor.work.targets[result.delivery.target].file
      await outputs[lane].pieces.send(OutputLane.Piece(result: result, content: unit.content))
    }
    try Task.checkCancellation()
    progress(unit.unit)
  }
}
