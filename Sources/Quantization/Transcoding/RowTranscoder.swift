public import TensorFormats

/// Re-encodes rows of one element type as another, and measures what is lost.
///
/// Works through tiles of about 16,384 elements that stay in the processor's cache: decode to F32, look for NaN and
/// infinity, encode, decode back, compare. A tile is a number of whole rows where rows are short; rows are cut (at
/// multiples of 8,192 elements, a multiple of every block) only where they are longer than that and no importance
/// matrix is given, because the weighted searches of some formats take statistics over the whole row. Formats without a
/// search take a tile in pieces of 2,048 elements, which stay in the first-level cache from step to step.
///
/// The value is immutable; threads share it, each with a ``Scratch`` of its own. The bytes written depend on neither
/// the tier nor how the rows are divided among calls.
public struct RowTranscoder: Sendable {
  /// The element type read.
  public let source: ElementType
  /// The element type written.
  public let target: ElementType
  /// The elements of a row.
  public let columns: Int

  private let decoder: BlockCodec
  private let encoder: BlockCodec
  private let importance: [Float]?
  private let tier: KernelTier
  private let sourceRowBytes: Int
  private let targetRowBytes: Int
  private let tile: Tile
  /// No value up to this magnitude is beyond the target's range.
  private let largest: Float

  /// The buffers that one thread needs while it transcodes; make them once, use them for many calls.
  public struct Scratch: Sendable {
    fileprivate var values: [Float]
    fileprivate var restored: [Float]

    /// The bytes that the buffers take.
    public var byteCount: Int { (values.count + restored.count) * MemoryLayout<Float>.stride }
  }

  /// Prepares for rows of `columns` elements.
  ///
  /// - Parameters:
  ///   - source: The element type read.
  ///   - target: The element type written.
  ///   - columns: The elements of a row, a whole number of blocks of both types.
  ///   - importance: One weight per column, finite and not negative; ignored by formats that have no use for it.
  ///   - tier: The kernels to use.
  /// - Throws: `.unsupported` if one type cannot be read or the other not be written (or not without an importance
  ///   matrix), `.malformed` if rows are not a whole number of blocks or the importance matrix does not fit.
  public init(
    from source: ElementType, to target: ElementType, columns: Int, importance: [Float]? = nil,
    tier: KernelTier = .active
  ) throws(CheckpointError) {
    guard let decoder = BlockCodec.codec(for: source) else {
      throw CheckpointError(
        .unsupported, "\(source) elements are not floating-point numbers and cannot be re-encoded")
    }
    guard let encoder = BlockCodec.codec(for: target), encoder.canEncode || source == target else {
      throw CheckpointError(.unsupported, "\(target) cannot be written", remedy: "choose another format")
    }
    guard columns > 0 else {
      throw CheckpointError(.malformed, "rows of \(columns) elements cannot be re-encoded")
    }
    self.sourceRowBytes = try Self.rowBytes(source, columns)
    self.targetRowBytes = try Self.rowBytes(target, columns)
    if let importance {
      guard importance.count == columns else {
        throw CheckpointError(
          .malformed, "\(importance.count) importance weights for rows of \(columns) elements")
      }
      if let bad = importance.firstIndex(where: { !($0 >= 0) || !$0.isFinite }) {
        throw CheckpointError(
          .malformed,
          "the importance weight of column \(bad) is \(importance[bad]), not a finite number from 0 on")
      }
    } else if encoder.importanceUse == .required, source != target {
      throw CheckpointError(
        .unsupported, "\(target) needs an importance matrix", remedy: "give one, or choose another format")
    }
    self.source = source
    self.target = target
    self.columns = columns
    self.decoder = decoder
    self.encoder = encoder
    self.importance = encoder.importanceUse == .ignored ? nil : importance
    self.tier = tier
    self.tile = Tile(columns: columns, mayCutRows: self.importance == nil, block: target.block)
    self.largest = target.largestMagnitude ?? .greatestFiniteMagnitude
  }

