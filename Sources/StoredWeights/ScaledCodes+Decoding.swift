internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import TensorFormats

extension ScaledCodes {
  /// Decodes rows of one matrix.
  ///
  /// - Parameter values: Receives `rows.count` × ``columns`` values, row-major.
  /// - Throws: What reading throws; `.malformed` for an index of columns that names no group, and for a scale that is
  ///   not a number.
  /// - Complexity: O(elements); a transposed weight is read in as many pieces as it has words per column.
  func decode(
    _ rows: Range<Int>, matrix: Int, in checkpoint: Checkpoint, into values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    let reader = ComponentReader(codes: self, checkpoint: checkpoint, matrix: matrix)
    let scales = try reader.scales(of: rows)
    let zeros = try reader.zeros(of: rows)
    let groupOfColumn = try reader.groupOfColumn()
    var codes = try reader.codes(of: rows)
    let firstScaleRow = rows.lowerBound / scaleHeight
    for row in rows {
      let scaleStart = (row / scaleHeight - firstScaleRow) * groups
      let start = (row - rows.lowerBound) * columns
      try codes.decodeRow(row - rows.lowerBound)
      for column in 0..<columns {
        let group = scaleStart + groupOfColumn[column]
        let value = codes.row[column]
        values[start + column] = (zeros.isEmpty ? value : value - zeros[group]) * scales[group]
      }
    }
  }
}

/// Reads the components of one matrix.
private struct ComponentReader {
  let codes: ScaledCodes
  let checkpoint: Checkpoint
  let matrix: Int

  private func source(_ tensor: Checkpoint.Tensor) -> any ByteSource { checkpoint.files[tensor.file].source }

  /// The bytes of a range of one matrix of a tensor.
  private func bytes(
    _ tensor: Checkpoint.Tensor, _ range: Range<Int>
  ) throws(CheckpointError) -> [UInt8] {
    let start = tensor.byteRange.lowerBound + matrix * (tensor.byteRange.count / codes.matrixCount)
    return try source(tensor).readBytes(start + range.lowerBound..<start + range.upperBound)
  }

  /// A box of a matrix `[height, width]` of elements of that many bytes, row-major.
  private func box(
    _ tensor: Checkpoint.Tensor, rows: Range<Int>, columns: Range<Int>, width: Int, bytes size: Int
  ) throws(CheckpointError) -> [UInt8] {
    if columns == 0..<width {
      return try bytes(tensor, rows.lowerBound * width * size..<rows.upperBound * width * size)
    }
    var result: [UInt8] = []
    result.reserveCapacity(rows.count * columns.count * size)
    for row in rows {
      result += try bytes(
        tensor, (row * width + columns.lowerBound) * size..<(row * width + columns.upperBound) * size)
    }
    return result
  }

