internal import Dispatch

/// Where a task that may block runs: one thread at a time, outside the cooperative pool.
///
/// A serial queue without a target gets a thread whenever it has work, however many others are blocked on a disk; a
/// concurrent queue gets no more threads than there are processors until it is found to be blocked.
final class WorkerThread: TaskExecutor {
  private let queue = DispatchQueue(label: "ParallelWork")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