  /// Buffers for this transcoder.
  public func makeScratch() -> Scratch {
    let count = source == target ? 0 : tile.capacity
    return Scratch(values: [Float](repeating: 0, count: count), restored: [Float](repeating: 0, count: count))
  }

  private static func rowBytes(_ type: ElementType, _ columns: Int) throws(CheckpointError) -> Int {
    guard let bytes = type.block.byteCount(ofElements: columns) else {
      throw CheckpointError(
        .malformed,
        "rows of \(columns) elements are not a whole number of \(type) blocks (\(type.block.elements) elements each)"
      )
    }
    return bytes
  }
}

// MARK: - Transcoding

extension RowTranscoder {
  /// Re-encodes rows.
  ///
  /// - Parameters:
  ///   - input: `rows` encoded rows.
  ///   - rows: How many.
  ///   - output: Receives `rows` encoded rows of the target type.
  ///   - scratch: Made by this transcoder's ``makeScratch()``, or by another's of the same row length.
  ///   - nonFinite: What to do with NaN and infinity.
  ///   - firstRow: The number of the first row in its tensor, for error messages.
  ///   - measures: Whether to decode what was encoded and compare.
  /// - Returns: The error sums; exact without measuring where the target holds every value of the source, empty
  ///   (count 0) where measuring was switched off. A NaN or infinity that was kept counts as exact.
  /// - Throws: `.malformed` if the sizes do not match, `.nonFinite` for NaN or infinity in the input, or a finite
  ///   value beyond the target's range, whatever the policy: larger than
  ///   ``TensorFormats/ElementType/largestMagnitude``, or one that decodes to infinity (found when measuring, and
  ///   always for F16).
  /// - Complexity: O(*n*); allocates nothing unless it throws.
  @discardableResult
  public func transcode(
    _ input: RawSpan, rows: Int, into output: inout MutableRawSpan, scratch: inout Scratch,
    nonFinite: NonFinitePolicy = .reject, firstRow: Int = 0, measures: Bool = true
  ) throws(CheckpointError) -> ErrorSums {
    try check(input.byteCount, sourceRowBytes, rows, source)
    try check(output.byteCount, targetRowBytes, rows, target)
    if source == target {
      unsafe output.withUnsafeMutableBytes { to in
        unsafe input.withUnsafeBytes { from in unsafe to.copyMemory(from: from) }
      }
      return ErrorSums(exact: rows * columns)
    }
    try check(scratch)
    var sums = ErrorSums()
    for part in parts(rows: rows) {
      sums.merge(
        try transcode(part, input, &output, &scratch, nonFinite, firstRow: firstRow, measures: measures))
    }
    return source.isExact(in: target) ? ErrorSums(exact: rows * columns) : sums
  }

  /// Measures the loss of rows that were encoded elsewhere.
  ///
  /// - Parameters:
  ///   - input: `rows` encoded rows of the source.
  ///   - rows: How many rows there are.
  ///   - encoded: As many of the target.
  ///   - scratch: Made by this transcoder's ``makeScratch()``.
  ///   - firstRow: The number of the first row in its tensor, for error messages.
  /// - Throws: `.malformed` if the sizes do not match, `.nonFinite` for NaN or infinity in the source, and for finite
  ///   values that decode to something non-finite.
  public func compare(
    _ input: RawSpan, rows: Int, encoded: RawSpan, scratch: inout Scratch, firstRow: Int = 0
  ) throws(CheckpointError) -> ErrorSums {
    try check(input.byteCount, sourceRowBytes, rows, source)
    try check(encoded.byteCount, targetRowBytes, rows, target)
    try check(scratch)
    var sums = ErrorSums()
    for part in parts(rows: rows) {
      var running = RunningErrorSums()
      let (values, place) = try load(part, input, &scratch, .reject, firstRow: firstRow).elements
      try restore(
        values, encoded.extracting(part.bytes(rowBytes: targetRowBytes, block: target.block)), &scratch)
      try checkRestored(values.count, place, &scratch, hasNonFinite: false)
      running.add(
        original: scratch.values.span.extracting(values), restored: scratch.restored.span.extracting(values),
        tier: tier)
      sums.merge(running.total)
    }
    return sums
  }