  private func words(
    _ tensor: Checkpoint.Tensor, rows: Range<Int>, columns: Range<Int>, width: Int
  ) throws(CheckpointError) -> [UInt32] {
    let bytes = try box(tensor, rows: rows, columns: columns, width: width, bytes: 4)
    let span = unsafe bytes.span.bytes
    return stride(from: 0, to: bytes.count, by: 4).map {
      UInt32(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: $0, as: UInt32.self))
    }
  }

  // MARK: Scales

  /// The scales that some rows need, `[scale rows, groups]`.
  func scales(of rows: Range<Int>) throws(CheckpointError) -> [Float] {
    let tensor = codes.scales
    let size = tensor.elementType.block.bytes
    let values: [Float]
    if codes.isTransposed {
      values = transposed(
        try floats(
          try box(tensor, rows: 0..<codes.groups, columns: rows, width: codes.rows, bytes: size), tensor),
        rows: codes.groups)
    } else {
      values = try floats(
        try box(
          tensor, rows: scaleRows(of: rows), columns: 0..<codes.groups, width: codes.groups, bytes: size),
        tensor)
    }
    if values.contains(where: { !$0.isFinite }) {
      throw CheckpointError(
        .malformed,
        "a scale of matrix \(matrix), for rows \(rows.lowerBound) to \(rows.upperBound - 1), "
          + "is NaN or infinite", path: checkpoint.path(of: tensor), tensor: tensor.name)
    }
    return values
  }

  private func scaleRows(of rows: Range<Int>) -> Range<Int> {
    rows.lowerBound / codes.scaleHeight..<(rows.upperBound - 1) / codes.scaleHeight + 1
  }

  private func floats(
    _ bytes: [UInt8], _ tensor: Checkpoint.Tensor
  ) throws(CheckpointError) -> [Float] {
    guard let codec = BlockCodec.codec(for: tensor.elementType == .u8 ? .f8E8M0 : tensor.elementType) else {
      throw CheckpointError(
        .unsupported, "scales cannot be \(tensor.elementType)", path: checkpoint.path(of: tensor),
        tensor: tensor.name)
    }
    var values = [Float](repeating: 0, count: bytes.count / tensor.elementType.block.bytes)
    var span = values.mutableSpan
    try unsafe codec.decode(bytes.span.bytes, into: &span)
    return values
  }

  /// `[rows, n]` as `[n, rows]`.
  private func transposed(_ values: [Float], rows: Int) -> [Float] {
    let columns = rows == 0 ? 0 : values.count / rows
    var result = [Float](repeating: 0, count: values.count)
    for row in 0..<rows {
      for column in 0..<columns { result[column * rows + row] = values[row * columns + column] }
    }
    return result
  }

  // MARK: Zero points

  /// The zero points that some rows need, laid out like their scales; empty if all are 0.
  func zeros(of rows: Range<Int>) throws(CheckpointError) -> [Float] {
    let groups = codes.groups
    switch codes.zeros {
    case .constant(0): return []
    case .constant(let zero):
      return [Float](repeating: Float(zero), count: scaleRows(of: rows).count * groups)
    case .elements(let tensor):
      let bytes = try box(
        tensor, rows: scaleRows(of: rows), columns: 0..<groups, width: groups,
        bytes: tensor.elementType.block.bytes)
      return integers(bytes, tensor.elementType).map(Float.init)
    case .wordsOfRows(let tensor, let packing):
      let first = packing.start(of: rows.lowerBound) / 32
      let last = (packing.start(of: rows.upperBound - 1) + packing.bits - 1) / 32
      let words = try words(tensor, rows: first..<last + 1, columns: 0..<groups, width: groups)
      return rows.flatMap { row in
        let (word, shift) = packing.start(of: row).quotientAndRemainder(dividingBy: 32)
        return (0..<groups).map { group in
          Float(
            DenseCodes.code(
              words[(word - first) * groups + group],
              shift + packing.bits > 32 ? words[(word + 1 - first) * groups + group] : 0, shift: shift,
              bits: packing.bits))
        }
      }
    case .transposed(let tensor, let bits, let added):
      // Whole periods of 32 codes, which are `bits` words.
      let period = rows.lowerBound / 32..<(rows.upperBound + 31) / 32
      let width = (codes.rows * bits + 31) / 32
      let wanted = period.lowerBound * bits..<min(width, period.upperBound * bits)
      let words = try words(tensor, rows: 0..<groups, columns: wanted, width: width)
      return rows.flatMap { row in
        (0..<groups).map { group in
          let start = group * wanted.count * 32 + (row - period.lowerBound * 32) * bits
          return Float(DenseCodes.code(words, at: start, bits: bits) + added)
        }
      }
    case .awq(let tensor):
      let wanted = rows.lowerBound / 8..<(rows.upperBound + 7) / 8
      let words = try words(tensor, rows: 0..<groups, columns: wanted, width: codes.rows / 8)
      return rows.flatMap { row in
        (0..<groups).map { group in
          Float(AWQOrder.code(words[group * wanted.count + row / 8 - wanted.lowerBound], row % 8))
        }
      }
    }
  }

  private func integers(_ bytes: [UInt8], _ type: ElementType) -> [Int] {
    switch type {
    case .i8: return bytes.map { Int(Int8(bitPattern: $0)) }
    case .i32:
      let span = unsafe bytes.span.bytes
      return stride(from: 0, to: bytes.count, by: 4).map {
        Int(Int32(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: $0, as: Int32.self)))
      }
    default: return bytes.map(Int.init)
    }
  }

  // MARK: Groups

  /// The group of each column.
  func groupOfColumn() throws(CheckpointError) -> [Int] {
    guard let tensor = codes.groupIndex else { return (0..<codes.columns).map { $0 / codes.groupLength } }
    let shared = tensor.shape.rank == 1
    let count = codes.columns * 4
    let start = tensor.byteRange.lowerBound + (shared ? 0 : matrix * count)
    let groups = integers(try source(tensor).readBytes(start..<start + count), .i32)
    if groups.allSatisfy({ $0 == -1 }) { return (0..<codes.columns).map { $0 / codes.groupLength } }
    for (column, group) in groups.enumerated() where !(0..<codes.groups).contains(group) {
      throw CheckpointError(
        .malformed, "column \(column) is in group \(group), but there are only \(codes.groups)",
        path: checkpoint.path(of: tensor), tensor: tensor.name)
    }
    return groups
  }

  // MARK: Codes

  /// The codes of some rows.
  func codes(of rows: Range<Int>) throws(CheckpointError) -> RowCodeReader {
    let tensor = codes.codes
    let columns = codes.columns
    switch codes.packing {
    case .elements:
      let size = tensor.elementType.block.bytes
      let bytes = try box(tensor, rows: rows, columns: 0..<columns, width: columns, bytes: size)
      return RowCodeReader(columns: columns, content: .elements(bytes, tensor.elementType))
    case .words(let packing):
      let width = packing.words(for: columns)
      let words = try words(tensor, rows: rows, columns: 0..<width, width: width)
      return RowCodeReader(columns: columns, content: .words(words, width: width, packing))
    case .transposed(let bits):
      let height = (columns * bits + 31) / 32
      let words = try words(tensor, rows: 0..<height, columns: rows, width: codes.rows)
      return RowCodeReader(columns: columns, content: .transposed(words, width: rows.count, bits: bits))
    case .awq:
      let wanted = rows.lowerBound / 8..<(rows.upperBound + 7) / 8
      let words = try words(tensor, rows: 0..<columns, columns: wanted, width: codes.rows / 8)
      return RowCodeReader(
        columns: columns, content: .awq(words, width: wanted.count, first: rows.lowerBound % 8))
    }
  }
}

