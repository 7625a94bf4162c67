internal import CFileShims
internal import Synchronization
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A file being written at positions known in advance.
///
/// `Sendable`: the descriptor is immutable, and `pwrite` keeps no position, so any thread may write any range.
public final class OutputFile: Sendable {
  /// Where the file is.
  public let path: String
  /// How long the file will be.
  public let byteCount: Int
  /// `nil` if everything is discarded, or has been written before.
  private let descriptor: CInt?
  /// The source of the bytes, if all of them have been written before.
  private let finished: (any ByteSource)?
  /// A direct writer to the same file, if it is large and its file system supports that.
  private let direct: DirectWriter?
  private let meter: Meter?
  /// The `errno` of a failed sync; 0 if none has failed.
  private let loss = Atomic<CInt>(0)

  /// Whether what is written is kept.
  public var isKept: Bool { descriptor != nil || finished != nil }

  /// Whether it stands for a file that has already been written completely.
  public var isFinished: Bool { finished != nil }

  /// Stands for a file of `byteCount` bytes that does not exist: what is written is discarded, for a dry run.
  public init(discarding path: String, byteCount: Int) {
    self.path = path
    self.byteCount = byteCount
    descriptor = nil
    finished = nil
    direct = nil
    meter = nil
  }

  /// Stands for a file that has been written completely and is kept in another form. Anything written again must match
  /// it.
  public init(finished source: any ByteSource) {
    path = source.path
    byteCount = source.byteCount
    descriptor = nil
    finished = source
    direct = nil
    meter = nil
  }

  /// Creates a file of `byteCount` bytes and reserves its space, so that a full disk is noticed now.
  ///
  /// Writes to a large file bypass the page cache if the file system allows it.
  ///
  /// - Parameters:
  ///   - path: The file.
  ///   - byteCount: Its length.
  ///   - reopening: Continue a file that an interrupted run left, instead of refusing it.
  /// - Throws: `.cannotCreate` if the file exists (or, reopening, does not, or is not a regular file with one name) or may
  ///   not be written, `.inputOutput` if there is no room for it.
  public convenience init(_ path: String, byteCount: Int, reopening: Bool = false) throws(CheckpointError) {
    try self.init(path, byteCount: byteCount, reopening: reopening, largeFrom: DirectWriter.largeFile)
  }

  /// As ``init(_:byteCount:reopening:)``, with another size from which a file counts as large.
  package convenience init(
    _ path: String, byteCount: Int, reopening: Bool = false, largeFrom: Int
  ) throws(CheckpointError) {
    let flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (reopening ? 0 : O_CREAT | O_EXCL)
    let descriptor = opened { unsafe open(path, flags, 0o644) }
    guard descriptor >= 0 else { throw creationError(errno, "cannot be created", path: path) }
    try self.init(descriptor, path: path, byteCount: byteCount, largeFrom: largeFrom, meter: nil)
  }

  /// Creates or continues a file below a directory held open. No path component may be a symbolic link.
  ///
  /// - Parameters:
  ///   - name: The path below `directory`.
  ///   - directory: The directory that the file is reached through.
  ///   - byteCount: Its length.
  ///   - reopening: Continue a file that an interrupted run left, instead of refusing it. It must be a regular file
  ///     without other names, so that nothing visible elsewhere is overwritten.
  ///   - reserving: Whether to reserve the space now: unnecessary for contents that are soon removed.
  ///   - meter: Counts the time spent in writing.
  /// - Throws: As ``init(_:byteCount:reopening:)``.
  public convenience init(
    _ name: String, in directory: HeldDirectory, byteCount: Int, reopening: Bool = false,
    reserving: Bool = true,
    meter: Meter? = nil
  ) throws(CheckpointError) {
    let descriptor = try directory.openDescriptor(
      name, O_RDWR | O_NONBLOCK | (reopening ? 0 : O_CREAT | O_EXCL), failing: "cannot be created")
    try self.init(
      descriptor, path: directory.path(of: name), byteCount: byteCount, reserving: reserving,
      largeFrom: DirectWriter.largeFile, meter: meter)
  }

  /// Takes over an open descriptor.
  private init(
    _ descriptor: CInt, path: String, byteCount: Int, reserving: Bool = true, largeFrom: Int, meter: Meter?
  ) throws(CheckpointError) {
    _ = try ownStatus(of: descriptor, path: path)
    let failure =
      reserving ? cfs_reserve(descriptor, Int64(byteCount)) : cfs_set_length(descriptor, Int64(byteCount))
    guard failure == 0 else {
      close(descriptor)
      throw CheckpointError(
        .inputOutput, "\(byteCount) bytes cannot be reserved: \(systemMessage(failure))", path: path,
        remedy: remedy(for: failure))
    }
    self.path = path
    self.byteCount = byteCount
    self.descriptor = descriptor
    finished = nil
    direct = byteCount >= largeFrom ? DirectWriter(descriptor) : nil
    self.meter = meter
  }

