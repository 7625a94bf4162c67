package import ByteStreams
internal import CZstd
package import TensorFormats

/// The position of every frame of an archive, and the original bytes that it holds; validated.
struct FrameIndex {
  /// The offsets of the frames in the archive, and the end of the last one.
  var positions: [Int] = [0]
  /// The original offset at which each begins, and the total.
  var starts: [Int] = [0]
  /// The checksums of their contents; empty if the table has none.
  var checksums: [UInt32] = []
  /// The transform of each frame; empty if none has one.
  var transforms: [ArchiveTransform] = []
  /// Whether this toolkit's container was recognised.
  var isOurs = false

  var count: Int { positions.count - 1 }
  var originalByteCount: Int { starts[starts.count - 1] }

  func position(of frame: Int) -> Range<Int> { positions[frame]..<positions[frame + 1] }
  func original(of frame: Int) -> Range<Int> { starts[frame]..<starts[frame + 1] }

  /// The frame that holds a byte of the original.
  ///
  /// - Complexity: O(log *n*).
  func frame(at offset: Int) -> Int {
    var (low, high) = (0, starts.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if starts[middle] <= offset { low = middle } else { high = middle }
    }
    return low
  }

  /// Adds the next frame.
  ///
  /// - Throws: `.malformed` for sizes that no frame can have, `.unsupported` for too many or too large ones.
  mutating func append(byteCount: Int, originalByteCount: Int) throws(CheckpointError) {
    let position = positions[count]
    guard count < ArchiveFormat.mostFrames else {
      throw CheckpointError(
        .unsupported, "there are more than \(ArchiveFormat.mostFrames) frames", offset: position,
        remedy: "unpack it with zstd -d")
    }
    guard byteCount > 0,
      originalByteCount <= byteCount.multipliedReportingOverflow(by: ArchiveFormat.mostExpansion).partialValue
    else {
      throw CheckpointError(
        .malformed, "a frame of \(byteCount) bytes cannot decompress to \(originalByteCount)",
        offset: position)
    }
    guard originalByteCount <= ArchiveFormat.largestPiece else {
      throw Self.tooLarge(originalByteCount, at: position)
    }
    guard originalByteCount == 0 || byteCount <= ZSTD_compressBound(originalByteCount) + 1 << 16 else {
      throw CheckpointError(
        .malformed, "a frame with \(originalByteCount) bytes of content takes \(byteCount)", offset: position)
    }
    positions.append(position + byteCount)
    starts.append(starts[count - 1] + originalByteCount)
  }

  static func tooLarge(_ byteCount: Int, at position: Int) -> CheckpointError {
    CheckpointError(
      .unsupported,
      "a frame holds \(byteCount) bytes and would have to be decoded completely to read any of them; "
        + "frames up to \(ArchiveFormat.largestPiece) bytes support random access", offset: position,
      remedy: noRandomAccessRemedy)
  }

  static let noRandomAccessRemedy =
    "unpack it with zstd -d, then compress it with step3-convert archive, whose files support random access"
}

// MARK: - With a seek table

extension FrameIndex {
  /// Reads the seek table at the end, and this toolkit's map before it.
  ///
  /// - Returns: `nil` if there is no seek table.
  /// - Throws: `.malformed`, `.unsupported`.
  init?(seekTableOf source: any ByteSource) throws(CheckpointError) {
    let size = source.byteCount
    // One read covers the whole table of files up to about five gigabytes.
    let tail = try source.readBytes(max(0, size - 1 << 18)..<size)
    let footerByteCount = ArchiveFormat.seekTableFooterByteCount
    guard size >= footerByteCount + ArchiveFormat.skippableHeaderByteCount,
      tail.withSpan({ $0.load(UInt32.self, at: tail.count - 4) }) == ArchiveFormat.seekTableFooterMagic
    else { return nil }
    let count = tail.withSpan { Int($0.load(UInt32.self, at: tail.count - footerByteCount)) }
    let descriptor = tail[tail.count - 5]
    let hasChecksums = descriptor & 0x80 != 0
    guard descriptor & 0x7C == 0 else {
      throw CheckpointError(
        .unsupported, "the seek table has the descriptor \(descriptor), of which reserved bits are set",
        offset: size - 5)
    }
    let entryByteCount = hasChecksums ? 12 : 8
    let contentByteCount = count * entryByteCount + footerByteCount
    guard contentByteCount <= size - ArchiveFormat.skippableHeaderByteCount else {
      throw CheckpointError(
        .malformed, "the seek table has \(count) entries, more than the file has room for", offset: size - 9)
    }
    guard count <= ArchiveFormat.mostFrames else {
      throw CheckpointError(
        .unsupported, "the seek table has \(count) entries, at most \(ArchiveFormat.mostFrames) are read",
        offset: size - 9, remedy: "unpack it with zstd -d")
    }
    let start = size - contentByteCount - ArchiveFormat.skippableHeaderByteCount
    let table =
      tail.count >= size - start
      ? Array(tail[(tail.count - (size - start))...]) : try source.readBytes(start..<size)
    guard table.withSpan({ $0.load(UInt32.self, at: 0) }) == ArchiveFormat.seekTableMagic,
      table.withSpan({ Int($0.load(UInt32.self, at: 4)) }) == contentByteCount
    else {
      throw CheckpointError(
        .malformed, "the seek table's frame does not begin where its \(count) entries say", offset: start)
    }
    self.init()
    positions.reserveCapacity(count + 1)
    starts.reserveCapacity(count + 1)
    if hasChecksums { checksums.reserveCapacity(count) }
    for entry in 0..<count {
      let at = ArchiveFormat.skippableHeaderByteCount + entry * entryByteCount
      let (compressed, original) = table.withSpan {
        (Int($0.load(UInt32.self, at: at)), Int($0.load(UInt32.self, at: at + 4)))
      }
      try append(byteCount: compressed, originalByteCount: original)
      if hasChecksums { checksums.append(table.withSpan { $0.load(UInt32.self, at: at + 8) }) }
    }
    guard positions[count] == start else {
      throw CheckpointError(
        .malformed, "the seek table's frames take \(positions[count]) bytes, but \(start) lie before it",
        offset: start)
    }
    try readMap(source)
  }

