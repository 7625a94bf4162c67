internal import ByteStreams
internal import Checkpoint
internal import ParallelWork
internal import Quantization
internal import QuantizationRecipes
internal import ShardPlanning
internal import StoredWeights
internal import Synchronization
internal import TensorFormats

/// A tensor whose format is to be chosen.
struct MeasuredTensor: Sendable {
  /// Its name in GGUF.
  let name: String
  /// Where its values come from.
  let slice: ShardPlan.Slice
  /// The formats that it fits into.
  let formats: [ElementType]
  /// Its name in the importance matrix; `nil` if not covered.
  let importance: String?
  /// The sampled rows.
  let sample: RowSample

  /// Whether its bytes could be kept in a format.
  func isSource(_ format: ElementType) -> Bool { slice.elementType == format && slice.scaling == nil }

  init(_ tensor: ShardPlan.Tensor, formats: [ElementType], importance: String?) {
    name = tensor.name
    slice = tensor.source
    self.formats = formats
    self.importance = importance
    let dimensions = slice.extent
    let (rows, columns) = (dimensions[dimensions.count - 2], dimensions[dimensions.count - 1])
    let matrices = dimensions.count == 3 ? dimensions[0] : 1
    sample = RowSample(
      named: name, matrices: matrices, rows: rows,
      wanted: max(2 * matrices, min(Self.mostRows, max(Self.fewestRows, Self.elements / max(1, columns)))))
  }

  /// The approximate number of sampled elements, and limits on the number of rows.
  private static let (elements, fewestRows, mostRows) = (1 << 18, 64, 256)
}

/// A tensor's error in each of its formats: the expected squared error of its output relative to the expected square
/// of that, both over the sampled rows.
///
/// Without an importance matrix all columns count alike, which is the squared error of the weights. With one, a column
/// counts by the mean square of its input (products of different columns are ignored), and an expert by the tokens
/// routed to it.
struct FormatErrors: Sendable {
  /// In the order of the tensor's formats. Not finite if a format cannot hold a value.
  let relative: [Double]

  /// Measures tensors by encoding rows and decoding them again, as a conversion does.
  ///
  /// The order of summation depends only on the tensors.
  /// - Parameters:
  ///   - checkpoint: The checkpoint that the tensors' slices refer to.
  ///   - begin: Called with the bytes that will be read.
  /// - Throws: `.nonFinite` for a weight that is not a number, naming it; what reading and decoding throw.
  static func measure(
    _ tensors: [MeasuredTensor], in checkpoint: Checkpoint, importance: ImportanceMatrix?, threads: Int,
    allowNonFinite: Bool, begin: (Int) -> WorkMonitor
  ) throws -> (errors: [FormatErrors], bytes: Int) {
    let units = tensors.indices.flatMap { Unit.dividing($0, tensors[$0].sample) }
    let rowBytes = try tensors.map { tensor throws(CheckpointError) in
      try RowDecoder(tensor.slice.stored, in: checkpoint).rowBytes
    }
    let bytes = units.reduce(0) { $0 + $1.rows.count * rowBytes[$1.tensor] }
    let monitor = begin(bytes)
    let sums = Mutex([Sums?](repeating: nil, count: units.count))
    try ParallelWork.forEach(below: units.count, threads: threads, scratch: { Buffers() }) { index, buffers in
      let unit = units[index]
      let tensor = tensors[unit.tensor]
      monitor.item(tensor.name)
      let found = try Sums(
        unit, of: tensor, in: checkpoint, importance: importance, allowNonFinite: allowNonFinite, &buffers)
      sums.withLock { $0[index] = found }
      monitor.advance(unit.rows.count * rowBytes[unit.tensor])
    }
    var totals = tensors.map { Totals(formats: $0.formats.count) }
    sums.withLock { sums in
      for (unit, sum) in zip(units, sums) { if let sum { totals[unit.tensor].add(sum, of: unit) } }
    }
    let errors = zip(tensors, totals).map { tensor, total in
      FormatErrors(
        relative: total.relative(tokens: tensor.importance.flatMap { importance?.counts(for: $0) }))
    }
    return (errors, bytes)
  }
}

