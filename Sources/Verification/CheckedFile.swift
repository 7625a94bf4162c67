internal import ByteStreams
internal import Conversion
internal import TensorFormats

/// One file of an output, and what its bytes should be.
struct CheckedFile: Sendable {
  /// A run of its bytes.
  struct Section: Sendable {
    enum Content: Sendable {
      /// Bytes with this XXH3-128.
      case digest(String)
      /// Padding.
      case zeros
    }

    let range: Range<Int>
    let content: Content
    var tensor: String?
  }

  let record: Manifest.FileRecord
  /// The whole file, from start to end, without gaps.
  let sections: [Section]

  /// Read at a time.
  private static let chunk = 4 << 20

  /// Reads the file once, from start to end, and compares it.
  ///
  /// - Parameters:
  ///   - withSHA256: Whether to compare that digest as well.
  ///   - progress: Called with the size of each piece read.
  /// - Returns: What is wrong. For a file that is too short, every incomplete section is named.
  /// - Throws: `CancellationError`.
  func check(
    in store: any ByteStore, withSHA256: Bool, progress: (Int) -> Void
  ) throws -> [ChecksumReport.Finding] {
    let source: any ByteSource
    do throws(CheckpointError) {
      source = try store.open(record.path)
    } catch {
      let isTaken = try store.isTaken(record.path)
      let isMissing = error.code == .notFound && !isTaken
      return [isMissing ? finding(.missing, "the file is missing") : finding(.unreadable, error.message)]
    }
    var pass = Pass(self, available: min(source.byteCount, record.bytes), withSHA256: withSHA256)
    if source.byteCount != record.bytes { pass.findings.append(wrongSize(source.byteCount)) }
    let buffer = BufferPool(keep: 0).take(min(Self.chunk, max(1, pass.available)))
    while pass.position < pass.available {
      try Task.checkCancellation()
      let count = min(buffer.byteCount, pass.available - pass.position)
      let end = pass.position + count
      if end < pass.available { source.prefetch(end..<min(end + Self.chunk, pass.available)) }
      do throws(CheckpointError) {
        try read(count, from: source, buffer, &pass)
      } catch {
        // The rest is not read: retrying a failing device or server could take hours.
        return pass.findings + [finding(.unreadable, error.message, pass.position..<record.bytes)]
      }
      progress(count)
    }
    return pass.finish(isWhole: source.byteCount == record.bytes)
  }

  /// Reads some bytes into the pass. Data that an archive cannot restore only fails the sections it belongs to.
  ///
  /// - Throws: `.inputOutput`.
  private func read(
    _ count: Int, from source: any ByteSource, _ buffer: BufferPool.Buffer, _ pass: inout Pass
  ) throws(CheckpointError) {
    let start = pass.position
    do throws(CheckpointError) {
      try buffer.fill { (span) throws(CheckpointError) in
        var piece = span._mutatingExtracting(first: count)
        try source.read(into: &piece, at: start)
      }
      return pass.take(buffer.bytes.extracting(0..<count))
    } catch {
      guard error.code != .inputOutput else { throw error }
      guard pass.sectionEnd < start + count else { return pass.lose(count, error.message) }
    }
    while pass.position < start + count {
      try read(min(pass.sectionEnd, start + count) - pass.position, from: source, buffer, &pass)
    }
  }

  private func wrongSize(_ size: Int) -> ChecksumReport.Finding {
    finding(
      .size,
      "\(size) bytes, \(abs(size - record.bytes)) \(size < record.bytes ? "shorter" : "longer") than the "
        + "\(record.bytes) written", min(size, record.bytes)..<max(size, record.bytes))
  }

  private func finding(
    _ kind: ChecksumReport.Finding.Kind, _ message: String, _ range: Range<Int>? = nil,
    tensor: String? = nil
  ) -> ChecksumReport.Finding {
    ChecksumReport.Finding(
      kind: kind, file: record.path, tensor: tensor, start: range?.lowerBound, end: range?.upperBound,
      message: message, fatal: true)
  }
}

// MARK: - One pass

extension CheckedFile {
  /// What has been seen of a file so far.
  private struct Pass: ~Copyable {
    private let file: CheckedFile
    /// How much of it is there.
    let available: Int
    private(set) var position = 0
    var findings: [ChecksumReport.Finding] = []
    private var index = 0
    private var xxh3 = XXH3Digester()
    private var sha256: SHA256Digester?
    /// The digest of the current section.
    private var section = XXH3Digester()
    private var isZero = true
    /// Why some of that section could not be read.
    private var loss: String?

    init(_ file: CheckedFile, available: Int, withSHA256: Bool) {
      self.file = file
      self.available = available
      sha256 = withSHA256 ? SHA256Digester() : nil
      skipEmpty()
    }

    /// Takes in the next bytes.
    mutating func take(_ bytes: RawSpan) {
      xxh3.update(bytes)
      sha256?.update(bytes)
      var done = 0
      while done < bytes.byteCount, index < file.sections.count {
        let current = file.sections[index]
        let count = min(bytes.byteCount - done, current.range.upperBound - position)
        let piece = bytes.extracting(done..<done + count)
        if case .zeros = current.content {
          isZero = isZero && piece.isZero
        } else {
          section.update(piece)
        }
        done += count
        position += count
        if position == current.range.upperBound { finishSection() }
      }
    }

    /// The end of the current section.
    var sectionEnd: Int { index < file.sections.count ? file.sections[index].range.upperBound : available }

    /// Skips bytes that cannot be read.
    mutating func lose(_ count: Int, _ reason: String) {
      let end = position + count
      while position < end, index < file.sections.count {
        loss = loss ?? reason
        position = min(end, file.sections[index].range.upperBound)
        if position == file.sections[index].range.upperBound { finishSection() }
      }
      position = end
    }

    private mutating func finishSection() {
      let current = file.sections[index]
      switch current.content {
      case _ where loss != nil:
        findings.append(file.finding(.changed, loss ?? "", current.range, tensor: current.tensor))
      case .zeros:
        if !isZero { findings.append(file.finding(.changed, "padding is not zero", current.range)) }
      case .digest(let expected):
        let found = "\(section.finalize())"
        if found != expected {
          findings.append(
            file.finding(
              .changed, "XXH3-128 is \(found), but \(expected) was written", current.range,
              tensor: current.tensor))
        }
      }
      section = XXH3Digester()
      isZero = true
      loss = nil
      index += 1
      skipEmpty()
    }

    /// Tensors without elements have a digest too.
    private mutating func skipEmpty() {
      if index < file.sections.count, file.sections[index].range.isEmpty { finishSection() }
    }

    /// Findings about the file as a whole: only if no section has one, because that would say the same.
    consuming func finish(isWhole: Bool) -> [ChecksumReport.Finding] {
      for missing in file.sections.dropFirst(index) {
        findings.append(
          file.finding(
            .changed, "bytes are missing: the file ends at \(available)", missing.range,
            tensor: missing.tensor))
      }
      guard isWhole, findings.isEmpty else { return findings }
      let (record, found) = (file.record, "\(xxh3.finalize())")
      if found != record.xxh3 {
        findings.append(file.finding(.changed, "XXH3-128 is \(found), but \(record.xxh3) was written"))
      }
      if let found = sha256?.finalize(), "\(found)" != record.sha256 {
        findings.append(file.finding(.changed, "SHA-256 is \(found), but \(record.sha256) was written"))
      }
      return findings
    }
  }
}

extension RawSpan {
  /// Whether every byte is 0.
  fileprivate var isZero: Bool {
    for offset in byteOffsets where unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self) != 0 {
      return false
    }
    return true
  }
}
