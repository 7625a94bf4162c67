/// The activations flowing through the model: `[rows, columns]` of F32, row-major, one row per token.
///
/// `@unchecked Sendable`: threads that fill one of these at the same time write disjoint elements, and nobody reads it
/// until all of them are done; `ParallelWork` keeps that order. The memory lives as long as the object.
@safe public final class Activations: @unchecked Sendable {
  /// Tokens.
  public let rows: Int
  /// Elements of a token.
  public let columns: Int
  package let base: UnsafeMutablePointer<Float>

  /// Makes rows of zeros.
  public init(rows: Int, columns: Int) {
    self.rows = rows
    self.columns = columns
    unsafe base = .allocate(capacity: max(1, rows * columns))
    unsafe base.initialize(repeating: 0, count: max(1, rows * columns))
  }

  /// Makes rows of values.
  public convenience init(rows: Int, columns: Int, _ values: [Float]) {
    precondition(values.count == rows * columns)
    self.init(rows: rows, columns: columns)
    for index in values.indices { unsafe base[index] = values[index] }
  }

  deinit { unsafe base.deallocate() }

  /// The number of elements.
  public var count: Int { rows * columns }

  /// The elements of one row.
  public subscript(row: Int) -> Span<Float> {
    @_lifetime(borrow self)
    get {
      precondition((0..<rows).contains(row))
      let span = unsafe Span(_unsafeStart: base + row * columns, count: columns)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// All elements.
  public var values: Span<Float> {
    @_lifetime(borrow self)
    get {
      let span = unsafe Span(_unsafeStart: UnsafePointer(base), count: count)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// All elements as an array.
  public var array: [Float] { unsafe Array(UnsafeBufferPointer(start: base, count: count)) }

  /// Changes the elements of one row.
  package func update<Failure: Error>(
    _ row: Int, _ body: (inout MutableSpan<Float>) throws(Failure) -> Void
  ) throws(Failure) {
    precondition((0..<rows).contains(row))
    var span = unsafe MutableSpan(_unsafeStart: base + row * columns, count: columns)
    try body(&span)
  }

  /// Changes all elements.
  package func updateAll<Failure: Error>(
    _ body: (inout MutableSpan<Float>) throws(Failure) -> Void
  ) throws(Failure) {
    var span = unsafe MutableSpan(_unsafeStart: base, count: count)
    try body(&span)
  }

  /// A copy of some rows.
  public func copy(rows wanted: Range<Int>) -> Activations {
    precondition(wanted.lowerBound >= 0 && wanted.upperBound <= rows)
    let copy = Activations(rows: wanted.count, columns: columns)
    unsafe copy.base.update(from: base + wanted.lowerBound * columns, count: copy.count)
    return copy
  }

  /// The rows with these indices.
  func gather(_ numbers: [Int]) -> Activations {
    let result = Activations(rows: numbers.count, columns: columns)
    for (row, number) in numbers.enumerated() {
      precondition((0..<rows).contains(number))
      unsafe (result.base + row * columns).update(from: base + number * columns, count: columns)
    }
    return result
  }

  /// Adds another one of the same size.
  package func add(_ other: Activations) {
    precondition(other.rows == rows)
    add(other, from: 0)
  }

  /// Adds the rows of another one to the rows from `first` on.
  func add(_ other: Activations, from first: Int) {
    precondition(first >= 0 && first + other.rows <= rows && other.columns == columns)
    unsafe addScaled(base + first * columns, other.base, other.count, 1)
  }

  /// Replaces the rows from `first` on by those of another one.
  func replace(from first: Int, with other: Activations) {
    precondition(first >= 0 && first + other.rows <= rows && other.columns == columns)
    unsafe (base + first * columns).update(from: other.base, count: other.count)
  }

  /// Adds the rows of `other`, each times its weight, to rows of this one.
  func scatterAdd(_ other: Activations, to numbers: [Int], weights: [Float]) {
    precondition(other.rows == numbers.count && other.columns == columns && weights.count == numbers.count)
    for (row, number) in numbers.enumerated() {
      precondition((0..<rows).contains(number))
      let weight = weights[row]
      unsafe addScaled(base + number * columns, other.base + row * columns, columns, weight)
    }
  }
}

@unsafe private func addScaled(
  _ target: UnsafeMutablePointer<Float>, _ source: UnsafeMutablePointer<Float>, _ count: Int, _ weight: Float
) {
  for index in 0..<count { unsafe target[index] += weight * source[index] }
}