// MARK: - Codes of some rows

/// Stored codes, decoded one row at a time.
private struct RowCodeReader {
  enum Content {
    case elements([UInt8], ElementType)
    /// Rows of `width` words.
    case words([UInt32], width: Int, WordPacking)
    /// A column of words for each row.
    case transposed([UInt32], width: Int, bits: Int)
    /// A row of words for each column; `first` is the first row's position in its word.
    case awq([UInt32], width: Int, first: Int)
  }

  private let content: Content
  /// The last decoded row.
  private(set) var row: [Float]

  init(columns: Int, content: Content) {
    self.content = content
    row = [Float](repeating: 0, count: columns)
  }

  /// - Parameter index: Counted from the first row held.
  mutating func decodeRow(_ index: Int) throws(CheckpointError) {
    let columns = row.count
    switch content {
    case .elements(let bytes, let type):
      let start = index * columns * type.block.bytes
      switch type {
      case .i8: for column in 0..<columns { row[column] = Float(Int8(bitPattern: bytes[start + column])) }
      case .u8: for column in 0..<columns { row[column] = Float(bytes[start + column]) }
      default:
        guard let codec = BlockCodec.codec(for: type) else {
          throw CheckpointError(.unsupported, "\(type) does not hold supported codes")
        }
        let stored = unsafe bytes.span.bytes.extracting(start..<start + columns * type.block.bytes)
        var span = row.mutableSpan
        try codec.decode(stored, into: &span)
      }
    case .words(let words, let width, let packing):
      for column in 0..<columns {
        let (word, shift) = packing.start(of: column).quotientAndRemainder(dividingBy: 32)
        let place = index * width + word
        row[column] = Float(
          DenseCodes.code(
            words[place], shift + packing.bits > 32 ? words[place + 1] : 0, shift: shift, bits: packing.bits))
      }
    case .transposed(let words, let width, let bits):
      for column in 0..<columns {
        let (word, shift) = (column * bits).quotientAndRemainder(dividingBy: 32)
        let next = shift + bits > 32 ? words[(word + 1) * width + index] : 0
        row[column] = Float(DenseCodes.code(words[word * width + index], next, shift: shift, bits: bits))
      }
    case .awq(let words, let width, let first):
      let (word, place) = (first + index).quotientAndRemainder(dividingBy: 8)
      for column in 0..<columns { row[column] = Float(AWQOrder.code(words[column * width + word], place)) }
    }
  }
}

