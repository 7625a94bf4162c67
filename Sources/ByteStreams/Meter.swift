internal import Synchronization
public import TensorFormats

/// Adds up the time that threads spend in one kind of work.
public final class Meter: Sendable {
  private let nanoseconds = Atomic<Int64>(0)

  /// Starts at zero.
  public init() {}

  /// The time so far, over all threads.
  public var seconds: Double { Double(nanoseconds.load(ordering: .relaxed)) / 1e9 }

  /// Runs `work` and counts how long it took.
  public func measure<Failure: Error, Result: ~Copyable>(
    _ work: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let start = ContinuousClock.now
    defer {
      let elapsed = start.duration(to: .now).components
      nanoseconds.add(
        elapsed.seconds * 1_000_000_000 + elapsed.attoseconds / 1_000_000_000, ordering: .relaxed)
    }
    return try work()
  }
}

/// A source that measures the time spent reading it.
public struct MeteredSource: ByteSource {
  private let source: any ByteSource
  private let meter: Meter

  /// Serves what `source` serves.
  public init(_ source: any ByteSource, meter: Meter) {
    self.source = source
    self.meter = meter
  }

  public var path: String { source.path }
  public var byteCount: Int { source.byteCount }

  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    try meter.measure { () throws(CheckpointError) in try source.read(into: &buffer, at: offset) }
  }

  public func prefetch(_ range: Range<Int>) { source.prefetch(range) }
  public func discardCached(_ range: Range<Int>) { source.discardCached(range) }
  public var change: SourceChange? { get throws(CheckpointError) { try source.change } }
}
