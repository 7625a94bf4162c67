internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// The outcome of a share.
public struct ShareOutcome: Sendable {
  /// The share.
  public let share: ConversionShare
  /// The source files that it read.
  public let files: [String]
  /// Their size.
  public let bytes: Int
  /// The number of its steps.
  public let units: Int
  /// The number of steps that an earlier run had finished and that were found intact.
  public let reusedUnits: Int
  /// Whether nothing was left to do.
  public let wasComplete: Bool
  /// The shares that are not done yet; none if the output can be sealed, or is sealed.
  public let left: [Int]
  /// Whether the whole output is complete.
  public let isSealed: Bool
  /// Where the time went.
  public let usage: StageUsage
}

extension Conversion {
  /// The bytes that a share reads.
  public func byteCount(of share: ConversionShare) -> Int {
    share.sourceFiles(of: planned.plan.source).reduce(0) { $0 + planned.plan.source.files[$1].bytes }
  }

  /// Converts one share into the directory `output`, which the first share creates. Several may run at the same time,
  /// on several machines sharing a file system.
  ///
  /// - Parameters:
  ///   - share: Which source files to convert.
  ///   - output: The directory that all shares write to.
  ///   - progress: Called from any thread after each step.
  /// - Throws: As ``run(into:progress:warn:)``, as far as it concerns the share.
  public func run(
    _ share: ConversionShare, into output: String,
    progress: @escaping @Sendable (ConversionProgress) -> Void = { _ in }
  ) async throws -> ShareOutcome {
    let (plan, meters, tally) = (planned.plan, StageMeters(), UnitTally())
    try options.expectedDigests?.check(plan.source)
    FileSystem.raiseOpenFileLimit()
    let own = share.sourceFiles(of: plan.source)
    func outcome(wasComplete: Bool, isSealed: Bool = false) throws -> ShareOutcome {
      ShareOutcome(
        share: share, files: own.sorted().map { plan.source.files[$0].path }, bytes: byteCount(of: share),
        units: tally.total, reusedUnits: tally.reused, wasComplete: wasComplete,
        left: try isSealed ? [] : OutputOpening.sharesLeft(besides: share, in: output), isSealed: isSealed,
        usage: meters.usage)
    }
    let opened: OutputDirectory.Opened
    switch try opening(meters).join(output, as: share) {
    case .complete: return try outcome(wasComplete: true, isSealed: true)
    case .done: return try outcome(wasComplete: true)
    case .writing(let target): opened = target
    }
    do {
      let journal = Journal(
        opened.journal, finished: opened.finished, outputs: opened.outputs, batchBytes: options.syncEvery,
        meter: meters.sync)
      let pipeline = try pipeline(
        ConversionPipeline.Scope(files: own), opened.outputs, journal, nil, meters, tally, progress)
      _ = try await journal.keeping { try await pipeline.run() }
      try confirmSource { _ in }
      try journal.finishShare()
      return try outcome(wasComplete: false)
    } catch let error as CheckpointError {
      throw error.resumable
    }
  }

  /// Completes an output all of whose shares are done: what they wrote is read back and compared with their journals,
  /// to compute the digests that no single share could. The result is the same as from one run, byte for byte.
  ///
  /// - Throws: `.unfinished` naming the shares that are not done; `.digestMismatch` with the tensor if the output does not
  ///   hold what a share wrote; otherwise as ``run(into:progress:warn:)``.
  public func seal(
    _ output: String, progress: @escaping @Sendable (ConversionProgress) -> Void = { _ in }
  ) async throws -> ConversionOutcome {
    let (meters, tally) = (StageMeters(), UnitTally())
    FileSystem.raiseOpenFileLimit()
    let (complete, sealing) = try opening(meters).seal(output)
    if let complete { return try await finished(complete, in: output, progress) }
    guard let sealing else { preconditionFailure("neither complete nor ready to be sealed") }
    let (plan, opened) = (planned.plan, sealing.opened)
    for (file, digests) in sealing.sources {
      guard plan.source.files.indices.contains(file) else { continue }
      let name = plan.source.files[file].path
      try options.expectedDigests?.check(name, digests.sha256, path: checkpoint.store.path(of: name))
    }
    do {
      let journal = Journal(
        opened.journal, finished: opened.finished, outputs: opened.outputs, batchBytes: options.syncEvery,
        meter: meters.sync)
      let archive = archive(sealing.directory, opened, journal, progress)
      let pipeline = try pipeline(
        ConversionPipeline.Scope(settled: sealing.sources), opened.outputs, journal, archive, meters, tally,
        progress)
      let report = try await journal.keeping { try await pipeline.run() }
      return try finish(sealing.directory, opened, report, archive, tally, meters)
    } catch let error as CheckpointError {
      throw error.resumable
    }
  }
}
