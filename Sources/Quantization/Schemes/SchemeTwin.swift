/// The definition of ``RowScheme``: encodes and decodes rows element by element.
struct SchemeTwin {
  var rule: SchemeRule
  var matrixScale: Float
  var columns: Int

  var groupLength: Int { rule.groupLength ?? columns }

  func encode(
    _ values: Span<Float>, _ importance: Span<Float>?, _ search: ScaleSearch, _ codes: inout MutableRawSpan,
    _ scales: inout MutableRawSpan
  ) -> SearchErrors? {
    var errors = SearchErrors()
    for group in 0..<(values.count / groupLength) {
      let start = group * groupLength
      let x = (0..<groupLength).map { values[start + $0] }
      let choice: SchemeSearch.Choice
      if search == .mse {
        var weights: [Float]?
        if let importance { weights = (0..<groupLength).map { importance[start % columns + $0] } }
        let found = SchemeSearch(rule: rule, matrixScale: matrixScale, x: x, weights: weights).best()
        choice = found.choice
        errors.before += found.before
        errors.after += found.after
      } else {
        choice = SchemeSearch(rule: rule, matrixScale: matrixScale, x: x, weights: nil).absmax
      }
      for i in 0..<groupLength {
        store(rule.code(choice.quotient(x[i], rule)), start + i, &codes)
      }
      for byte in 0..<rule.scaleBytes {
        scales.storeBytes(
          of: UInt8(truncatingIfNeeded: choice.scale >> UInt32(8 * byte)),
          toByteOffset: group * rule.scaleBytes + byte, as: UInt8.self)
      }
    }
    return search == .mse ? errors : nil
  }

  func decode(_ codes: RawSpan, _ scales: RawSpan, _ values: inout MutableSpan<Float>) {
    for group in 0..<(values.count / groupLength) {
      var scale: UInt32 = 0
      for byte in 0..<rule.scaleBytes {
        scale |= UInt32(scales.byte(group * rule.scaleBytes + byte)) << UInt32(8 * byte)
      }
      let multiplier = rule.multiplier(scale, matrixScale: matrixScale)
      for at in (group * groupLength)..<((group + 1) * groupLength) {
        values[at] = rule.value(code(at, codes)) * multiplier
      }
    }
  }

  /// Two codes of four bits share a byte, the even one in the lower half. (Eight of them in a little-endian word, the
  /// first lowest, is the same.)
  private func store(_ code: UInt8, _ index: Int, _ codes: inout MutableRawSpan) {
    guard rule.codesPerByte == 2 else {
      codes.storeBytes(of: code, toByteOffset: index, as: UInt8.self)
      return
    }
    let byte = index % 2 == 0 ? code : codes.bytes.byte(index / 2) & 15 | code << 4
    codes.storeBytes(of: byte, toByteOffset: index / 2, as: UInt8.self)
  }

  private func code(_ index: Int, _ codes: RawSpan) -> UInt8 {
    guard rule.codesPerByte == 2 else { return codes.byte(index) }
    return index % 2 == 0 ? codes.byte(index / 2) & 15 : codes.byte(index / 2) >> 4
  }
}
