internal import ByteStreams
internal import Synchronization
internal import TensorFormats

/// A file that is cached while it is read: each byte is fetched once, and later reads come from disk.
///
/// Fetched bytes survive the process, except for up to the last ``recordInterval`` bytes: a list next to the unfinished
/// file records the ranges written and synced. The file gets its final name only when it is complete and has the
/// SHA-256 published by the hub.
final class KeptSource: ByteSource {
  let path: String
  let byteCount: Int
  private let source: any ByteSource
  private let place: String
  private let sha256: Digest?
  private let state: Mutex<State>

  private struct State {
    /// `nil` once the file is complete.
    var file: OutputFile?
    /// The complete file.
    var finished: InputFile?
    var ranges: ByteRanges
    /// The number of bytes present when the list was written.
    var recorded = 0
  }

  /// The number of new bytes after which they are synced and recorded.
  private static let recordInterval = 256 << 20
  private static let pieceByteCount = 8 << 20

  private var partial: String { place + ".step3-partial" }
  private var list: String { place + ".step3-ranges" }

  /// - Parameters:
  ///   - source: The source of the bytes.
  ///   - place: The final path of the complete file.
  ///   - sha256: The expected digest, if known.
  init(_ source: any ByteSource, place: String, sha256: Digest?) throws(CheckpointError) {
    self.source = source
    self.place = place
    self.sha256 = sha256
    path = source.path
    byteCount = source.byteCount
    var state = State(ranges: ByteRanges())
    let partial = place + ".step3-partial"
    let list = place + ".step3-ranges"
    if try FileSystem.size(of: place) == source.byteCount, let finished = try? InputFile(place) {
      // The same file is already complete under another name.
      state.finished = finished
    } else if try FileSystem.size(of: partial) == source.byteCount, let text = Self.text(list),
      let ranges = ByteRanges(text, of: source.byteCount),
      let file = try? OutputFile(partial, byteCount: source.byteCount, reopening: true)
    {
      state.file = file
      state.ranges = ranges
      state.recorded = ranges.count
    } else {
      try FileSystem.removeFile(list)
      try FileSystem.removeFile(partial)
      state.file = try OutputFile(partial, byteCount: source.byteCount)
    }
    self.state = Mutex(state)
  }

  private static func text(_ path: String) -> String? {
    guard let file = try? InputFile(path), file.byteCount <= 64 << 20,
      let bytes = try? file.readBytes(0..<file.byteCount)
    else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }

  func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    let count = buffer.byteCount
    guard offset >= 0, count <= byteCount - offset else {
      throw CheckpointError(
        .truncated, "\(count) bytes were requested, \(max(0, byteCount - offset)) are left", path: path,
        offset: offset)
    }
    guard count > 0 else { return }
    let wanted = offset..<offset + count
    let (file, finished, isThere) = state.withLock { state in
      (
        state.file, state.finished,
        state.ranges.ranges.contains {
          $0.lowerBound <= wanted.lowerBound && $0.upperBound >= wanted.upperBound
        }
      )
    }
    if let finished { return try finished.read(into: &buffer, at: offset) }
    if isThere, let file { return try file.read(into: &buffer, at: offset) }
    try source.read(into: &buffer, at: offset)
    guard let file else { return }
    try file.write(buffer.bytes, at: offset)
    try state.withLock { (state) throws(CheckpointError) in
      state.ranges.insert(wanted)
      if state.ranges.count - state.recorded >= Self.recordInterval { try record(&state) }
    }
  }

  func prefetch(_ range: Range<Int>) { source.prefetch(range) }

  func discardCached(_ range: Range<Int>) { source.discardCached(range) }

  /// Fetches the bytes not read yet, verifies the file, and gives it its final name.
  ///
  /// - Throws: What reading and writing throw; `.sourceChanged` if the SHA-256 differs, after discarding the kept
  ///   bytes.
  func complete() throws(CheckpointError) {
    while let gap = state.withLock({ $0.finished == nil ? $0.ranges.gaps(in: byteCount).first : nil }) {
      _ = try readBytes(gap.lowerBound..<min(gap.upperBound, gap.lowerBound + Self.pieceByteCount))
    }
    try state.withLock { (state) throws(CheckpointError) in
      guard state.finished == nil else { return }
      guard let file = state.file else {
        throw CheckpointError(
          .sourceChanged, "does not match what the hub publishes", path: path, remedy: "fetch it again")
      }
      if let sha256 {
        var digester = SHA256Digester()
        for start in stride(from: 0, to: byteCount, by: Self.pieceByteCount) {
          let bytes = try file.readBytes(start..<min(byteCount, start + Self.pieceByteCount))
          unsafe digester.update(bytes.span.bytes)
        }
        let found = digester.finalize()
        guard found == sha256 else {
          try FileSystem.removeFile(list)
          try FileSystem.removeFile(partial)
          state.file = nil
          throw CheckpointError(
            .sourceChanged, "has SHA-256 \(found) instead of the published \(sha256)",
            path: path,
            remedy: "fetch it again")
        }
      }
      try file.synchronize()
      try FileSystem.rename(partial, to: place)
      try FileSystem.removeFile(list)
      state.finished = try InputFile(place)
      state.file = nil
    }
  }

  /// Records the present ranges, after syncing them.
  private func record(_ state: inout State) throws(CheckpointError) {
    try state.file?.synchronize()
    let text = Array(state.ranges.text(of: byteCount).utf8)
    unsafe try FileSystem.writeAtomically(text.span.bytes, to: list)
    state.recorded = state.ranges.count
  }

  deinit {
    state.withLock { state in
      // Bytes that cannot be recorded are fetched again.
      if state.file != nil, state.ranges.count > state.recorded { try? record(&state) }
    }
  }
}