  /// Recognises this toolkit's container and reads how its pieces are stored.
  private mutating func readMap(_ source: any ByteSource) throws(CheckpointError) {
    let headers = ArchiveFormat.skippableHeaderByteCount + ArchiveFormat.mapHeaderByteCount
    guard count > 0, original(of: count - 1).isEmpty else { return }
    let position = position(of: count - 1)
    guard position.count >= headers + 4 else { return }
    let start = try source.readBytes(position.lowerBound..<position.lowerBound + headers)
    let (magic, length, runs, stated) = start.withSpan {
      (
        $0.load(UInt32.self, at: 0), Int($0.load(UInt32.self, at: 4)), Int($0.load(UInt32.self, at: 20)),
        $0.load(UInt64.self, at: 24)
      )
    }
    guard magic == ArchiveFormat.mapMagic, start[8..<16].elementsEqual(ArchiveFormat.mapSignature) else {
      return
    }
    let version = start.withSpan { $0.load(UInt16.self, at: 16) }
    guard version == ArchiveFormat.mapVersion else {
      throw CheckpointError(
        .unsupported, "the archive has version \(version), this tool reads \(ArchiveFormat.mapVersion)",
        offset: position.lowerBound + 16, remedy: "use the version of step3-toolkit that wrote it")
    }
    let expected = ArchiveFormat.mapHeaderByteCount + runs * ArchiveFormat.runByteCount + 4
    guard length == expected, position.count == expected + ArchiveFormat.skippableHeaderByteCount,
      runs < count
    else {
      throw CheckpointError(
        .malformed, "the map of pieces has \(length) bytes, \(runs) runs need \(expected)",
        offset: position.lowerBound)
    }
    let content = try source.readBytes(
      position.lowerBound + ArchiveFormat.skippableHeaderByteCount..<position.upperBound)
    let sum = unsafe checksum(of: content.span.bytes.extracting(0..<content.count - 4))
    guard content.withSpan({ $0.load(UInt32.self, at: content.count - 4) }) == sum else {
      throw CheckpointError(
        .malformed, "the map of pieces does not match its checksum", offset: position.lowerBound)
    }
    guard stated == UInt64(originalByteCount) else {
      throw CheckpointError(
        .malformed, "the original has \(stated) bytes, but the frames hold \(originalByteCount)",
        offset: position.lowerBound + 24)
    }
    transforms.reserveCapacity(count)
    for run in 0..<runs {
      let at = ArchiveFormat.mapHeaderByteCount + run * ArchiveFormat.runByteCount
      let (frames, code) = content.withSpan {
        (Int($0.load(UInt32.self, at: at)), $0.load(UInt32.self, at: at + 4))
      }
      guard let transform = UInt8(exactly: code).flatMap(ArchiveTransform.init(rawValue:)) else {
        throw CheckpointError(
          .unsupported, "pieces are stored by transform \(code), which this tool does not know",
          offset: position.lowerBound + ArchiveFormat.skippableHeaderByteCount + at,
          remedy: "use a newer version of step3-toolkit")
      }
      guard frames > 0, frames <= count - 1 - transforms.count else { throw wrongRuns(position) }
      transforms += repeatElement(transform, count: frames)
    }
    guard transforms.count == count - 1 else { throw wrongRuns(position) }
    transforms.append(.none)
    isOurs = true
  }

