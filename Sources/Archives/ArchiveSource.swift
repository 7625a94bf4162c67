public import ByteStreams
internal import Synchronization
public import TensorFormats

/// Random access to the original bytes of a `.zst` file; only the frames read are decompressed.
///
/// Reads the output of `step3-convert archive`, and other tools' files if they have a seek table or several frames
/// that state their sizes. A damaged frame is detected by its checksum when it is read; the others remain readable.
///
/// Memory: an index of some 16 bytes for each frame; while reading, for each thread that reads, a few megabytes or one
/// frame, whichever is larger; and a few partly read frames.
public final class ArchiveSource: ByteSource {
  private let source: any ByteSource
  private let index: FrameIndex
  private let decoders = Mutex<[PieceDecoder]>([])
  private let recent = Mutex(RecentFrames())

  /// Compressed bytes per read, unless a single frame is larger.
  private static let readByteCount = 4 << 20

  /// Opens an archive.
  ///
  /// - Parameter source: The archive's bytes.
  /// - Throws: `.malformed` or `.truncated` for a file that is not zstd or has an invalid table, `.unsupported` if it
  ///   can only be read sequentially (see ``SequentialZstdSource``). The error names the file and the byte in it.
  /// - Complexity: O(*n*) for *n* frames; one or two reads, unless there is no seek table.
  public init(_ source: any ByteSource) throws(CheckpointError) {
    self.source = source
    do throws(CheckpointError) {
      if let index = try FrameIndex(seekTableOf: source) {
        self.index = index
      } else {
        index = try FrameIndex(walking: source)
      }
    } catch {
      throw error.at(path: source.path)
    }
  }

  /// The archive's path.
  public var path: String { source.path }

  /// The size of the original.
  public var byteCount: Int { index.originalByteCount }

  /// The size of the archive.
  public var archiveByteCount: Int { source.byteCount }

  /// Whether this toolkit wrote it. Its frames may hold reordered bytes, so that `zstd -d` alone does not restore the
  /// original.
  public var isContainer: Bool { index.isOurs }

  /// The pieces, as ranges of the original: reading whole pieces saves copies.
  public var pieces: some Sequence<Range<Int>> {
    (0..<index.count).lazy.map { [index] in index.original(of: $0) }.filter { !$0.isEmpty }
  }

  public func prefetch(_ range: Range<Int>) {
    if let position = position(of: range) { source.prefetch(position) }
  }

  public func discardCached(_ range: Range<Int>) {
    if let position = position(of: range) { source.discardCached(position) }
  }

  public var change: SourceChange? { get throws(CheckpointError) { try source.change } }

  /// The archive range of the frames that cover a range.
  private func position(of range: Range<Int>) -> Range<Int>? {
    guard !range.isEmpty, range.lowerBound >= 0, range.upperBound <= byteCount else { return nil }
    let frames = (index.frame(at: range.lowerBound), index.frame(at: range.upperBound - 1))
    return index.position(of: frames.0).lowerBound..<index.position(of: frames.1).upperBound
  }
}

// MARK: - Reading

