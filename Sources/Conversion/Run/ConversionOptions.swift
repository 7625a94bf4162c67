/// The resources of a run. None of them changes a byte of the output.
public struct ConversionOptions: Sendable {
  /// The most units to process at the same time.
  public var threads: Int
  /// The memory for buffers, in bytes.
  public var memory: Int
  /// Whether a finished or unfinished output in the way may be replaced.
  public var overwrite: Bool
  /// Whether to resume an unfinished output instead of refusing it.
  public var resume: Bool
  /// After how many output bytes to sync them and write the journal: the most that a crash can cost.
  public var syncEvery: Int
  /// Whether the output becomes an archive: its weight files are compressed without loss as soon as they are complete.
  public var archive: Bool
  /// The digests that the source's files should have.
  public var expectedDigests: ExpectedDigests?

  /// The least memory that keeps every stage busy.
  public static let minimumMemory = 128 << 20

  /// The same when making an archive.
  public static let minimumArchivingMemory = 192 << 20

  /// Describes a run.
  public init(
    threads: Int, memory: Int = 1 << 30, overwrite: Bool = false,
    resume: Bool = false, syncEvery: Int = 1 << 30, archive: Bool = false,
    expectedDigests: ExpectedDigests? = nil
  ) {
    self.threads = threads
    self.memory = memory
    self.overwrite = overwrite
    self.resume = resume
    self.syncEvery = syncEvery
    self.archive = archive
    self.expectedDigests = expectedDigests
  }
}