/// Codes that follow each other without gaps, lowest bits first.
private enum DenseCodes {
  static func code(_ words: [UInt32], at bit: Int, bits: Int) -> Int {
    let (word, shift) = bit.quotientAndRemainder(dividingBy: 32)
    return code(words[word], shift + bits > 32 ? words[word + 1] : 0, shift: shift, bits: bits)
  }

  /// A code that begins in a word at some bit, and may end in the next.
  static func code(_ word: UInt32, _ next: UInt32, shift: Int, bits: Int) -> Int {
    var code = word >> UInt32(shift)
    if shift + bits > 32 { code |= next << UInt32(32 - shift) }
    return Int(code & (UInt32(1) << UInt32(bits) &- 1))
  }
}

/// The order in which AutoAWQ packs eight neighbours into a word.
private enum AWQOrder {
  /// The nibble of the word that holds each neighbour.
  private static let places: [UInt32] = [0, 4, 1, 5, 2, 6, 3, 7]

  static func code(_ word: UInt32, _ neighbour: Int) -> Int { Int(word >> (places[neighbour] * 4) & 15) }
}

// MARK: - As bytes

/// The values of a weight of ``ScaledCodes`` as an F32 tensor, decoded when read.
struct DecodedSource: ByteSource {
  let codes: ScaledCodes
  let checkpoint: Checkpoint

  /// The most bytes of values that are decoded at a time.
  private static let stretch = 1 << 22

  var path: String { checkpoint.path(of: codes.codes) }
  var byteCount: Int { codes.shape.elementCount * 4 }

  func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    guard offset >= 0, buffer.byteCount <= byteCount - offset else {
      throw CheckpointError(
        .truncated, "\(buffer.byteCount) bytes were requested, \(max(0, byteCount - offset)) are left",
        path: path, offset: offset, tensor: codes.codes.name)
    }
    let rowBytes = codes.columns * 4
    var done = 0
    while done < buffer.byteCount {
      let position = offset + done
      let row = position / rowBytes
      let (matrix, first) = row.quotientAndRemainder(dividingBy: codes.rows)
      // Up to the end of the request, of the matrix, or of what is decoded at a time.
      let end = min(
        codes.rows, first + max(1, Self.stretch / rowBytes),
        first + (position - row * rowBytes + buffer.byteCount - done + rowBytes - 1) / rowBytes)
      var values = [Float](repeating: 0, count: (end - first) * codes.columns)
      do {
        var span = values.mutableSpan
        try codes.decode(first..<end, matrix: matrix, in: checkpoint, into: &span)
      }
      let skipped = position - row * rowBytes
      let count = min(buffer.byteCount - done, values.count * 4 - skipped)
      if UInt32(1).littleEndian != 1 {
        for index in values.indices {
          values[index] = Float(bitPattern: values[index].bitPattern.littleEndian)
        }
      }
      unsafe values.withUnsafeBytes { decoded in
        unsafe buffer.withUnsafeMutableBytes { target in
          unsafe UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: decoded[skipped..<skipped + count]))
        }
      }
      done += count
    }
  }
}