  /// The tiles of some rows.
  private func parts(rows: Int) -> [TilePart] {
    stride(from: 0, to: rows, by: tile.rows).flatMap { row in
      stride(from: 0, to: columns, by: tile.columns).map { column in
        TilePart(
          row: row, rows: min(tile.rows, rows - row), column: column,
          width: min(tile.columns, columns - column))
      }
    }
  }

  /// Re-encodes a tile, piece by piece: whole rows, or columns of one row.
  private func transcode(
    _ part: TilePart, _ input: RawSpan, _ output: inout MutableRawSpan, _ scratch: inout Scratch,
    _ nonFinite: NonFinitePolicy, firstRow: Int, measures: Bool
  ) throws(CheckpointError) -> ErrorSums {
    var sums = RunningErrorSums()
    let rows = max(1, tile.piece / part.width)
    let columns = min(part.width, tile.piece)
    let (endRow, endColumn) = (part.row + part.rows, part.column + part.width)
    for row in stride(from: part.row, to: endRow, by: rows) {
      for column in stride(from: part.column, to: endColumn, by: columns) {
        let piece = TilePart(
          row: row, rows: min(rows, endRow - row), column: column, width: min(columns, endColumn - column))
        try transcode(
          piece, input, &output, &scratch, &sums, nonFinite, firstRow: firstRow, measures: measures)
      }
    }
    return sums.total
  }

  private func transcode(
    _ part: TilePart, _ input: RawSpan, _ output: inout MutableRawSpan, _ scratch: inout Scratch,
    _ sums: inout RunningErrorSums, _ nonFinite: NonFinitePolicy, firstRow: Int, measures: Bool
  ) throws(CheckpointError) {
    let count = part.rows * part.width
    let targetBytes = part.bytes(rowBytes: targetRowBytes, block: target.block)
    let loaded = try load(part, input, &scratch, nonFinite, firstRow: firstRow)
    let (place, hasNonFinite) = (loaded.elements.place, loaded.hasNonFinite)
    do {
      var encoded = output._mutatingExtracting(targetBytes)
      try encoder.encode(
        scratch.values.span.extracting(0..<count), columns: part.width, importance: importance?.span,
        into: &encoded,
        tier: tier)
    }
    guard !source.isExact(in: target), measures || target == .f16 else { return }
    try restore(0..<count, output.bytes.extracting(targetBytes), &scratch)
    if hasNonFinite || !measures { try checkRestored(count, place, &scratch, hasNonFinite: hasNonFinite) }
    guard measures else { return }
    sums.add(
      original: scratch.values.span.extracting(0..<count),
      restored: scratch.restored.span.extracting(0..<count),
      tier: tier)
    // A finite value that has become infinite, or a NaN, is infinitely wrong.
    if !sums.maximumAbsoluteError.isFinite {
      try checkRestored(count, place, &scratch, hasNonFinite: false)
    }
  }

  /// Decodes values to be encoded, and refuses those that cannot be.
  private func load(
    _ part: TilePart, _ input: RawSpan, _ scratch: inout Scratch, _ nonFinite: NonFinitePolicy, firstRow: Int
  ) throws(CheckpointError) -> (elements: (values: Range<Int>, place: RangeCheck.Place), hasNonFinite: Bool) {
    let values = 0..<part.rows * part.width
    do {
      var span = scratch.values.mutableSpan
      var decoded = span._mutatingExtracting(values)
      try decoder.decode(
        input.extracting(part.bytes(rowBytes: sourceRowBytes, block: source.block)), into: &decoded,
        tier: tier)
    }
    let place = RangeCheck.Place(
      firstRow: firstRow + part.row, firstColumn: part.column, stride: part.width)
    var hasNonFinite = false
    if !(LargestMagnitude.of(scratch.values.span.extracting(values), tier: tier) <= largest) {
      hasNonFinite = try nonFinite.check(
        scratch.values.span.extracting(values), firstRow: place.firstRow, firstColumn: place.firstColumn,
        stride: place.stride, target: target, tier: tier)
      try RangeCheck(target).check(scratch.values.span.extracting(values), at: place, tier: tier)
    }
    return ((values, place), hasNonFinite)
  }

