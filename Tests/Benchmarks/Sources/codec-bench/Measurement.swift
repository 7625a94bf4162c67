#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Seconds of processor time that this thread has used: on a busy machine, wall-clock time measures the neighbours.
func threadSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

/// Something to be timed, on a stated amount of work.
struct Variant {
  var name: String
  /// Does the work once.
  var run: () throws -> Void
}

/// Runs all variants in turn, again and again, and gives the median time of each: drifts of the clock frequency meet
/// all of them alike.
///
/// - Parameter seconds: How long to go on; every variant runs at least three times.
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
