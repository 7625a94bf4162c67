internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// How a module's tensors make up its weight, by the definition of the storage format.
///
/// Every form is (code - zero point) · scale, with its own way to find the code of element `[row, column]` of a matrix.
struct DefinedCodes: Sendable {
  /// How codes are laid out.
  enum Form: Hashable, Sendable {
    /// One code per element, at the element's place.
    case elements
    /// compressed-tensors: rows of 32-bit words, each code 2^(bits-1) too large. Words are dense, or hold whole codes.
    case words(bits: Int, isDense: Bool)
    /// GPTQ: the columns of `[columns, rows]` in words; zero points stored minus one unless `isPlain`.
    case gptq(bits: Int, isPlain: Bool)
    /// AWQ: the rows of `[columns, rows]` in words of eight, the even ones first.
    case awq
    /// Two E2M1 codes per byte, the even column in the low half.
    case pairs
  }

  /// What shares a scale.
  enum Spread: Hashable, Sendable {
    case everything, matrix, row
    case tile(rows: Int, columns: Int)
    /// Columns of a row; `count` groups of them.
    case group(count: Int)
  }

  /// How the scale of a matrix is applied.
  enum MatrixScale: Hashable, Sendable {
    case factor(Checkpoint.Tensor)
    case divisor(Checkpoint.Tensor)

    var tensor: Checkpoint.Tensor {
      switch self {
      case .factor(let tensor), .divisor(let tensor): tensor
      }
    }
  }

  var form: Form
  var spread: Spread
  /// Matrices of the stack, and the rows and columns of each.
  var matrices: Int
  var rows: Int
  var columns: Int
  var codes: Checkpoint.Tensor
  var scales: Checkpoint.Tensor
  /// Whether scale bytes are exponents.
  var areExponents = false
  var zeroPoints: Checkpoint.Tensor?
  /// The group of each column.
  var order: Checkpoint.Tensor?
  var matrixScale: MatrixScale?

  /// The tensors that make up the weight.
  var tensors: [Checkpoint.Tensor] {
    [codes, scales] + [zeroPoints, order, matrixScale?.tensor].compactMap { $0 }
  }
}

// MARK: - Reading

/// Reads single elements of a weight, reading only the pages that contain them.
struct DefinedCodesReader {
  private let layout: DefinedCodes
  private var codes: TensorPages
  private var scales: TensorPages
  private var zeroPoints: TensorPages?
  private var order: TensorPages?
  private var matrixScales: TensorPages?

  init(_ layout: DefinedCodes, in checkpoint: Checkpoint) {
    self.layout = layout
    codes = TensorPages(layout.codes, in: checkpoint)
    scales = TensorPages(layout.scales, in: checkpoint)
    zeroPoints = layout.zeroPoints.map { TensorPages($0, in: checkpoint) }
    order = layout.order.map { TensorPages($0, in: checkpoint) }
    matrixScales = layout.matrixScale.map { TensorPages($0.tensor, in: checkpoint) }
  }

  /// The value of one element; `nil` if readers of the format disagree about it.
  ///
  /// - Throws: What reading throws.
  mutating func value(matrix: Int, row: Int, column: Int) throws(CheckpointError) -> Double? {
    let group = try group(of: column, matrix: matrix)
    guard let zero = try zeroPoint(matrix: matrix, row: row, column: column, group: group) else { return nil }
    let code = try code(matrix: matrix, row: row, column: column)
    var scale = try scale(matrix: matrix, row: row, column: column, group: group)
    if let kind = layout.matrixScale, var pages = matrixScales {
      let index = layout.codes.shape.rank > 2 && kind.tensor.shape.elementCount > 1 ? matrix : 0
      let shared = try pages.number(index)
      matrixScales = pages
      scale = if case .divisor = kind { scale / shared } else { scale * shared }
    }
    return (code - zero) * scale
  }

  private mutating func code(matrix: Int, row: Int, column: Int) throws(CheckpointError) -> Double {
    let (rows, columns) = (layout.rows, layout.columns)
    switch layout.form {
    case .elements: return try codes.number((matrix * rows + row) * columns + column)
    case .words(let bits, let isDense):
      let length = layout.codes.shape.columns
      let code = try codes.code(
        column, bits: bits, isDense: isDense, from: (matrix * rows + row) * length, stride: 1)
      return Double(code) - Double(1 << (bits - 1))
    case .gptq(let bits, _):
      let length = layout.codes.shape.elementCount / (layout.matrices * rows)
      return Double(
        try codes.code(column, bits: bits, isDense: true, from: matrix * length * rows + row, stride: rows))
    case .awq:
      let word = (matrix * columns + column) * (rows / 8) + row / 8
      return Double(try codes.word(word) >> (4 * Self.awqPlace(row)) & 15)
    case .pairs:
      let byte = try codes.raw(((matrix * rows + row) * columns + column) / 2)
      return DefinedNumber.fourBits[Int(column % 2 == 0 ? byte & 15 : byte >> 4)]
    }
  }

  /// Which nibble of its word a row has.
  private static func awqPlace(_ row: Int) -> Int { [0, 4, 1, 5, 2, 6, 3, 7][row % 8] }

