internal import AsyncAlgorithms
internal import ByteStreams
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// The digests of one output file and of its tensors, computed as its bytes pass, in order.
struct OutputLane: Sendable {
  /// A piece of a tensor, on its way.
  struct Piece: Sendable {
    let result: ProcessedUnit.Result
    /// Keeps the bytes alive where the result is a range of them.
    let content: BufferPool.Buffer
  }

  let file: ShardPlan.File
  /// The file; what is written to it may be thrown away.
  let output: OutputFile
  let header: [UInt8]
  /// The index of the file's first tensor among all targets.
  let firstTarget: Int
  let meter: Meter
  let pieces = AsyncChannel<Piece>()

  /// Runs until the channel is finished.
  func run() async throws -> LaneReport {
    var digester = FileDigester(path: output.isKept ? output.path : nil, written: output)
    try unsafe digester.add(header.span.bytes, at: 0)
    // Every stretch that no tensor covers is padding, known beforehand.
    var end = header.count
    for tensor in file.tensors {
      if tensor.offset > end { try digester.addZeros(tensor.offset - end, at: end) }
      end = tensor.offset + tensor.bytes
    }
    if file.bytes > end { try digester.addZeros(file.bytes - end, at: end) }

    var tensors = TensorTable(file, output)
    for await piece in pieces {
      try meter.measure { () throws(CheckpointError) in try take(piece, &digester, &tensors) }
    }
    // A cancelled task sees its channel end early.
    try Task.checkCancellation()
    return LaneReport(digests: digester.finish(byteCount: file.bytes), tensors: tensors.finish())
  }

  private func take(
    _ piece: Piece, _ digester: inout FileDigester, _ tensors: inout TensorTable
  ) throws(CheckpointError) {
    let delivery = piece.result.delivery
    let index = delivery.target - firstTarget
    try piece.result.withBytes(piece.content) { (bytes) throws(CheckpointError) in
      try digester.add(bytes, at: delivery.offset)
      try tensors.add(bytes, at: delivery.offset, piece.result.errors, to: index)
    }
  }
}

/// The running digests of a file's tensors: half a kilobyte for each that has begun.
private struct TensorTable {
  private final class Open {
    var digester = XXH3Digester()
    var errors = RecodingErrors()
    /// How much has been taken in without a gap, from the start of the file.
    var position: Int
    /// Ranges that came before their turn, by their start: tensors that are joined of several come in the order of
    /// the source.
    var early: [Int: Int] = [:]

    init(position: Int) { self.position = position }
  }

  private var open: [Int: Open] = [:]
  private let file: ShardPlan.File
  private let output: OutputFile

  init(_ file: ShardPlan.File, _ output: OutputFile) {
    self.file = file
    self.output = output
  }

  mutating func add(
    _ bytes: RawSpan, at offset: Int, _ errors: RecodingErrors, to index: Int
  ) throws(CheckpointError) {
    let entry = open[index] ?? Open(position: file.tensors[index].offset)
    open[index] = entry
    entry.errors.merge(errors)
    guard offset == entry.position || !output.isKept else {
      entry.early[offset] = offset + bytes.byteCount
      return
    }
    entry.digester.update(bytes)
    entry.position += bytes.byteCount
    guard output.isKept, entry.early[entry.position] != nil else { return }
    while let end = entry.early.removeValue(forKey: entry.position) {
      while entry.position < end {
        let some = try output.readBytes(entry.position..<min(end, entry.position + 1 << 20))
        entry.digester.update(some)
        entry.position += some.count
      }
    }
  }

  consuming func finish() -> [TensorReport] {
    file.tensors.indices.map { index in
      let entry = open[index] ?? Open(position: file.tensors[index].offset)
      precondition(
        !output.isKept || entry.position == file.tensors[index].offset + file.tensors[index].bytes,
        "\(file.tensors[index].name) was not hashed to its end")
      return TensorReport(xxh3: entry.digester.finalize(), errors: entry.errors)
    }
  }
}
