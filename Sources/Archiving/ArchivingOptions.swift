internal import Archives
internal import ParallelWork

/// Resources for archiving and restoring. None of them affects the output's bytes.
public struct ArchivingOptions: Sendable {
  /// The number of compute threads.
  public var threads: Int
  /// The memory for buffers, in bytes.
  public var memory: Int
  /// Whether to resume an unfinished output instead of refusing it.
  public var resume: Bool

  /// The minimum memory: a few batches.
  public static let minimumMemory = 32 << 20

  /// Describes a run.
  public init(threads: Int, memory: Int = 1 << 30, resume: Bool = false) {
    self.threads = threads
    self.memory = memory
    self.resume = resume
  }

  var work: ParallelWork { FileArchiver.work(threads: threads, memory: memory) }
}
