public import TensorFormats

/// Where the codes and scales of a scheme are: the one table used by everything that reads, writes, cuts or plans
/// them. (The rules of serving engines have a table of their own, because they check this one.)
///
/// | scheme | codes | elements in one of codes | a scale is for (rows x columns) | scales | per matrix |
/// |---|---|---|---|---|---|
/// | `fp8Block(r, c)` | F8_E4M3 | 1 | r x c | F32 | |
/// | `fp8Channel` | F8_E4M3 | 1 | 1 x all | F32 | |
/// | `int8Channel` | I8 | 1 | 1 x all | F32 | |
/// | `int4Group(g)` | I32 | 8 | 1 x g | BF16 | |
/// | `nvfp4` | U8 | 2 | 1 x 16 | F8_E4M3 | F32 |
/// | `mxfp4` | U8 | 2 | 1 x 32 | U8 (E8M0) | |
public struct SchemeGeometry: Hashable, Sendable {
  /// How codes are stored.
  public let codesType: ElementType
  /// How many neighbouring elements of a row share one element of ``codesType``.
  public let codesPerElement: Int
  /// The element type of scales as written.
  public let scalesType: ElementType
  /// How many rows share a scale.
  public let scaleHeight: Int
  /// How many columns share a scale; `nil` for all of a row.
  public let scaleWidth: Int?
  /// Whether each matrix also has a scale shared by all its rows.
  public let hasMatrixScale: Bool

  fileprivate init(
    _ codesType: ElementType, packing codesPerElement: Int = 1, _ scalesType: ElementType,
    _ scaleHeight: Int = 1, x scaleWidth: Int?, hasMatrixScale: Bool = false
  ) {
    self.codesType = codesType
    self.codesPerElement = codesPerElement
    self.scalesType = scalesType
    self.scaleHeight = scaleHeight
    self.scaleWidth = scaleWidth
    self.hasMatrixScale = hasMatrixScale
  }
}

extension WeightScheme {
  /// Where its codes and scales are.
  public var geometry: SchemeGeometry {
    switch self {
    case .fp8Block(let rows, let columns): SchemeGeometry(.f8E4M3, .f32, rows, x: columns)
    case .fp8Channel: SchemeGeometry(.f8E4M3, .f32, x: nil)
    case .int8Channel: SchemeGeometry(.i8, .f32, x: nil)
    case .int4Group(let length): SchemeGeometry(.i32, packing: 8, .bf16, x: length)
    case .nvfp4: SchemeGeometry(.u8, packing: 2, .f8E4M3, x: 16, hasMatrixScale: true)
    case .mxfp4: SchemeGeometry(.u8, packing: 2, .u8, x: 32)
    }
  }
}

// MARK: - Counting

extension SchemeGeometry {
  /// The number of scale rows for `rows` rows of a matrix; the last may cover fewer rows than the others.
  public func scaleRows(of rows: Int) -> Int { (rows + scaleHeight - 1) / scaleHeight }

  /// The number of scale columns for `columns` columns.
  public func scaleColumns(of columns: Int) -> Int {
    scaleWidth.map { (columns + $0 - 1) / $0 } ?? 1
  }

  /// Which rows of scales some rows of a matrix need.
  public func scaleRows(for rows: Range<Int>) -> Range<Int> {
    guard !rows.isEmpty else { return rows.lowerBound / scaleHeight..<rows.lowerBound / scaleHeight }
    return rows.lowerBound / scaleHeight..<scaleRows(of: rows.upperBound)
  }

  /// Which columns of scales some columns of a matrix need.
  public func scaleColumns(for columns: Range<Int>) -> Range<Int> {
    guard let scaleWidth else { return 0..<1 }
    return columns.lowerBound / scaleWidth..<scaleColumns(of: columns.upperBound)
  }

  /// The granularity of cuts through a matrix at which both pieces keep their codes and scales: multiples of these
  /// numbers.
  public var cutUnit: (rows: Int, columns: Int) {
    guard let scaleWidth else { return (scaleHeight, codesPerElement) }
    // A cut must not fall inside an element of codes either.
    return (scaleHeight, scaleWidth % codesPerElement == 0 ? scaleWidth : codesPerElement * scaleWidth)
  }
}
