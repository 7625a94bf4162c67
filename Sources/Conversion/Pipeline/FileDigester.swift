internal import ByteStreams
internal import Quantization
internal import TensorFormats

/// Follows one file from its first byte to its last and computes its digests.
///
/// Bytes normally arrive in the order of the file, because plans are laid out in the order in which the source is
/// read. If they do not (a small file of several element types), early bytes are read back from the file when their
/// turn comes, so that nothing has to be held in memory.
struct FileDigester: ~Copyable {
  private var xxh3 = XXH3Digester()
  private var sha256 = SHA256Digester()
  private var position = 0
  /// Ranges in the file that came before their turn; their starts are unique.
  private var early: [Int: Int] = [:]
  private let path: String
  /// The file, if it is being written: early bytes are read back from it. If it is not kept, bytes are hashed as they
  /// come, and the digests are only good for timing.
  private let written: OutputFile?

  /// Follows a file that is read, whose bytes come in order.
  init(reading path: String) {
    self.path = path
    written = nil
  }

  /// Follows a file that is written.
  init(writing file: OutputFile) {
    path = file.path
    written = file
  }

  /// How many bytes have been taken in without a gap.
  var byteCount: Int { position }

  /// Takes in the bytes at `offset`, now or when their turn comes.
  mutating func add(_ bytes: RawSpan, at offset: Int) throws(CheckpointError) {
    guard bytes.byteCount > 0 else { return }
    guard offset == position || written?.isKept == false else {
      early[offset] = offset + bytes.byteCount
      return
    }
    advance(bytes)
    try catchUp()
  }

  /// Takes in `count` zero bytes at `offset`: padding.
  mutating func addZeros(_ count: Int, at offset: Int) throws(CheckpointError) {
    try unsafe add([UInt8](repeating: 0, count: count).span.bytes, at: offset)
  }

  private mutating func advance(_ bytes: RawSpan) {
    xxh3.update(bytes)
    sha256.update(bytes)
    position += bytes.byteCount
  }

  private mutating func catchUp() throws(CheckpointError) {
    guard let written, !early.isEmpty, early[position] != nil else { return }
    while let end = early.removeValue(forKey: position) {
      while position < end {
        let range = position..<min(end, position + 1 << 20)
        let bytes = try written.readBytes(range)
        unsafe advance(bytes.span.bytes)
      }
    }
  }

  /// The digests of a file of `byteCount` bytes.
  ///
  /// - Precondition: All of it has been taken in.
  consuming func finish(byteCount: Int) -> FileDigests {
    precondition(
      position == byteCount && early.isEmpty, "\(path): \(position) of \(byteCount) bytes hashed")
    return FileDigests(xxh3: xxh3.finalize(), sha256: sha256.finalize())
  }
}

/// Both digests of one file.
struct FileDigests: Hashable, Sendable {
  let xxh3: Digest
  let sha256: Digest

  init(xxh3: Digest, sha256: Digest) {
    self.xxh3 = xxh3
    self.sha256 = sha256
  }

  /// The digests of a file in memory.
  init(of bytes: [UInt8]) {
    var digester = SHA256Digester()
    digester.update(bytes)
    self.init(xxh3: .xxh3(of: bytes), sha256: digester.finalize())
  }
}

/// A lane's result when its file is complete.
struct LaneReport: Sendable {
  let digests: FileDigests
  /// For an output: by the index of the tensor in the file.
  let tensors: [TensorReport]
}

/// The digests and errors of one output tensor.
struct TensorReport: Sendable {
  let xxh3: Digest
  let errors: RecodingErrors
}
