internal import Dispatch

/// Where one task runs while it may block: a thread at a time that is not of the pool which all tasks share.
///
/// A serial queue without a target gets a thread whenever it has something to run, however many others are waiting for a
/// disk; a concurrent queue gets no more threads than there are processors, until it is seen to be stuck.
final class WorkerThread: TaskExecutor {
  private let queue = DispatchQueue(label: "ParallelWork")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
