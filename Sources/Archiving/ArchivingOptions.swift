internal import Archives
internal import ParallelWork

/// What archiving and restoring may use. None of it changes a byte of the output.
public struct ArchivingOptions: Sendable {
  /// How many threads compute at a time.
  public var threads: Int
  /// The memory for buffers, in bytes.
  public var memory: Int
  /// Whether to go on with an unfinished output instead of refusing it.
  public var resume: Bool

  /// The least memory: a few pieces of the work.
  public static let minimumMemory = 32 << 20

  /// Describes a run.
  public init(threads: Int, memory: Int = 1 << 30, resume: Bool = false) {
    self.threads = threads
    self.memory = memory
    self.resume = resume
  }

  var work: ParallelWork { FileArchiver.work(threads: threads, memory: memory) }
}
