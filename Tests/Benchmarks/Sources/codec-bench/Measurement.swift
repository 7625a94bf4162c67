#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Processor time used by this thread, in seconds: on a busy machine, wall-clock time measures other processes as well.
func threadSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

/// A variant to be timed, on a stated amount of work.
struct Variant {
  var name: String
  /// Does the work once.
  var run: () throws -> Void
}

/// Runs all variants in rotation and returns the median time of each: drifts of the clock frequency affect
/// all of them alike.
///
/// - Parameter seconds: How long to run; every variant runs at least three times.
func medianSeconds(_ variants: [Variant], seconds: Double) throws -> [String: Double] {
  var times: [String: [Double]] = [:]
  for variant in variants { try variant.run() }
  let start = threadSeconds()
  var rounds = 0
  while rounds < 3 || threadSeconds() - start < seconds {
    for variant in variants {
      let before = threadSeconds()
      try variant.run()
      times[variant.name, default: []].append(threadSeconds() - before)
    }
    rounds += 1
  }
  return times.mapValues { $0.sorted()[$0.count / 2] }
}
