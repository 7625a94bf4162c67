internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import TensorFormats

/// Part of a tensor's bytes.
struct TensorPiece: Sendable {
  /// The index of the tensor in the list.
  let tensor: Int
  /// From the start of the tensor; whole blocks.
  let range: Range<Int>
  let isFirst: Bool
  let isLast: Bool
}

/// Cuts tensors into units of about equal size: a large tensor is many units, small ones share one.
struct PieceSequence: IteratorProtocol, Sendable {
  private let tensors: [Checkpoint.Tensor]
  private var tensor = 0
  private var offset = 0

  init(_ tensors: [Checkpoint.Tensor]) { self.tensors = tensors }

  /// The most pieces in one unit, so that empty tensors are bounded too.
  private static let pieceLimit = 256

  mutating func next() -> [TensorPiece]? {
    var pieces: [TensorPiece] = []
    var room = PieceReader.unitByteCount
    while tensor < tensors.count, pieces.count < Self.pieceLimit {
      let total = tensors[tensor].byteRange.count
      let block = tensors[tensor].elementType.block.bytes
      let length = min(total - offset, room / block * block)
      // The rest of a nearly full unit is left empty rather than filled with a fragment of the next tensor.
      if !pieces.isEmpty, length < total - offset { break }
      let end = offset + length
      pieces.append(
        TensorPiece(tensor: tensor, range: offset..<end, isFirst: offset == 0, isLast: end == total))
      room -= length
      if end < total {
        offset = end
        break
      }
      tensor += 1
      offset = 0
    }
    return pieces.isEmpty ? nil : pieces
  }
}

/// One thread's reusable buffers.
struct PieceReader {
  /// The bytes of a unit: large enough that a system call costs nothing, small enough for the caches.
  static let unitByteCount = 1 << 20

  private var raw = [UInt8](repeating: 0, count: unitByteCount)
  /// A copy in the machine's byte order, for big-endian files only: digests are those of the file's bytes.
  private var swapped: [UInt8] = []
  private var decoded = [Float](repeating: 0, count: TensorValues.decodedElementCount)
  /// Counts the values; `nil` if no distribution is requested.
  private var counter: ValueCounter?
  /// The range of each piece of the unit in `raw`.
  private var ranges: [Range<Int>] = []

  init(counting: Bool) { counter = counting ? ValueCounter() : nil }

  /// How much the unit holds.
  var byteCount: Int { ranges.last?.upperBound ?? 0 }

  /// Reads the pieces of one unit.
  mutating func read(_ pieces: [TensorPiece], of tensors: [Checkpoint.Tensor], in checkpoint: Checkpoint)
    throws(CheckpointError)
  {
    ranges.removeAll(keepingCapacity: true)
    var position = 0
    for piece in pieces {
      let tensor = tensors[piece.tensor]
      let range = position..<(position + piece.range.count)
      var span = raw.mutableSpan
      var all = unsafe span.mutableBytes
      var target = all._mutatingExtracting(range)
      try checkpoint.read(tensor, piece.range, into: &target)
      // Prefetch the next data while this unit is processed.
      let end = tensor.byteRange.lowerBound + piece.range.upperBound
      let ahead = min(tensor.byteRange.upperBound, end + 4 * Self.unitByteCount)
      if !piece.isLast, ahead > end { checkpoint.files[tensor.file].source.prefetch(end..<ahead) }
      ranges.append(range)
      position = range.upperBound
    }
  }

  /// The bytes of a piece as they are in the file.
  @_lifetime(borrow self)
  func bytes(_ index: Int) -> RawSpan { unsafe raw.span.bytes.extracting(ranges[index]) }

  /// The figures of a piece, and its distribution if counted.
  mutating func figures(_ index: Int, _ values: TensorValues?, swapping order: GGUFByteOrder)
    throws(CheckpointError) -> PieceFigures?
  {
    guard let values else { return nil }
    let range = ranges[index]
    if order == .big {
      swapped.removeAll(keepingCapacity: true)
      swapped += raw[range]
      var span = swapped.mutableSpan
      var bytes = unsafe span.mutableBytes
      TensorValues.makeLittleEndian(values.type, &bytes, from: order)
    }
    let statistics =
      order == .big
      ? try Self.statistics(swapped, 0..<range.count, values, decoded: &decoded, counter: &counter)
      : try Self.statistics(raw, range, values, decoded: &decoded, counter: &counter)
    return statistics.map { PieceFigures(statistics: $0, histogram: counter?.take()) }
  }

  private static func statistics(
    _ bytes: [UInt8], _ range: Range<Int>, _ values: TensorValues, decoded: inout [Float],
    counter: inout ValueCounter?
  ) throws(CheckpointError) -> ValueStatistics? {
    try values.statistics(
      unsafe bytes.span.bytes.extracting(range), decoded: &decoded, counter: &counter)
  }
}

/// The figures of some pieces.
struct PieceFigures: Sendable {
  var statistics: ValueStatistics
  /// `nil` if not requested.
  var histogram: ValueHistogram?

  /// Adds the figures of later pieces.
  mutating func merge(_ later: PieceFigures) {
    statistics.merge(later.statistics)
    if let part = later.histogram { histogram?.merge(part) }
  }
}
