internal import ByteStreams
internal import ParallelWork
internal import ShardPlanning
internal import Synchronization
internal import TensorFormats

/// Takes the units of all source files through the stages, several files at a time.
struct UnitStreams: Sendable {
  private let pipeline: ConversionPipeline
  private let reader: UnitReader
  private let maker: UnitMaker
  private let maxima: MatrixMaxima
  private let memory: Permits
  private let fetching: BlockingCalls
  private let making: Permits
  private let storing: BlockingCalls

  private var context: UnitContext { pipeline.context }

  init(_ pipeline: ConversionPipeline) {
    self.pipeline = pipeline
    let options = pipeline.options
    reader = UnitReader(context: pipeline.context)
    maker = UnitMaker(context: pipeline.context)
    maxima = MatrixMaxima(pipeline.context.work.scaleGroups)
    memory = Permits(options.memory)
    fetching = BlockingCalls("step3-convert.fetch", width: options.fetches)
    making = Permits(options.threads)
    storing = BlockingCalls("step3-convert.store", width: options.stores)
  }

  /// - Throws: The first error of any unit.
  func run() async throws {
    let streams = pipeline.scope.streams(of: context.work)
    var order = StreamOrder(streams, width: pipeline.options.threads)
    try await withThrowingTaskGroup(of: Int.self) { group in
      func begin() {
        while let next = order.next() {
          group.addTask {
            try await run(streams[next])
            return next
          }
        }
      }
      begin()
      while let finished = try await group.next() {
        order.finish(finished)
        begin()
      }
    }
  }

  /// Takes one file through.
  private func run(_ stream: SourceStream) async throws {
    let isSettled = pipeline.scope.settled[stream.file] != nil
    let handOver = HandOver { unit in pipeline.handOver(unit) }
    try await withThrowingDiscardingTaskGroup { group in
      var number = 0
      for segment in stream.segments {
        var index = 0
        while index < segment.unitCount {
          let unit = segment.unit(index, of: context.work)
          let window = isSettled ? nil : window(of: unit, in: segment, at: index)
          let batch = window ?? [unit]
          let measured = window == nil ? nil : segment.range
          let footprint = batch.reduce(0) { $0 + $1.footprint }
          // Before taking memory: whoever waits for disk space must not hold what others need.
          try await pipeline.archive?.room()
          try await memory.take(footprint)
          let held = HeldPermits(memory, footprint)
          if let measured, let key = unit.maximum {
            let others = maxima.scans(key, without: measured)
            group.addTask { try await measure(others, of: key) }
          }
          for unit in batch {
            let place = number
            number += 1
            group.addTask {
              let processed =
                isSettled ? try await readBack(unit) : try await process(unit, measured: measured)
              handOver.put(HeldUnit(unit: processed, permits: held), at: place)
              // The progress callback may have cancelled the task.
              try Task.checkCancellation()
            }
          }
          index += batch.count
        }
      }
    }
  }

  /// All units of the matrix that starts with this unit, if its largest magnitude is needed, nobody is computing it
  /// yet, and they all fit into memory at once: they are then measured before they are made.
  private func window(of unit: WorkUnit, in segment: WorkSegment, at index: Int) -> [WorkUnit]? {
    guard let key = unit.maximum, unit.rowsInMatrix.lowerBound == 0,
      let count = segment.view?.confinedUnitsPerMatrix, maxima.member(key, at: segment.range) != nil
    else { return nil }
    let units = (index..<index + count).map { segment.unit($0, of: context.work) }
    // Half of it, so that units being hashed do not keep the next matrix from being fetched.
    guard units.reduce(0, { $0 + $1.footprint }) <= pipeline.options.memory / 2 else { return nil }
    let others = maxima.scans(key, without: segment.range).count
    return maxima.claim(key, pieces: units.count + others) ? units : nil
  }
}

// MARK: - One unit

extension UnitStreams {
  /// - Parameter range: The tensor's range, if the unit's rows contribute to the maximum.
  private func process(_ unit: WorkUnit, measured range: FileRange?) async throws -> ProcessedUnit {
    try Task.checkCancellation()
    let fetched = try await fetching.run { try reader.read(unit) }
    if let range { try await measure(fetched, in: range) }
    if let done = try await making.with({
      try metered { () throws(CheckpointError) in try maker.recheck(fetched) }
    }) {
      pipeline.tally.count(isReused: true)
      return done
    }
    let maximum = try await maximum(for: unit)
    let processed = try await making.with {
      try metered { () throws(CheckpointError) in try maker.make(fetched, maximum: maximum) }
    }
    try await storing.run { try store(processed) }
    pipeline.tally.count(isReused: false)
    return processed
  }

