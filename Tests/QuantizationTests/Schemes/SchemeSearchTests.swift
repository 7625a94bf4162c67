import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// The search for scales with the least squared error.
@Suite struct SchemeSearchTests {
  /// Σ w (x - y)², in F64.
  private func error(_ x: [Float], _ y: [Float], _ weights: [Float]?, columns: Int) -> Double {
    x.indices.reduce(0) { sum, i in
      let difference = Double(x[i]) - Double(y[i])
      return sum + Double(weights?[i % columns] ?? 1) * difference * difference
    }
  }

  private func restored(
    _ scheme: RowScheme, _ values: [Float], columns: Int, _ importance: [Float]?, _ search: ScaleSearch
  ) throws -> (values: [Float], errors: SearchErrors?) {
    let matrixScale = scheme.matrixScale(amax: values.map(\.magnitude).max() ?? 0)
    let found = try scheme.encode(
      values, columns: columns, importance: importance, matrixScale: matrixScale, search: search,
      .kernels(.active))
    return (
      try scheme.decode(found.codes, found.scales, columns: columns, matrixScale: matrixScale, .twin),
      found.errors
    )
  }

  /// Group by group, the error is never larger than with the library's scales, and the reported sums are
  /// those of the codes written.
  @Test(arguments: TestedScheme.all, [false, true])
  func searchIsNeverWorseThanAbsmax(tested: TestedScheme, weighted: Bool) throws {
    let scheme = try RowScheme(tested.stored)
    let columns = 512
    let group = tested.stored.scheme.groupLength ?? columns
    for kind in RowKind.allCases where kind != .huge && kind != .subnormal && kind != .wideRange {
      let all = RowKind.rows(RowKind.allCases.count * 4, columns: columns, seed: 51)
      let values = (0..<4).flatMap { round -> [Float] in
        let row = round * RowKind.allCases.count + kind.rawValue
        return Array(all[(row * columns)..<((row + 1) * columns)])
      }
      let importance = weighted ? RowKind.importance(columns) : nil
      let plain = try restored(scheme, values, columns: columns, importance, .absmax)
      let searched = try restored(scheme, values, columns: columns, importance, .mse)
      for start in stride(from: 0, to: values.count, by: group) {
        let part = start..<(start + group)
        let weights = importance.map { Array($0[(start % columns)..<(start % columns + group)]) }
        let before = error(Array(values[part]), Array(plain.values[part]), weights, columns: group)
        let after = error(Array(values[part]), Array(searched.values[part]), weights, columns: group)
        #expect(after <= before * (1 + 1e-5), "\(kind), group \(start / group)")
      }
      let before = error(values, plain.values, importance, columns: columns)
      let after = error(values, searched.values, importance, columns: columns)
      let reported = try #require(searched.errors)
      #expect(reported.after <= reported.before)
      #expect(abs(reported.before - before) <= before * 1e-4 + 1e-40, "\(kind)")
      #expect(abs(reported.after - after) <= after * 1e-4 + 1e-40, "\(kind)")
    }
  }

  /// How much of the error remains for Gaussian weights.
  @Test(arguments: [
    ("int4-128", 0.87), ("int4-32", 0.87), ("nvfp4", 0.78), ("nvfp4-modelopt", 0.78), ("mxfp4", 0.995),
    ("mxfp4-ocp", 0.97),
  ])
  func searchLowersTheErrorOfGaussianWeights(file: String, share: Double) throws {
    let tested = try #require(TestedScheme.all.first { $0.file == file })
    let scheme = try RowScheme(tested.stored)
    var generator = SeededGenerator(seed: 52)
    let values = (0..<(8 * 1024)).map { _ in
      (0..<12).reduce(Float(0)) { sum, _ in sum + Float.random(in: -1...1, using: &generator) } * 0.01
    }
    let errors = try #require(try restored(scheme, values, columns: 1024, nil, .mse).errors)
    #expect(errors.after < errors.before * share, "\(errors.after / errors.before)")
  }

  /// An outlier without importance does not spoil its group's scale.
  @Test(arguments: TestedScheme.all) func importanceLowersTheWeightedError(tested: TestedScheme) throws {
    let scheme = try RowScheme(tested.stored)
    let columns = 128
    var generator = SeededGenerator(seed: 53)
    var values = (0..<columns).map { _ in Float.random(in: -1...1, using: &generator) }
    var importance = [Float](repeating: 1, count: columns)
    for i in stride(from: 5, to: columns, by: 16) {
      values[i] = 1.9
      importance[i] = 0
    }
    let plain = try #require(try restored(scheme, values, columns: columns, nil, .mse).errors)
    let weighted = try #require(try restored(scheme, values, columns: columns, importance, .mse).errors)
    #expect(weighted.after < plain.after)
    #expect(weighted.before <= plain.before)
    // Importance of zero everywhere: there is nothing to gain, and absmax stays.
    let nothing = [Float](repeating: 0, count: columns)
    let matrixScale = scheme.matrixScale(amax: 1.9)
    let kept = try scheme.encode(
      values, columns: columns, importance: nothing, matrixScale: matrixScale, search: .mse, .kernels(.active)
    )
    let absmax = try scheme.encode(values, columns: columns, matrixScale: matrixScale, .kernels(.active))
    #expect(kept.codes == absmax.codes && kept.scales == absmax.scales)
    #expect(kept.errors?.before == 0 && kept.errors?.after == 0)
  }