  private func wrongRuns(_ position: Range<Int>) -> CheckpointError {
    CheckpointError(
      .malformed, "the map of pieces does not cover the \(count - 1) frames of the seek table",
      offset: position.lowerBound)
  }
}

// MARK: - Without a seek table

extension FrameIndex {
  /// Walks from frame to frame, reading the headers of frames and blocks.
  ///
  /// - Throws: `.malformed` for anything that is not a zstd file, `.unsupported` if a frame does not state its size or
  ///   is too large for random access.
  /// - Complexity: O(*n*) in the bytes of the archive, most of which are skipped.
  init(walking source: any ByteSource) throws(CheckpointError) {
    self.init()
    var walker = FrameWalker(source)
    while let frame = try walker.next() {
      guard let stated = frame.contentByteCount else {
        throw CheckpointError(
          .unsupported,
          "the frame does not state its decompressed size, so random access is impossible",
          offset: frame.position.lowerBound, remedy: Self.noRandomAccessRemedy)
      }
      guard let size = Int(exactly: stated), size <= ArchiveFormat.largestPiece else {
        throw Self.tooLarge(Int(clamping: stated), at: frame.position.lowerBound)
      }
      try append(byteCount: frame.position.count, originalByteCount: size)
    }
  }
}

/// Walks the frames of a file.
package struct FrameWalker {
  package struct Frame {
    package let position: Range<Int>
    /// `nil` if not stated; 0 for a skippable frame.
    package let contentByteCount: UInt64?
    package let isSkippable: Bool
  }

  private let source: any ByteSource
  private(set) var position: Int
  private var window: [UInt8] = []
  private var windowStart = 0

  package init(_ source: any ByteSource, from position: Int = 0) {
    self.source = source
    self.position = position
  }

  /// The next frame; `nil` at the end.
  ///
  /// - Throws: `.malformed` if there is no frame, `.truncated` if it is incomplete; the error has the offset.
  package mutating func next() throws(CheckpointError) -> Frame? {
    guard position < source.byteCount else { return nil }
    let start = position
    let magic = try bytes(4, at: start).withSpan { $0.load(UInt32.self, at: 0) }
    if magic & ArchiveFormat.skippableMask == ArchiveFormat.skippableMagic {
      let length = try bytes(4, at: start + 4).withSpan { Int($0.load(UInt32.self, at: 0)) }
      let end = start + ArchiveFormat.skippableHeaderByteCount + length
      try check(end, start)
      position = end
      return Frame(position: start..<end, contentByteCount: 0, isSkippable: true)
    }
    let header: FrameHeader
    do throws(CheckpointError) {
      let prefix = try bytes(min(FrameHeader.mostBytes, source.byteCount - start), at: start)
      header = try unsafe FrameHeader(prefix.span.bytes)
    } catch {
      var placed = error
      placed.offset = placed.offset ?? start
      throw placed
    }
    var end = start + header.byteCount
    while true {
      let block = try bytes(3, at: end)
      let field = Int(block[0]) | Int(block[1]) << 8 | Int(block[2]) << 16
      let (kind, size) = (field >> 1 & 3, field >> 3)
      guard kind != 3, size <= ArchiveFormat.blockByteCount else {
        throw CheckpointError(.malformed, "there is no zstd block", offset: end)
      }
      end += 3 + (kind == 1 ? 1 : size)
      try check(end, start)
      if field & 1 == 1 { break }
    }
    if header.hasChecksum { end += 4 }
    try check(end, start)
    position = end
    return Frame(position: start..<end, contentByteCount: header.contentByteCount, isSkippable: false)
  }

  private func check(_ end: Int, _ start: Int) throws(CheckpointError) {
    guard end > source.byteCount else { return }
    throw CheckpointError(
      .truncated, "the frame that begins here is incomplete", offset: start,
      remedy: "the download may be incomplete")
  }

  /// A few bytes, served from a larger read.
  private mutating func bytes(_ count: Int, at offset: Int) throws(CheckpointError) -> [UInt8] {
    guard count <= source.byteCount - offset else {
      throw CheckpointError(
        .truncated, "the file ends inside a frame", offset: position,
        remedy: "the download may be incomplete")
    }
    if offset < windowStart || offset + count > windowStart + window.count {
      windowStart = offset
      window = try source.readBytes(offset..<min(offset + 4096, source.byteCount))
    }
    return Array(window[(offset - windowStart)..<(offset - windowStart + count)])
  }
}

extension [UInt8] {
  /// Calls `body` with the bytes.
  func withSpan<Result>(_ body: (RawSpan) -> Result) -> Result { unsafe body(span.bytes) }
}
