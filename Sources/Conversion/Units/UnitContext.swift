internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Quantization
internal import QuantizationRecipes
internal import ShardPlanning
internal import TensorFormats

/// What all units of a run share.
struct UnitContext: Sendable {
  let checkpoint: Checkpoint
  let work: WorkList
  let outputs: [OutputFile]
  let pool: BufferPool
  let nonFinite: NonFinitePolicy
  /// What the plan's importance names are looked up in.
  let importance: ImportanceMatrix?
  /// What was made before, and is not encoded here; `nil` if nothing was.
  let prepared: (any PreparedCodes)?
  /// `nil` for a rehearsal, of which nothing is kept.
  let journal: Journal?

  /// The same elements in little-endian order.
  func littleEndian(
    _ source: BufferPool.Buffer, _ order: GGUFByteOrder, _ type: ElementType
  ) -> BufferPool.Buffer {
    guard order == .big else { return source }
    let swapped = pool.take(source.byteCount)
    swapped.fill { span in
      span.copy(source.bytes, to: 0)
      GGUFByteOrder.swapPayload(type, &span)
    }
    return swapped
  }

  /// The error with the file and the tensor that a unit is about, unless it names others.
  func locating(_ error: CheckpointError, _ unit: WorkUnit) -> CheckpointError {
    // What a file system says of the output has a path already.
    var named = error.at(path: checkpoint.files[unit.source.file].source.path)
    named.tensor = error.tensor ?? unit.deliveries.first.map { work.targets[$0.target].tensor.source.tensor }
    return named
  }
}

/// A unit whose bytes have been read.
struct FetchedUnit: Sendable {
  let unit: WorkUnit
  /// The source's bytes, as they are in its file.
  let source: BufferPool.Buffer
  /// The rows of scales that belong to its rows.
  let scales: BufferPool.Buffer?
  /// The scale of its matrix as it is stored; 1 where there is none.
  let matrixScale: Float
  /// Those of the matrices that share one with it in the output; 1 where there is none.
  let groupScales: [Float]
  /// What an earlier run wrote of it, and noted.
  let written: WrittenUnit?
}

/// What an earlier run made of a unit, as the output holds it.
struct WrittenUnit: Sendable {
  let record: UnitRecord
  /// In the order of the unit's deliveries.
  let deliveries: [BufferPool.Buffer]
}

/// A unit that has been made; what is left to do is to write it, and to hash it in order.
struct ProcessedUnit: Sendable {
  let unit: WorkUnit
  /// The source's bytes, as they are in its file.
  let source: BufferPool.Buffer
  /// The same in little-endian order; nearly always the same buffer.
  let content: BufferPool.Buffer
  /// One result for each of the unit's deliveries.
  let results: [Result]
  /// What the journal notes of it once it is written; `nil` if it is there already.
  var record: UnitRecord?

  struct Result: Sendable {
    let delivery: WorkUnit.Delivery
    let payload: Payload
    /// The difference between what was read and what the written bytes decode to.
    let errors: RecodingErrors
  }

  /// Where a delivery's bytes are.
  enum Payload: Sendable {
    /// In ``ProcessedUnit/content``: a copy.
    case content(Range<Int>)
    case recoded(BufferPool.Buffer)
  }
}

extension ProcessedUnit.Result {
  /// Where the bytes are that are written.
  ///
  /// - Parameter content: ``ProcessedUnit/content`` of the unit that this is a result of.
  func place(in content: BufferPool.Buffer) -> (buffer: BufferPool.Buffer, range: Range<Int>) {
    switch payload {
    case .content(let range): (content, range)
    case .recoded(let buffer): (buffer, 0..<buffer.byteCount)
    }
  }

  /// Shows `body` the bytes that are written.
  ///
  /// - Parameter content: ``ProcessedUnit/content`` of the unit that this is a result of.
  func withBytes<Failure: Error, Value>(
    _ content: BufferPool.Buffer, _ body: (RawSpan) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    let (buffer, range) = place(in: content)
    return try body(buffer.bytes.extracting(range))
  }
}