  /// Decodes what was encoded.
  private func restore(
    _ values: Range<Int>, _ encoded: RawSpan, _ scratch: inout Scratch
  ) throws(CheckpointError) {
    var span = scratch.restored.mutableSpan
    var restored = span._mutatingExtracting(values)
    try encoder.decode(encoded, into: &restored, tier: tier)
  }

  /// Refuses finite values that have become infinite, and leaves kept non-finite values out of the comparison.
  private func checkRestored(
    _ count: Int, _ place: RangeCheck.Place, _ scratch: inout Scratch, hasNonFinite: Bool
  ) throws(CheckpointError) {
    try RangeCheck(target).check(
      scratch.values.span.extracting(0..<count), restored: scratch.restored.span.extracting(0..<count),
      group: target.block.elements, at: place, tier: tier)
    guard hasNonFinite else { return }
    for index in 0..<count where !scratch.values[index].isFinite {
      scratch.values[index] = 0
      scratch.restored[index] = 0
    }
  }

  private func check(_ scratch: borrowing Scratch) throws(CheckpointError) {
    guard scratch.values.count >= tile.capacity else {
      throw CheckpointError(.malformed, "the scratch buffers were made for shorter rows")
    }
  }

  private func check(_ bytes: Int, _ rowBytes: Int, _ rows: Int, _ type: ElementType) throws(CheckpointError)
  {
    let (expected, overflow) = rowBytes.multipliedReportingOverflow(by: rows)
    guard rows >= 0, !overflow, expected == bytes else {
      throw CheckpointError(
        .malformed,
        "\(rows) rows of \(columns) \(type) elements do not take \(bytes) bytes (\(rowBytes) each)")
    }
  }
}

// MARK: - Tiles

/// How many rows and columns have their errors summed together, and how many of them are processed at a time.
private struct Tile: Sendable {
  /// Elements: 64 KiB of F32, twice, beside the encoded bytes, in a second-level cache of 512 KiB or more.
  static let elements = 16_384
  /// Elements of a piece, where the encoder has no use for more: 8 KiB of F32, twice, in a first-level cache of 32 KiB.
  static let pieceElements = 2_048
  /// Where rows may be cut.
  static let cut = 8_192

  var rows: Int
  var columns: Int
  /// The most elements that go through all steps at a time.
  var piece: Int
  var capacity: Int { rows * columns }

  init(columns: Int, mayCutRows: Bool, block: BlockLayout) {
    if columns > Self.elements, mayCutRows {
      self.rows = 1
      self.columns = Self.cut
    } else {
      self.rows = max(1, Self.elements / columns)
      self.columns = columns
    }
    // Searches run in many super-blocks side by side; error sums, in sixteen lanes.
    let isRounded = block.elements < 256 && columns % 16 == 0 && mayCutRows
    piece = isRounded ? Self.pieceElements : rows * self.columns
  }
}

/// Some columns of some rows. More than one row only with all columns, so that the bytes are contiguous.
private struct TilePart {
  var row: Int
  var rows: Int
  var column: Int
  var width: Int

  func bytes(rowBytes: Int, block: BlockLayout) -> Range<Int> {
    let start = row * rowBytes + column / block.elements * block.bytes
    return start..<(start + rows * width / block.elements * block.bytes)
  }
}
