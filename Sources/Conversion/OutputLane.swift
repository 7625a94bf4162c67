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
  /// Where the file is while it is being written; `nil` if it is not kept.
  let path: String?
  let header: [UInt8]
  /// The index of the file's first tensor among all targets.
  let firstTarget: Int
  let meter: Meter
  let pieces = AsyncChannel<Piece>()

  /// Runs until the channel is finished.
  func run() async throws -> LaneReport {
    var digester = FileDigester(path: path)
    try unsafe digester.add(header.span.bytes, at: 0)
    // Every stretch that no tensor covers is padding, known beforehand.
    var end = header.count
    for tensor in file.tensors {
      if tensor.offset > end { try digester.addZeros(tensor.offset - end, at: end) }
      end = tensor.offset + tensor.bytes
    }
    if file.bytes > end { try digester.addZeros(file.bytes - end, at: end) }

    var tensors = TensorTable(count: file.tensors.count)
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
      tensors.add(bytes, piece.result.errors, to: index)
    }
  }
}

/// The running digests of a file's tensors: half a kilobyte for each that has begun.
private struct TensorTable {
  private final class Open {
    var digester = XXH3Digester()
    var errors = ErrorSums()
  }

  private var open: [Int: Open] = [:]
  private let count: Int

  init(count: Int) { self.count = count }

  mutating func add(_ bytes: RawSpan, _ errors: ErrorSums, to index: Int) {
    let entry = open[index] ?? Open()
    entry.digester.update(bytes)
    entry.errors.merge(errors)
    open[index] = entry
  }

  consuming func finish() -> [TensorReport] {
    (0..<count).map { index in
      let entry = open[index] ?? Open()
      return TensorReport(xxh3: entry.digester.finalize(), errors: entry.errors)
    }
  }
}
