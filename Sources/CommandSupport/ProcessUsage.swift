internal import CFileShims
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// What this process has used so far, as reported by the system.
public enum ProcessUsage {
  /// Peak resident memory.
  public static var peakMemoryBytes: Int {
    #if canImport(Glibc)
    // On Linux `ru_maxrss` survives `execve`: a process started by a large one counts its parent's memory as its own
    // (`exec_mmap` in fs/exec.c carries it over). The high-water mark of the address space starts afresh.
    if let bytes = highWaterMark() { return bytes }
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
  /// `VmHWM` of `/proc/self/status`, see proc_pid_status(5); `nil` where there is none.
  private static func highWaterMark() -> Int? {
    let descriptor = unsafe open("/proc/self/status", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 8192)
    let count = unsafe read(descriptor, &bytes, bytes.count)
    guard count > 0 else { return nil }
    for line in String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: "\n")
    where line.hasPrefix("VmHWM:") {
      return line.split { $0 == " " || $0 == "\t" }.dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
    }
    return nil
  }
  #endif
}

// MARK: - A limit of address space

extension ProcessUsage {
  /// What the system's libraries and each thread with its stack take: the runtime waits for ever for threads that
  /// cannot be created, and a process that runs out of memory crashes wherever it is.
  private static let (base, perThread) = (48 << 20, 16 << 20)

  /// How much of `wanted` the address space (`ulimit -v`) has room for, besides what that many threads take.
  public static func available(of wanted: Int, threads: Int) -> Int {
    min(wanted, max(0, Int(clamping: cfs_address_space_left()) - base - perThread * threads))
  }

  /// Checks that there is enough address space for this many threads.
  ///
  /// - Throws: `.inputOutput`.
  public static func requireAddressSpace(threads: Int) throws(CheckpointError) {
    let left = Int(clamping: cfs_address_space_left())
    let (needed, overflow) = perThread.multipliedReportingOverflow(by: threads)
    guard overflow || left < base + needed else { return }
    throw CheckpointError(
      .inputOutput,
      "\(ByteSize(bytes: base + needed).binary) of address space are needed for \(threads) threads, and "
        + "\(ByteSize(bytes: left).binary) are left",
      remedy: "raise the limit (ulimit -v), or give fewer --threads")
  }
}
