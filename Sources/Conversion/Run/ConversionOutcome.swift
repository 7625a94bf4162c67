public import Archives
internal import ByteStreams

/// The outcome of a conversion.
public struct ConversionOutcome: Sendable {
  /// The manifest as written to the output. After a rehearsal, the digests of files are meaningless.
  public let manifest: Manifest
  /// The output as an archive; `nil` if it is not one.
  public let archive: ArchiveManifest?
  /// The number of steps of the conversion.
  public let units: Int
  /// The number of steps that an earlier run had finished and that were found intact.
  public let reusedUnits: Int
  /// Whether the output was complete before, so that nothing was done.
  public let wasComplete: Bool
  /// Where the time went.
  public let usage: StageUsage
}

/// The time that threads spent in each stage, in seconds, summed over all of them.
public struct StageUsage: Sendable {
  /// Reading the source.
  public var read = 0.0
  /// Decoding, encoding, measuring errors; digests of units for the journal.
  public var recode = 0.0
  /// Writing into files, which normally means into the page cache.
  public var write = 0.0
  /// Both digests of the source's files.
  public var hashSource = 0.0
  /// Both digests of the output's files, and those of tensors.
  public var hashOutput = 0.0
  /// Waiting for the device before the journal records units as finished.
  public var sync = 0.0
}

/// The clocks behind ``StageUsage``.
struct StageMeters: Sendable {
  let read = Meter()
  let make = Meter()
  let write = Meter()
  let hashSource = Meter()
  let hashOutput = Meter()
  let sync = Meter()

  var usage: StageUsage {
    StageUsage(
      read: read.seconds, recode: make.seconds, write: write.seconds, hashSource: hashSource.seconds,
      hashOutput: hashOutput.seconds,
      sync: sync.seconds)
  }
}