  deinit { if let descriptor { close(descriptor) } }

  /// Writes all of `bytes` at `offset`.
  ///
  /// - Precondition: The range lies within ``byteCount``.
  /// - Throws: `.inputOutput`; for a finished file `.malformed` if it holds something else.
  public func write(_ bytes: RawSpan, at offset: Int) throws(CheckpointError) {
    precondition(offset >= 0 && offset + bytes.byteCount <= byteCount, "write beyond the planned size")
    if let finished { return try compare(bytes, with: finished, at: offset) }
    guard let descriptor else { return }
    guard let meter else { return try write(bytes, to: descriptor, at: offset) }
    try meter.measure { () throws(CheckpointError) in try write(bytes, to: descriptor, at: offset) }
  }

  private func compare(
    _ bytes: RawSpan, with finished: any ByteSource, at offset: Int
  ) throws(CheckpointError) {
    let there: [UInt8]?
    do throws(CheckpointError) {
      there = try finished.readBytes(offset..<offset + bytes.byteCount)
    } catch {
      guard error.code != .inputOutput else { throw error }
      there = nil
    }
    let isSame = unsafe bytes.withUnsafeBytes { wanted in
      there.map { unsafe $0.elementsEqual(wanted) } ?? false
    }
    guard isSame else {
      throw CheckpointError(
        .malformed, "was finished by an earlier run, but does not hold what belongs there", path: path,
        offset: offset, remedy: "remove this file, and run the same command with --resume")
    }
  }

  private func write(_ bytes: RawSpan, to descriptor: CInt, at offset: Int) throws(CheckpointError) {
    var failure: CheckpointError?
    unsafe bytes.withUnsafeBytes { source in
      // Bytes before the first whole block and after the last share their blocks with other writes.
      let past = unsafe direct?.write(source, at: offset) ?? 0..<0
      var done = 0
      while true {
        if done == past.lowerBound { done = past.upperBound }
        guard done < source.count else { return }
        let end = done < past.lowerBound ? past.lowerBound : source.count
        let count = unsafe pwrite(
          descriptor, source.baseAddress.unsafelyUnwrapped + done, min(end - done, 1 << 30),
          off_t(offset + done))
        if count > 0 {
          done += count
          continue
        }
        let code = count == 0 ? ENOSPC : errno
        guard code == EINTR else {
          failure = writingError(code, path: path, offset: offset + done)
          return
        }
      }
    }
    if let failure { throw failure }
  }

  /// Fills `buffer` with the file's bytes from `offset` on.
  ///
  /// - Throws: `.truncated` if the file ends first, `.inputOutput` if reading fails.
  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    if let finished { return try finished.read(into: &buffer, at: offset) }
    precondition(descriptor != nil, "nothing is kept to be read")
    guard let descriptor else { return }
    try readFully(descriptor, path: path, into: &buffer, at: offset)
  }

  /// The file's bytes in a range.
  ///
  /// - Throws: As ``read(into:at:)``.
  public func readBytes(_ range: Range<Int>) throws(CheckpointError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    try read(into: &raw, at: range.lowerBound)
    return bytes
  }

  /// Releases the space: the bytes have been moved, and will not be read here again.
  ///
  /// - Throws: `.inputOutput`.
  public func giveUpSpace() throws(CheckpointError) {
    guard let descriptor else { return }
    let failure = cfs_set_length(descriptor, 0)
    guard failure == 0 else {
      throw CheckpointError(.inputOutput, "cannot be cut: \(systemMessage(failure))", path: path)
    }
  }

  /// Makes sure that everything written so far survives a power cut.
  ///
  /// Once this has failed it fails for good: the system may have dropped what it could not write, and may report
  /// success for the next attempt.
  ///
  /// - Throws: `.inputOutput`.
  public func synchronize() throws(CheckpointError) {
    guard let descriptor else { return }
    let before = loss.load(ordering: .relaxed)
    let failure = before != 0 ? before : cfs_synchronize(descriptor)
    guard failure == 0 else {
      loss.store(failure, ordering: .relaxed)
      throw syncingError(failure, path: path)
    }
  }
}
