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
        rule.store(rule.code(choice.quotient(x[i], rule)), start + i, &codes)
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
      let multiplier = rule.multiplier(rule.scale(group, in: scales), matrixScale: matrixScale)
      for at in (group * groupLength)..<((group + 1) * groupLength) {
        values[at] = rule.value(code(at, codes)) * multiplier
      }
    }
  }

  private func code(_ index: Int, _ codes: RawSpan) -> UInt8 {
    guard rule.codesPerByte == 2 else { return codes.byte(index) }
    return index % 2 == 0 ? codes.byte(index / 2) & 15 : codes.byte(index / 2) >> 4
  }
}