extension ArchiveSource {
  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    let wanted = buffer.byteCount
    guard offset >= 0, wanted <= byteCount - offset else {
      throw CheckpointError(
        .truncated, "\(wanted) bytes were requested, \(max(0, byteCount - offset)) are left of the original",
        path: path,
        offset: archiveByteCount)
    }
    guard wanted > 0 else { return }
    let decoder = decoders.withLock { $0.popLast() } ?? PieceDecoder()
    defer { decoders.withLock { $0.append(decoder) } }
    let end = offset + wanted
    var frame = index.frame(at: offset)
    var position = offset
    while position < end {
      let original = index.original(of: frame)
      if original.isEmpty {
        frame += 1
      } else if original.lowerBound == position, original.upperBound <= end {
        let last = lastFrame(readWith: frame, until: end)
        let start = index.position(of: frame).lowerBound
        let bytes = try source.readBytes(start..<index.position(of: last).upperBound)
        for one in frame...last {
          let original = index.original(of: one)
          guard !original.isEmpty else { continue }
          let place = index.position(of: one)
          var target = buffer._mutatingExtracting(original.lowerBound - offset..<original.upperBound - offset)
          try unsafe decode(
            one, bytes.span.bytes.extracting(place.lowerBound - start..<place.upperBound - start), decoder,
            &target)
        }
        position = index.original(of: last).upperBound
        frame = last + 1
      } else {
        let part = position - original.lowerBound..<min(end, original.upperBound) - original.lowerBound
        let bytes = try whole(frame, decoder)
        unsafe bytes.withUnsafeBytes { bytes in
          unsafe buffer.withUnsafeMutableBytes { target in
            unsafe UnsafeMutableRawBufferPointer(
              rebasing: target[position - offset..<position - offset + part.count]
            )
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[part]))
          }
        }
        position += part.count
        frame += 1
      }
    }
  }

  /// The last of the frames that are needed completely and read in one request.
  private func lastFrame(readWith first: Int, until end: Int) -> Int {
    let start = index.position(of: first).lowerBound
    var last = first
    while last + 1 < index.count, !index.original(of: last + 1).isEmpty,
      index.original(of: last + 1).upperBound <= end,
      index.position(of: last + 1).upperBound - start <= Self.readByteCount
    { last += 1 }
    return last
  }

  /// A frame that is needed in part: the next read may need another part.
  private func whole(_ frame: Int, _ decoder: PieceDecoder) throws(CheckpointError) -> [UInt8] {
    if let bytes = recent.withLock({ $0.find(frame) }) { return bytes }
    let compressed = try source.readBytes(index.position(of: frame))
    var bytes = [UInt8](repeating: 0, count: index.original(of: frame).count)
    do {
      var span = bytes.mutableSpan
      var target = unsafe span.mutableBytes
      try unsafe decode(frame, compressed.span.bytes, decoder, &target)
    }
    recent.withLock { $0.keep(frame, bytes) }
    return bytes
  }

  private func decode(
    _ frame: Int, _ bytes: RawSpan, _ decoder: PieceDecoder, _ target: inout MutableRawSpan
  ) throws(CheckpointError) {
    do throws(CheckpointError) {
      let checksum = index.checksums.isEmpty ? nil : index.checksums[frame]
      try decoder.decode(
        bytes, index.transforms.isEmpty ? .none : index.transforms[frame], checksum: checksum,
        isOurs: index.isOurs,
        into: &target)
    } catch {
      let (position, original) = (index.position(of: frame), index.original(of: frame))
      throw CheckpointError(
        error.code,
        "\(error.message) (bytes \(position.lowerBound) to \(position.upperBound) of the archive, "
          + "\(original.lowerBound) to \(original.upperBound) of the original)", path: path,
        offset: position.lowerBound,
        remedy: "fetch the file again; everything outside these bytes can still be read")
    }
  }
}

/// Frames that were decoded but only partly used, the most recent last.
private struct RecentFrames {
  /// Several frames are kept only up to this many bytes.
  private static let byteCount = 4 << 20
  private var frames: [(frame: Int, bytes: [UInt8])] = []

  mutating func find(_ frame: Int) -> [UInt8]? {
    guard let place = frames.firstIndex(where: { $0.frame == frame }) else { return nil }
    let found = frames.remove(at: place)
    frames.append(found)
    return found.bytes
  }

  mutating func keep(_ frame: Int, _ bytes: [UInt8]) {
    guard !frames.contains(where: { $0.frame == frame }) else { return }
    frames.append((frame, bytes))
    while frames.count > 1, frames.reduce(0, { $0 + $1.bytes.count }) > Self.byteCount {
      frames.removeFirst()
    }
  }
}
