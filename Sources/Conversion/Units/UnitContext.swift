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
  /// The importance matrix that the plan's names refer to.
  let importance: ImportanceMatrix?
  /// Codes made beforehand, which are not encoded here; `nil` if there are none.
  let prepared: (any PreparedCodes)?
  /// `nil` for a rehearsal, which keeps nothing.
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

  /// The error with a unit's file and tensor filled in, unless it names others.
  func locating(_ error: CheckpointError, _ unit: WorkUnit) -> CheckpointError {
    // File system errors about the output already have a path.
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
  /// The scale of its matrix as stored; 1 if there is none.
  let matrixScale: Float
  /// The scales of the matrices that share one with it in the output; 1 if there is none.
  let groupScales: [Float]
  /// What an earlier run wrote and recorded for it.
  let written: WrittenUnit?
}

/// An earlier run's result for a unit, as stored in the output.
struct WrittenUnit: Sendable {
  let record: UnitRecord
  /// In the order of the unit's deliveries.
  let deliveries: [BufferPool.Buffer]
}

/// A unit that has been made, and only has to be written and hashed in order.
struct ProcessedUnit: Sendable {
  let unit: WorkUnit
  /// The source's bytes, as they are in its file.
  let source: BufferPool.Buffer
  /// The same in little-endian order; nearly always the same buffer.
  let content: BufferPool.Buffer
  /// One result for each of the unit's deliveries.
  let results: [Result]
  /// Its journal record, once it is written; `nil` if it is already there.
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
  /// Calls `body` with the bytes to be written.
  ///
  /// - Parameter content: ``ProcessedUnit/content`` of the unit that this is a result of.
  func withBytes<Failure: Error, Value>(
    _ content: BufferPool.Buffer, _ body: (RawSpan) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    switch payload {
    case .content(let range): try body(content.bytes.extracting(range))
    case .recoded(let buffer): try body(buffer.bytes)
    }
  }
}
