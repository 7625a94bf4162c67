internal import CFileShims
internal import Synchronization

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Writes whole blocks of a file past the page cache.
///
/// Copying output into the page cache and writing it back costs more CPU time than most conversions, and evicts
/// what others read. Reads of the same file, and its syncing, go through its other descriptor and see what was
/// written here: the kernel drops a block from the cache before it is written.
///
/// `Sendable`: the descriptor is immutable, and `pwrite` keeps no position.
final class DirectWriter: Sendable {
  /// Smaller files go through the cache, where the next reader finds them.
  static let largeFile = 1 << 30
  /// Shorter ranges are not worth a wait for the device.
  private static let largeRange = 1 << 18
  /// The block size of file systems; writing part of a block would read it first.
  private static let block = 4_096
  /// Bytes at addresses that the device cannot use are copied here first. One buffer for each writing thread.
  private static let copies = BufferPool(keep: 16)
  private static let copyBytes = 1 << 20

  private let descriptor: CInt
  private let block: Int
  private let memory: Int
  private let isRefused = Atomic<Bool>(false)

  /// - Returns: `nil` where the file system does not offer it.
  init?(_ file: CInt) {
    var memory: UInt32 = 1
    var offset: UInt32 = 1
    let opened = unsafe cfs_open_direct(file, &memory, &offset)
    guard opened >= 0 else { return nil }
    let block = max(Self.block, Int(offset))
    // Copies are in whole pages and of whole blocks.
    guard Self.copyBytes % block == 0, memory > 0, Self.block % Int(memory) == 0 else {
      close(opened)
      return nil
    }
    descriptor = opened
    self.block = block
    self.memory = Int(memory)
  }

  deinit { close(descriptor) }

  /// Writes the whole blocks of a range, as many as succeed.
  ///
  /// - Returns: Which bytes of `source` were written. Fewer is not a loss: the caller writes the rest through the
  ///   page cache, and gets any device error there.
  func write(_ source: UnsafeRawBufferPointer, at offset: Int) -> Range<Int> {
    let start = (block - offset % block) % block
    let end = source.count - (offset + source.count) % block
    guard end - start >= Self.largeRange, !isRefused.load(ordering: .relaxed) else { return 0..<0 }
    let base = unsafe source.baseAddress.unsafelyUnwrapped + start
    let done =
      if Int(bitPattern: base) % memory == 0 {
        unsafe write(base, count: end - start, at: offset + start)
      } else {
        unsafe writeCopies(of: base, count: end - start, at: offset + start)
      }
    return start..<(start + done)
  }

  private func writeCopies(of base: UnsafeRawPointer, count: Int, at offset: Int) -> Int {
    let copy = Self.copies.take(Self.copyBytes)
    var done = 0
    while done < count {
      let some = min(Self.copyBytes, count - done)
      copy.fill { span in
        unsafe span.withUnsafeMutableBytes {
          unsafe $0.copyMemory(from: UnsafeRawBufferPointer(start: base + done, count: some))
        }
      }
      let written = unsafe copy.bytes.withUnsafeBytes {
        unsafe write($0.baseAddress.unsafelyUnwrapped, count: some, at: offset + done)
      }
      done += written
      guard written == some else { break }
    }
    return done
  }

  /// Writes whole blocks from aligned memory; returns how many bytes of them.
  private func write(_ base: UnsafeRawPointer, count: Int, at offset: Int) -> Int {
    var done = 0
    while done < count {
      let written = unsafe pwrite(descriptor, base + done, min(count - done, 1 << 30), off_t(offset + done))
      if written < 0, errno == EINTR { continue }
      guard written > 0 else {
        isRefused.store(true, ordering: .relaxed)
        break
      }
      done += written / block * block
      // A partly written block is written again by the caller.
      guard written % block == 0 else { break }
    }
    return done
  }
}
