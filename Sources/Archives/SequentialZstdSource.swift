public import ByteStreams
internal import CZstd
internal import Synchronization
public import TensorFormats

/// Sequential access to the original bytes of any `.zst` file.
///
/// For files with a single large frame, which can only be decompressed from the first byte. Reading ahead decompresses
/// everything in between and keeps it for later reads, up to 128 MiB, since reads of several threads do not
/// arrive in order. Reading backwards starts over, which is refused once it has cost too much: parsing a header twice
/// or rereading a small file is fine; random access to a large file needs ``ArchiveSource`` or unpacking it. Archives
/// of this toolkit are refused: their frames hold reordered bytes.
///
/// Reads from several threads are serialized. Memory: a window of at most 128 MiB, the default limit of the `zstd`
/// program, plus at most as much again for output that was not read yet.
public final class SequentialZstdSource: ByteSource {
  public let path: String
  public let byteCount: Int
  private let state: Mutex<State>
  private let source: any ByteSource
  /// The total number of bytes that may be decompressed again.
  private let mostRedone: Int

  /// Opens a file. If its frames do not state their sizes, it is decompressed once to determine its size.
  ///
  /// - Throws: `.malformed` or `.truncated` for anything that is not a zstd file, `.unsupported` for windows beyond the
  ///   limit and for archives of this toolkit. The error names the file and the byte offset.
  public convenience init(_ source: any ByteSource) throws(CheckpointError) {
    try self.init(source, mostRedone: 8 << 30)
  }

  /// How much is kept for out-of-order reads, in bytes.
  package static let largestWindow = 128 << 20

  /// As above, with other limits for decompressing again and for what is kept, in bytes.
  package convenience init(
    _ source: any ByteSource, mostRedone: Int, window: Int = largestWindow
  ) throws(CheckpointError) {
    do throws(CheckpointError) {
      if let index = try? FrameIndex(seekTableOf: source), index.isOurs {
        throw CheckpointError(
          .unsupported, "is an archive of this toolkit, whose bytes are reordered",
          remedy: "restore it with step3-convert restore")
      }
      try self.init(
        source, byteCount: Self.byteCount(of: source), mostRedone: mostRedone, window: window)
    } catch {
      throw error.at(path: source.path)
    }
  }

  private init(
    _ source: any ByteSource, byteCount: Int, mostRedone: Int, window: Int
  ) throws(CheckpointError) {
    self.mostRedone = mostRedone
    path = source.path
    self.byteCount = byteCount
    self.source = source
    state = Mutex(State(stream: ZstdStream(source), window: Lookback(largest: window)))
  }

  private struct State {
    let stream: ZstdStream
    var window: Lookback
  }

  public var change: SourceChange? { get throws(CheckpointError) { try source.change } }

  /// The sum of the stated frame sizes, or else the decompressed size.
  private static func byteCount(of source: any ByteSource) throws(CheckpointError) -> Int {
    var walker = FrameWalker(source)
    var total = 0
    while let frame = try walker.next() {
      guard let stated = frame.contentByteCount else { return try ZstdStream(source).countBytes() }
      let (sum, overflow) = total.addingReportingOverflow(Int(clamping: stated))
      guard !overflow, stated <= UInt64(frame.position.count) * UInt64(ArchiveFormat.mostExpansion) else {
        throw CheckpointError(
          .malformed, "a frame of \(frame.position.count) bytes cannot decompress to \(stated)",
          offset: frame.position.lowerBound)
      }
      total = sum
    }
    return total
  }

  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    let wanted = buffer.byteCount
    guard offset >= 0, wanted <= byteCount - offset else {
      throw CheckpointError(
        .truncated, "\(wanted) bytes were requested, \(max(0, byteCount - offset)) are left of the original",
        path: path)
    }
    // The closure cannot capture `buffer`, which is nonescapable, but can capture its memory.
    let failure: CheckpointError? = unsafe buffer.withUnsafeMutableBytes { target in
      state.withLock { state in
        do throws(CheckpointError) {
          if offset < state.window.range.lowerBound {
            guard state.stream.redone <= mostRedone else {
              throw CheckpointError(
                .unsupported,
                "byte \(offset) of the original is needed again, and the file can only be read sequentially",
                remedy: FrameIndex.noRandomAccessRemedy)
            }
            state.stream.restart()
            state.window.restart()
          }
          var done = 0
          while done < target.count {
            let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done...])
            let there = unsafe state.window.copy(from: offset + done, into: rest)
            done += there
            if there == 0 { try state.window.append(state.stream.next(atMost: byteCount)) }
          }
          state.window.note(offset..<offset + target.count)
          return nil
        } catch {
          return error
        }
      }
    }
    if let failure { throw failure.at(path: path) }
  }
}

