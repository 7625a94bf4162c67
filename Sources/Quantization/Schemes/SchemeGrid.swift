/// The values that a scheme can store under given scales, one element at a time: for callers that choose codes in
/// their own order.
///
/// Unlike ``RowScheme``'s `absmax` a quotient is never rounded to BF16: it is a division in F32, as in
/// implementations of GPTQ.
public struct SchemeGrid: Sendable {
  private let rule: SchemeRule
  private let matrixScale: Float
  /// The columns that share a scale; all of a row if `nil`.
  public var groupLength: Int? { rule.groupLength }

  /// Prepares for matrices with one scale.
  ///
  /// - Parameters:
  ///   - scheme: Which codes there are.
  ///   - matrixScale: As it is stored; 1 where the scheme has none.
  public init(_ scheme: RowScheme, matrixScale: Float = 1) {
    rule = scheme.rule
    self.matrixScale = matrixScale
  }

  /// Prepares for block-FP8, whose groups are the columns of a tile; the rows of a tile share their scales.
  public static let tiles = SchemeGrid(
    SchemeRule(
      codes: .e4m3, scales: .f32(divisor: 448), groupLength: BlockFP8.side, roundsQuotients: false,
      signsZeros: true))

  private init(_ rule: SchemeRule) {
    self.rule = rule
    matrixScale = 1
  }

  /// The factor for the codes of a group.
  ///
  /// - Parameters:
  ///   - group: The number of the group.
  ///   - scales: Scales as ``RowScheme`` stores them, from group 0 on.
  public func multiplier(ofGroup group: Int, in scales: RawSpan) -> Float {
    rule.multiplier(rule.scale(group, in: scales), matrixScale: matrixScale)
  }

  /// The code whose value is nearest to `value`, and that value. Ties go to the even code; values out of range are
  /// clamped.
  public func nearest(_ value: Float, multiplier: Float) -> (code: UInt8, value: Float) {
    // Under a multiplier that underflowed to 0, everything is 0.
    let code = rule.code(multiplier == 0 ? 0 : value / multiplier)
    return (code, rule.value(code) * multiplier)
  }

  /// Stores the code of an element. Where two share a byte, the even one goes first.
  ///
  /// - Parameters:
  ///   - code: The code, in the lowest bits.
  ///   - column: The element's number, from the first byte of `codes` on.
  ///   - codes: The codes of a row, packed.
  public func store(_ code: UInt8, _ column: Int, in codes: inout MutableRawSpan) {
    rule.store(code, column, &codes)
  }
}

extension SchemeRule {
  /// The bits of a stored scale.
  func scale(_ group: Int, in scales: RawSpan) -> UInt32 {
    var scale: UInt32 = 0
    for byte in 0..<scaleBytes {
      scale |= UInt32(scales.byte(group * scaleBytes + byte)) << UInt32(8 * byte)
    }
    return scale
  }

  /// Two codes of four bits share a byte, the even one in the lower half, and it is stored first. (Eight of them in a
  /// little-endian word, the first lowest, is the same.)
  func store(_ code: UInt8, _ index: Int, _ codes: inout MutableRawSpan) {
    guard codesPerByte == 2 else {
      codes.storeBytes(of: code, toByteOffset: index, as: UInt8.self)
      return
    }
    let byte = index % 2 == 0 ? code : codes.bytes.byte(index / 2) & 15 | code << 4
    codes.storeBytes(of: byte, toByteOffset: index / 2, as: UInt8.self)
  }
}