// MARK: - Units

/// Some rows of one matrix.
private struct Unit: Sendable {
  /// The index of its tensor.
  let tensor: Int
  let matrix: Int
  /// Counted in the matrix.
  let rows: [Int]

  /// The most rows in memory at a time, for each thread.
  private static let mostRows = 16

  static func dividing(_ tensor: Int, _ sample: RowSample) -> [Unit] {
    sample.runs.flatMap { run in
      stride(from: 0, to: run.rows.count, by: mostRows).map { start in
        Unit(
          tensor: tensor, matrix: run.matrix,
          rows: Array(run.rows[start..<min(start + mostRows, run.rows.count)]))
      }
    }
  }
}

/// A thread's buffers.
private struct Buffers {
  var stored = StoredRows()
  var values: [Float] = []
  var restored: [Float] = []
  var encoded: [UInt8] = []
}

/// Sums over the rows of a unit.
private struct Sums: Sendable {
  /// The sum of squared values, weighted by their columns.
  var energy = 0.0
  /// The sum of squared errors in each format, with the same weights.
  var errors: [Double]

  init(
    _ unit: Unit, of tensor: MeasuredTensor, in checkpoint: Checkpoint, importance: ImportanceMatrix?,
    allowNonFinite: Bool, _ buffers: inout Buffers
  ) throws(CheckpointError) {
    errors = Array(repeating: 0, count: tensor.formats.count)
    do throws(CheckpointError) {
      let slice = tensor.slice
      let columns = slice.extent[slice.extent.count - 1]
      let isStack = slice.extent.count == 3
      let weights = try tensor.importance.flatMap { name throws(CheckpointError) in
        try importance?.weights(for: name, columns: columns, expert: isStack ? unit.matrix : nil)
      }
      let count = try Self.read(unit, slice, checkpoint, allowNonFinite: allowNonFinite, &buffers)
      let elements = count * columns
      energy = Self.weighted(elements, columns, weights) { buffers.values[$0] }
      for (index, format) in tensor.formats.enumerated() where !tensor.isSource(format) {
        guard let codec = BlockCodec.codec(for: format), elements > 0,
          let bytes = format.block.byteCount(ofElements: elements)
        else { continue }
        if buffers.encoded.count < bytes { buffers.encoded = [UInt8](repeating: 0, count: bytes) }
        if buffers.restored.count < elements { buffers.restored = [Float](repeating: 0, count: elements) }
        try Self.encode(buffers.values, elements, columns, weights, codec, into: &buffers.encoded, bytes)
        try Self.decode(buffers.encoded, bytes, codec, into: &buffers.restored, elements)
        errors[index] = Self.weighted(elements, columns, weights) {
          buffers.values[$0] - buffers.restored[$0]
        }
      }
    } catch {
      var named = error.at(path: checkpoint.files[tensor.slice.file].source.path)
      if named.tensor == nil { named.tensor = tensor.slice.tensor }
      throw named
    }
  }

  private static func encode(
    _ values: [Float], _ elements: Int, _ columns: Int, _ weights: [Float]?, _ codec: BlockCodec,
    into encoded: inout [UInt8], _ bytes: Int
  ) throws(CheckpointError) {
    var span = encoded.mutableSpan
    var all = unsafe span.mutableBytes
    var target = all._mutatingExtracting(0..<bytes)
    try codec.encode(
      values.span.extracting(0..<elements), columns: columns, importance: weights?.span, into: &target)
  }

  private static func decode(
    _ encoded: [UInt8], _ bytes: Int, _ codec: BlockCodec, into values: inout [Float], _ elements: Int
  ) throws(CheckpointError) {
    var span = values.mutableSpan
    var target = span._mutatingExtracting(0..<elements)
    try unsafe codec.decode(encoded.span.bytes.extracting(0..<bytes), into: &target)
  }

