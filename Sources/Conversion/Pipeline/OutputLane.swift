internal import ByteStreams
internal import ParallelWork
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
    /// The number of its unit.
    let unit: Int
    let permits: HeldPermits
  }

  let file: ShardPlan.File
  /// The file; what is written to it may be discarded.
  let output: OutputFile
  let header: [UInt8]
  /// The index of the file's first tensor among all targets.
  let firstTarget: Int
  /// The index of the source file with identical bytes, whose digests are this file's; `nil` for most.
  let twin: Int?
  let meter: Meter
  let input = LaneInput<Piece>()

  /// Runs until the input is finished.
  ///
  /// - Parameter whole: Called once the whole file has been written and hashed.
  func run(whole: () async throws -> Void) async throws -> LaneReport {
    var digester = FileDigester(writing: output)
    if twin == nil { try begin(&digester) }
    var tensors = TensorTable(file, output)
    var missing = file.tensors.reduce(0) { $0 + $1.bytes }
    if missing == 0 { try await whole() }
    for await piece in input.elements {
      try meter.measure { () throws(CheckpointError) in try take(piece, &digester, &tensors) }
      missing -= piece.result.delivery.byteCount
      if missing == 0, piece.result.delivery.byteCount > 0 { try await whole() }
    }
    // A cancelled task sees its input end early.
    try Task.checkCancellation()
    return LaneReport(
      digests: digester.finish(byteCount: twin == nil ? file.bytes : 0), tensors: tensors.finish())
  }

  /// Takes in what is known in advance: the header, and every range that no tensor covers, which is padding.
  private func begin(_ digester: inout FileDigester) throws(CheckpointError) {
    try unsafe digester.add(header.span.bytes, at: 0)
    var end = header.count
    for tensor in file.tensors {
      if tensor.offset > end { try digester.addZeros(tensor.offset - end, at: end) }
      end = tensor.offset + tensor.bytes
    }
    if file.bytes > end { try digester.addZeros(file.bytes - end, at: end) }
  }

  private func take(
    _ piece: Piece, _ digester: inout FileDigester, _ tensors: inout TensorTable
  ) throws(CheckpointError) {
    let delivery = piece.result.delivery
    let index = delivery.target - firstTarget
    try piece.result.withBytes(piece.content) { (bytes) throws(CheckpointError) in
      if twin == nil { try digester.add(bytes, at: delivery.offset) }
      try tensors.add(bytes, at: delivery.offset, to: index)
    }
    tensors.add(piece.result.errors, ofUnit: piece.unit, byteCount: delivery.byteCount, to: index)
  }
}

/// The running digests of a file's tensors: half a kilobyte for each that has begun.
private struct TensorTable {
  private final class Open {
    var digester = XXH3Digester()
    /// How much has been taken in without a gap, from the start of the file.
    var position: Int
    /// Ranges that came before their turn, by their start.
    var early: [Int: Int] = [:]
    /// The errors of the pieces so far, until all have arrived: sums are added in the order of the units, whatever
    /// order they arrive in.
    var pieces: [(unit: Int, errors: RecodingErrors)] = []
    var missing: Int
    var errors = RecodingErrors()

    init(_ tensor: ShardPlan.Tensor) {
      position = tensor.offset
      missing = tensor.bytes
    }
  }

  private var open: [Int: Open] = [:]
  private let file: ShardPlan.File
  private let output: OutputFile

  init(_ file: ShardPlan.File, _ output: OutputFile) {
    self.file = file
    self.output = output
  }

  private mutating func entry(_ index: Int) -> Open {
    if let entry = open[index] { return entry }
    let entry = Open(file.tensors[index])
    open[index] = entry
    return entry
  }

  mutating func add(_ bytes: RawSpan, at offset: Int, to index: Int) throws(CheckpointError) {
    let entry = entry(index)
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

  mutating func add(_ errors: RecodingErrors, ofUnit unit: Int, byteCount: Int, to index: Int) {
    let entry = entry(index)
    entry.pieces.append((unit, errors))
    entry.missing -= byteCount
    guard entry.missing == 0 else { return }
    for piece in entry.pieces.sorted(by: { $0.unit < $1.unit }) { entry.errors.merge(piece.errors) }
    entry.pieces = []
  }

  consuming func finish() -> [TensorReport] {
    file.tensors.indices.map { index in
      let entry = open[index] ?? Open(file.tensors[index])
      precondition(entry.missing == 0, "\(file.tensors[index].name) was not taken in completely")
      precondition(
        !output.isKept || entry.position == file.tensors[index].offset + file.tensors[index].bytes,
        "\(file.tensors[index].name) was not hashed completely")
      return TensorReport(xxh3: entry.digester.finalize(), errors: entry.errors)
    }
  }
}