  /// Takes over what a share or an earlier run has written.
  private func readBack(_ unit: WorkUnit) async throws -> ProcessedUnit {
    try Task.checkCancellation()
    let written = try await fetching.run { try reader.readWritten(unit) }
    let processed = try await making.with {
      try metered { () throws(CheckpointError) in try maker.readBack(unit, written) }
    }
    pipeline.tally.count(isReused: true)
    return processed
  }

  private func metered<Value>(_ work: () throws(CheckpointError) -> Value) throws(CheckpointError) -> Value {
    try pipeline.meters.make.measure(work)
  }

  /// Writes a unit to its final place, and records that in the journal.
  private func store(_ unit: ProcessedUnit) throws(CheckpointError) {
    for result in unit.results {
      let output = context.outputs[context.work.targets[result.delivery.target].file]
      try result.withBytes(unit.content) { (bytes) throws(CheckpointError) in
        try output.write(bytes, at: result.delivery.offset)
      }
    }
    guard let record = unit.record, let journal = context.journal else { return }
    journal.add(
      record, of: unit.unit.number,
      files: unit.results.map { context.work.targets[$0.delivery.target].file },
      bytes: unit.results.reduce(0) { $0 + $1.delivery.byteCount })
  }
}

// MARK: - The largest magnitudes

extension UnitStreams {
  private func maximum(for unit: WorkUnit) async throws -> Float? {
    guard let key = unit.maximum else { return nil }
    let scans = maxima.scans(key)
    if maxima.claim(key, pieces: scans.count) { try await measure(scans, of: key) }
    return try await maxima.value(key)
  }

  /// Measures rows that were read to be encoded.
  private func measure(_ fetched: FetchedUnit, in range: FileRange) async throws {
    let unit = fetched.unit
    guard let key = unit.maximum, let member = maxima.member(key, at: range) else { return }
    let rows = FetchedRows(
      codes: fetched.source, scales: fetched.scales, matrixScale: fetched.matrixScale)
    try await add(rows, unit.rowsInMatrix, member, key)
  }

  /// Reads pieces of matrices and measures them.
  private func measure(_ scans: [MatrixMaxima.Scan], of key: MatrixMaxima.Key) async throws {
    // As many as can be read at a time; more would only wait, holding buffers.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, scan) in scans.enumerated() {
        if index >= pipeline.options.fetches { try await group.next() }
        group.addTask {
          let rows = try await fetching.run { try reader.read(scan) }
          try await add(rows, scan.rows, scan.member, key)
        }
      }
      try await group.waitForAll()
    }
  }

  private func add(
    _ rows: FetchedRows, _ range: Range<Int>, _ member: ScaleGroup.Member, _ key: MatrixMaxima.Key
  ) async throws {
    let largest = try await making.with {
      try metered { () throws(CheckpointError) in
        try member.largestMagnitude(rows, rows: range, matrix: key.matrix, context)
      }
    }
    maxima.add(largest, to: key)
  }
}

// MARK: - Handing over

/// A unit on its way to the lanes, with the permits for its memory.
struct HeldUnit: Sendable {
  let unit: ProcessedUnit
  let permits: HeldPermits
}

/// Passes units on in order, whatever order they arrive in.
private final class HandOver: Sendable {
  private struct State {
    var next = 0
    var waiting: [Int: HeldUnit] = [:]
  }

  private let state = Mutex(State())
  private let pass: @Sendable (HeldUnit) -> Void

  init(_ pass: @escaping @Sendable (HeldUnit) -> Void) { self.pass = pass }

  func put(_ unit: HeldUnit, at place: Int) {
    state.withLock { state in
      state.waiting[place] = unit
      while let next = state.waiting.removeValue(forKey: state.next) {
        // Inside the lock, so that nobody overtakes.
        pass(next)
        state.next += 1
      }
    }
  }
}

extension ConversionPipeline {
  fileprivate func handOver(_ held: HeldUnit) {
    let unit = held.unit
    sources[unit.unit.source.file]?.input.put(held)
    for result in unit.results where !outputs.isEmpty {
      outputs[context.work.targets[result.delivery.target].file].input.put(
        OutputLane.Piece(
          result: result, content: unit.content, unit: unit.unit.number, permits: held.permits))
    }
    progress(unit.unit)
  }
}