  /// Reads and decodes the rows.
  ///
  /// - Returns: How many rows are finite.
  private static func read(
    _ unit: Unit, _ slice: ShardPlan.Slice, _ checkpoint: Checkpoint, allowNonFinite: Bool,
    _ buffers: inout Buffers
  ) throws(CheckpointError) -> Int {
    let rank = slice.extent.count
    let columns = slice.extent[rank - 1]
    let matrix = try StoredMatrix(
      slice.stored, in: checkpoint, matrix: unit.matrix + (rank == 3 ? slice.origin[0] : 0),
      firstRow: slice.origin[rank - 2])
    if buffers.values.count < unit.rows.count * columns {
      buffers.values = [Float](repeating: 0, count: unit.rows.count * columns)
    }
    var count = 0
    for row in unit.rows {
      try matrix.read(row..<row + 1, into: &buffers.stored)
      let place = count * columns..<(count + 1) * columns
      try Self.decode(buffers.stored, of: matrix, into: &buffers.values, place)
      if let column = FiniteCheck.firstNonFinite(buffers.values.span.extracting(place)) {
        guard allowNonFinite else {
          throw CheckpointError(
            .nonFinite,
            "the weight in row \(row), column \(column) is \(buffers.values[place.lowerBound + column])",
            remedy: "give --allow-nonfinite to choose without such rows")
        }
        continue
      }
      count += 1
    }
    return count
  }

  private static func decode(
    _ stored: StoredRows, of matrix: StoredMatrix, into values: inout [Float], _ place: Range<Int>
  ) throws(CheckpointError) {
    var span = values.mutableSpan
    var target = span._mutatingExtracting(place)
    try matrix.decode(stored, into: &target)
  }

  private static func weighted(
    _ elements: Int, _ columns: Int, _ weights: [Float]?, _ value: (Int) -> Float
  ) -> Double {
    var sum = 0.0
    guard let weights else {
      for index in 0..<elements {
        let value = Double(value(index))
        sum += value * value
      }
      return sum
    }
    for row in stride(from: 0, to: elements, by: columns) {
      for column in 0..<columns {
        let value = Double(value(row + column))
        sum += Double(weights[column]) * value * value
      }
    }
    return sum
  }
}

/// Sums over a tensor, matrix by matrix.
private struct Totals {
  private struct Matrix {
    var rows = 0
    var energy = 0.0
    var errors: [Double]
  }

  private let formats: Int
  private var matrices: [(number: Int, sums: Matrix)] = []

  init(formats: Int) { self.formats = formats }

  /// Units come in the order of their matrices.
  mutating func add(_ sums: Sums, of unit: Unit) {
    if matrices.last?.number != unit.matrix {
      matrices.append((unit.matrix, Matrix(errors: Array(repeating: 0, count: formats))))
    }
    let last = matrices.count - 1
    matrices[last].sums.rows += unit.rows.count
    matrices[last].sums.energy += sums.energy
    for format in 0..<formats { matrices[last].sums.errors[format] += sums.errors[format] }
  }

  /// - Parameter tokens: How many tokens were routed to each matrix, if known.
  func relative(tokens: [Float]?) -> [Double] {
    var energy = 0.0
    var errors = [Double](repeating: 0, count: formats)
    for (number, sums) in matrices {
      // One extra token keeps an unused expert from counting for nothing.
      let tokens = tokens.map { Double($0.count == 1 ? $0[0] : $0[number]) + 1 } ?? 1
      let share = tokens / Double(max(1, sums.rows))
      energy += share * sums.energy
      for format in 0..<formats { errors[format] += share * sums.errors[format] }
    }
    return errors.map { $0 == 0 ? 0 : $0 / energy }
  }
}