  /// Rows encode alike alone and together.
  @Test(arguments: TestedScheme.all, ScaleSearch.allCases)
  func rowsAreIndependent(tested: TestedScheme, search: ScaleSearch) throws {
    let scheme = try RowScheme(tested.stored)
    let columns = 384
    let values = RowKind.rows(5, columns: columns, seed: 54)
    let importance = RowKind.importance(columns)
    let together = try scheme.encode(
      values, columns: columns, importance: importance, search: search, .kernels(.active))
    var apart: (codes: [UInt8], scales: [UInt8]) = ([], [])
    for row in 0..<5 {
      let one = try scheme.encode(
        Array(values[(row * columns)..<((row + 1) * columns)]), columns: columns, importance: importance,
        search: search, .kernels(.active))
      apart.codes += one.codes
      apart.scales += one.scales
    }
    #expect(together.codes == apart.codes && together.scales == apart.scales)
  }
}

/// Schemes and sizes that RowScheme refuses.
@Suite struct RowSchemeErrorTests {
  @Test func schemesWithoutRowCodesAreRefused() throws {
    let wrong: [StoredScheme] = [
      StoredScheme(.fp8Tiles, .fp8), StoredScheme(.fp8Tiles, .compressedTensors),
      StoredScheme(.fp8Channel, .fp8),
      StoredScheme(.int4Group(128), .modelOpt), StoredScheme(.nvfp4, .mxfp4), StoredScheme(.mxfp4, .modelOpt),
      StoredScheme(.int4Group(8), .compressedTensors), StoredScheme(.int4Group(0), .compressedTensors),
      StoredScheme(.int4Group(-16), .compressedTensors), StoredScheme(.int4Group(272), .compressedTensors),
      StoredScheme(.int4Group(40), .compressedTensors),
    ]
    for stored in wrong {
      let error = #expect(throws: CheckpointError.self) { try RowScheme(stored) }
      #expect(error?.code == .unsupported, "\(stored)")
    }
  }

  @Test func sizesThatDoNotFitAreRefused() throws {
    let scheme = try RowScheme(StoredScheme(.int4Group(64), .compressedTensors))
    #expect(try scheme.codeBytes(columns: 128) == 64 && scheme.scaleBytes(columns: 128) == 4)
    for columns in [0, -64, 32, 100] {
      #expect(throws: CheckpointError.self) { try scheme.codeBytes(columns: columns) }
      #expect(throws: CheckpointError.self) { try scheme.scaleBytes(columns: columns) }
    }
    let values = [Float](repeating: 1, count: 128)
    let found = try scheme.encode(values, columns: 64, .twin)
    for form in Form.all {
      #expect(throws: CheckpointError.self) { try scheme.encode(values, columns: 48, form) }
      #expect(throws: CheckpointError.self) { try scheme.encode(values, columns: 0 - 64, form) }
      #expect(throws: CheckpointError.self) {
        try scheme.encode(values, columns: 64, importance: [1, 2], search: .mse, form)
      }
      #expect(throws: CheckpointError.self) {
        try scheme.decode(found.codes, Array(found.scales.dropLast()), columns: 64, form)
      }
      #expect(throws: CheckpointError.self) {
        try scheme.decode(Array(found.codes.dropLast()), found.scales, columns: 64, form)
      }
      // No rows at all is not an error.
      #expect(try scheme.encode([], columns: 64, form).codes == [])
      #expect(try scheme.encode([], columns: 64, search: .mse, form).errors == SearchErrors())
    }
  }

  @Test(arguments: [0, -1, Float.infinity, .nan]) func invalidMatrixScalesAreRefused(scale: Float) throws {
    let values = [Float](repeating: 1, count: 64)
    for method in [StoredScheme.Method.compressedTensors, .modelOpt] {
      let scheme = try RowScheme(StoredScheme(.nvfp4, method))
      for form in Form.all {
        let error = #expect(throws: CheckpointError.self) {
          try scheme.encode(values, columns: 64, matrixScale: scale, form)
        }
        #expect(error?.code == .malformed)
        #expect(throws: CheckpointError.self) {
          try scheme.decode(
            [UInt8](repeating: 0, count: 32), [1, 1, 1, 1], columns: 64, matrixScale: scale, form)
        }
      }
    }
  }

  @Test func theMatrixScaleFollowsFromTheLargestMagnitude() throws {
    let divided = try RowScheme(StoredScheme(.nvfp4, .compressedTensors))
    let multiplied = try RowScheme(StoredScheme(.nvfp4, .modelOpt))
    #expect(divided.matrixScale(amax: 4) == 672 && multiplied.matrixScale(amax: 4) == Float(4) / 2688)
    #expect(divided.matrixScale(amax: 0) == 1 && multiplied.matrixScale(amax: 0) == 1)
    #expect(divided.matrixMultiplier(stored: 672) == Float(1) / 672)
    #expect(multiplied.matrixMultiplier(stored: 0.25) == 0.25)
    #expect(try RowScheme(StoredScheme(.mxfp4, .mxfp4)).matrixScale(amax: 4) == 1)
  }
}
