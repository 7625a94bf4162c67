public import TensorFormats

/// Collects and writes the tables at the end of an archive: how pieces are stored, and the seek table.
public struct ArchiveTable: Sendable {
  private var entries: [UInt8] = []
  private var runs: [(transform: ArchiveTransform, count: UInt32)] = []

  /// The number of frames so far.
  public private(set) var count = 0
  /// Their total size in the archive.
  public private(set) var byteCount = 0
  /// Their total original size.
  public private(set) var originalByteCount = 0

  /// Creates an empty table.
  public init() {}

  /// Adds the next frame.
  ///
  /// - Throws: `.unsupported` if there are more than a reader accepts.
  public mutating func append(_ frame: ArchiveFrame, _ transform: ArchiveTransform) throws(CheckpointError) {
    guard count < ArchiveFormat.mostFrames - 1 else {
      throw CheckpointError(
        .unsupported,
        "there are more than \(ArchiveFormat.mostFrames - 1) pieces, the limit of an archive",
        remedy: "convert it to several files first, with --max-shard-size")
    }
    append(frame.byteCount, frame.originalByteCount, frame.checksum)
    count += 1
    byteCount += frame.byteCount
    originalByteCount += frame.originalByteCount
    if let last = runs.last, last.transform == transform {
      runs[runs.count - 1].count += 1
    } else {
      runs.append((transform, 1))
    }
  }

  private mutating func append(_ byteCount: Int, _ originalByteCount: Int, _ checksum: UInt32) {
    entries.append(littleEndian: UInt32(byteCount))
    entries.append(littleEndian: UInt32(originalByteCount))
    entries.append(littleEndian: checksum)
  }

  /// The two skippable frames that end the archive.
  public var closing: [UInt8] {
    var content = ArchiveFormat.mapSignature
    content.append(littleEndian: ArchiveFormat.mapVersion)
    content.append(littleEndian: 0 as UInt16)
    content.append(littleEndian: UInt32(runs.count))
    content.append(littleEndian: UInt64(originalByteCount))
    for run in runs {
      content.append(littleEndian: run.count)
      content.append(littleEndian: UInt32(run.transform.rawValue))
    }
    unsafe content.append(littleEndian: checksum(of: content.span.bytes))
    let map = Self.skippable(ArchiveFormat.mapMagic, content)

    var table = self
    table.append(map.count, 0, checksum(of: RawSpan()))
    var seekTable = table.entries
    seekTable.append(littleEndian: UInt32(count + 1))
    // Every entry has a checksum.
    seekTable.append(1 << 7)
    seekTable.append(littleEndian: ArchiveFormat.seekTableFooterMagic)
    return map + Self.skippable(ArchiveFormat.seekTableMagic, seekTable)
  }

  private static func skippable(_ magic: UInt32, _ content: [UInt8]) -> [UInt8] {
    var frame: [UInt8] = []
    frame.append(littleEndian: magic)
    frame.append(littleEndian: UInt32(content.count))
    return frame + content
  }
}