/// A stream of frames being decompressed.
///
/// `@unchecked Sendable`: protected by a lock.
@safe private final class ZstdStream: @unchecked Sendable {
  private let source: any ByteSource
  private let context: OpaquePointer
  private var input: [UInt8] = []
  private var inputPosition = 0
  /// The file offset at which `input` ends.
  private var sourcePosition = 0
  /// Whether the last frame is complete.
  private var isBetweenFrames = true
  private(set) var position = 0
  /// The error for the data at ``position``, if it cannot be decompressed.
  private var damage: CheckpointError?
  /// The number of bytes discarded by starting over.
  private(set) var redone = 0

  init(_ source: any ByteSource) {
    guard let context = unsafe ZSTD_createDCtx() else { preconditionFailure("out of memory") }
    self.source = source
    unsafe self.context = context
    _ = unsafe ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, ArchiveFormat.largestWindowLog)
  }

  deinit { _ = unsafe ZSTD_freeDCtx(context) }

  func restart() {
    _ = unsafe ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
    input = []
    redone += position
    (inputPosition, sourcePosition, position) = (0, 0, 0)
    isBetweenFrames = true
    damage = nil
  }

  /// The number of bytes left.
  func countBytes() throws(CheckpointError) -> Int {
    while try !chunk().isEmpty {}
    return position
  }

  /// The next bytes; there must be at least one.
  ///
  /// - Parameter byteCount: The total number of bytes.
  func next(atMost byteCount: Int) throws(CheckpointError) -> [UInt8] {
    let chunk = try chunk()
    guard !chunk.isEmpty, position <= byteCount else {
      throw CheckpointError(
        chunk.isEmpty ? .truncated : .malformed,
        chunk.isEmpty
          ? "the frames end before their stated size" : "the frames hold more than their stated size",
        offset: sourcePosition)
    }
    return chunk
  }

  private static let chunkByteCount = 1 << 18

  private func chunk() throws(CheckpointError) -> [UInt8] {
    if let damage { throw damage }
    var failure: CheckpointError?
    let chunk = unsafe [UInt8](unsafeUninitializedCapacity: Self.chunkByteCount) { buffer, count in
      let target = UnsafeMutableRawBufferPointer(buffer)
      do throws(CheckpointError) {
        while count < target.count {
          let produced = try unsafe some(UnsafeMutableRawBufferPointer(rebasing: target[count...]))
          guard produced > 0 else { return }
          count += produced
        }
      } catch { failure = error }
    }
    // Data before the damage can still be read.
    if let failure, chunk.isEmpty { throw failure }
    damage = failure
    return chunk
  }

  /// The next bytes, at least one unless there are none.
  private func some(_ target: UnsafeMutableRawBufferPointer) throws(CheckpointError) -> Int {
    while true {
      if inputPosition == input.count {
        guard sourcePosition < source.byteCount else {
          guard isBetweenFrames else {
            throw CheckpointError(
              .truncated, "the file ends inside a frame", offset: source.byteCount,
              remedy: "the download may be incomplete")
          }
          return 0
        }
        let end = min(source.byteCount, sourcePosition + 1 << 17)
        input = try source.readBytes(sourcePosition..<end)
        (inputPosition, sourcePosition) = (0, end)
      }
      var produced = 0
      let result = unsafe input.withUnsafeBytes { bytes in
        var from = unsafe ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: inputPosition)
        var to = unsafe ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
        let result = unsafe ZSTD_decompressStream(context, &to, &from)
        inputPosition = unsafe from.pos
        produced = unsafe to.pos
        return result
      }
      guard ZSTD_isError(result) == 0 else { throw failure(result) }
      isBetweenFrames = result == 0
      position += produced
      if produced > 0 { return produced }
    }
  }

  private func failure(_ result: Int) -> CheckpointError {
    let offset = sourcePosition - input.count + inputPosition
    guard ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge else {
      return CheckpointError(
        .malformed, "a frame is damaged: \(unsafe String(cString: ZSTD_getErrorName(result)))",
        offset: offset,
        remedy: "fetch the file again")
    }
    return CheckpointError(
      .unsupported,
      "needs a window of more than 2^\(ArchiveFormat.largestWindowLog) bytes to be decompressed",
      offset: offset,
      remedy: "unpack it with zstd -d --long=31")
  }
}
