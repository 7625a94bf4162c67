#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// What this process has used so far, by the system's own account.
public enum ProcessUsage {
  /// The most memory that was resident at a time.
  public static var peakMemoryBytes: Int {
    var usage = rusage()
    #if canImport(Glibc)
    // Kilobytes on Linux, bytes on macOS.
    guard unsafe getrusage(RUSAGE_SELF.rawValue, &usage) == 0 else { return 0 }
    return usage.ru_maxrss * 1024
    #else
    guard unsafe getrusage(RUSAGE_SELF, &usage) == 0 else { return 0 }
    return usage.ru_maxrss
    #endif
  }
}