  private mutating func group(of column: Int, matrix: Int) throws(CheckpointError) -> Int {
    guard case .group(let count) = layout.spread else { return 0 }
    if let tensor = layout.order, var pages = order {
      let isShared = tensor.shape.elementCount == layout.columns
      let group = Int(try pages.number((isShared ? 0 : matrix * layout.columns) + column))
      order = pages
      guard (0..<count).contains(group) else {
        throw CheckpointError(
          .malformed, "column \(column) is in group \(group), but there are only \(count) groups",
          tensor: tensor.name)
      }
      return group
    }
    return column / ((layout.columns - 1) / count + 1)
  }

  private mutating func scale(
    matrix: Int, row: Int, column: Int, group: Int
  ) throws(CheckpointError) -> Double {
    let index = position(matrix: matrix, row: row, column: column, group: group)
    return layout.areExponents ? DefinedNumber.exponent(try scales.raw(index)) : try scales.number(index)
  }

  /// The index of an element's scale.
  private func position(matrix: Int, row: Int, column: Int, group: Int) -> Int {
    switch layout.spread {
    case .everything: return 0
    case .matrix: return matrix
    case .row: return matrix * layout.rows + row
    case .tile(let height, let width):
      let (down, across) = ((layout.rows - 1) / height + 1, (layout.columns - 1) / width + 1)
      return (matrix * down + row / height) * across + column / width
    case .group(let count):
      switch layout.form {
      case .gptq, .awq: return (matrix * count + group) * layout.rows + row
      default: return (matrix * layout.rows + row) * count + group
      }
    }
  }

  /// The zero point; `nil` for GPTQ's largest, which only some readers wrap around.
  private mutating func zeroPoint(
    matrix: Int, row: Int, column: Int, group: Int
  ) throws(CheckpointError) -> Double? {
    guard let tensor = layout.zeroPoints, var pages = zeroPoints else { return 0 }
    defer { zeroPoints = pages }
    let count = if case .group(let count) = layout.spread { count } else { 1 }
    switch layout.form {
    case .words(let bits, let isDense) where tensor.elementType == .i32:
      let length = tensor.shape.elementCount / (layout.matrices * count)
      let code = try pages.code(
        row, bits: bits, isDense: isDense, from: matrix * length * count + group, stride: count)
      return Double(code) - Double(1 << (bits - 1))
    case .gptq(let bits, let isPlain):
      let code = try pages.code(
        row, bits: bits, isDense: true, from: (matrix * count + group) * tensor.shape.columns, stride: 1)
      if !isPlain, code == 1 << bits - 1 { return nil }
      return Double(code) + (isPlain ? 0 : 1)
    case .awq:
      let word = try pages.word((matrix * count + group) * tensor.shape.columns + row / 8)
      return Double(word >> (4 * Self.awqPlace(row)) & 15)
    default:
      return try pages.number(position(matrix: matrix, row: row, column: column, group: group))
    }
  }
}

/// The bytes of a tensor, a page at a time.
private struct TensorPages {
  private static let pageBytes = 4096

  private let tensor: Checkpoint.Tensor
  private let source: any ByteSource
  private var page: [UInt8] = []
  private var first = 0

  init(_ tensor: Checkpoint.Tensor, in checkpoint: Checkpoint) {
    self.tensor = tensor
    source = checkpoint.files[tensor.file].source
  }

  /// The bits of an element.
  mutating func raw(_ index: Int) throws(CheckpointError) -> UInt64 {
    let width = tensor.elementType.block.bytes
    let start = index * width
    guard start >= 0, start + width <= tensor.byteRange.count else {
      throw CheckpointError(
        .malformed, "has no element \(index)", path: source.path, tensor: tensor.name)
    }
    if !(first..<first + page.count).contains(start) {
      first = start / Self.pageBytes * Self.pageBytes
      let end = min(first + Self.pageBytes, tensor.byteRange.count)
      let base = tensor.byteRange.lowerBound
      page = try source.readBytes(base + first..<base + end)
    }
    return (0..<width).reduce(0) { $0 | UInt64(page[start - first + $1]) << UInt64(8 * $1) }
  }

  /// The value of an element.
  mutating func number(_ index: Int) throws(CheckpointError) -> Double {
    guard let value = DefinedNumber.value(try raw(index), as: tensor.elementType) else {
      throw CheckpointError(
        .unsupported, "\(tensor.elementType) is not a type of numbers", path: source.path, tensor: tensor.name
      )
    }
    return value
  }

  mutating func word(_ index: Int) throws(CheckpointError) -> UInt64 { try raw(index) }

  /// The code with that index in the words `from`, `from + stride`, ..., lowest bits first.
  mutating func code(
    _ index: Int, bits: Int, isDense: Bool, from: Int, stride: Int
  ) throws(CheckpointError) -> UInt64 {
    let place = isDense ? index * bits : index / (32 / bits) * 32 + index % (32 / bits) * bits
    var found = try word(from + place / 32 * stride) >> UInt64(place % 32)
    if place % 32 + bits > 32 {
      found |= try word(from + (place / 32 + 1) * stride) << UInt64(32 - place % 32)
    }
    return found & (1 << bits - 1)
  }
}
