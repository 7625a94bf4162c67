#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// What this process has used so far, by the system's own account.
public enum ProcessUsage {
  /// The most memory that was resident at a time.
  public static var peakMemoryBytes: Int {
    #if canImport(Glibc)
    // getrusage counts in what the process was before it became this program: a large parent's memory.
    if let kilobytes = highWaterMark { return kilobytes * 1024 }
    #endif
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

  #if canImport(Glibc)
  /// `VmHWM` of `/proc/self/status`, in kilobytes.
  private static var highWaterMark: Int? {
    guard let file = unsafe fopen("/proc/self/status", "r") else { return nil }
    defer { unsafe fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while unsafe fgets(&line, CInt(line.count), file) != nil {
      let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      guard text.hasPrefix("VmHWM:") else { continue }
      return text.split { !$0.isNumber }.first.flatMap { Int($0) }
    }
    return nil
  }
  #endif
}
