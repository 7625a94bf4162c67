import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// Every scheme gives the bits of its Swift twin on every kernel tier that runs here.
@Suite struct SchemeTierTests {
  static let searches: [(ScaleSearch, weighted: Bool)] = [(.absmax, false), (.mse, false), (.mse, true)]

  /// Rows whose groups do not fill sixteen lanes, and rows of every kind.
  @Test(arguments: TestedScheme.all) func encodingAgrees(tested: TestedScheme) throws {
    let scheme = try RowScheme(tested.stored)
    for (columns, rows) in [(7 * 128, RowKind.allCases.count), (128, RowKind.allCases.count * 3)] {
      let values = RowKind.rows(rows, columns: columns, seed: UInt64(columns))
      let importance = RowKind.importance(columns)
      for matrixScale in Self.matrixScales(scheme) {
        for (search, weighted) in Self.searches {
          try compare(
            scheme, values, columns, weighted ? importance : nil, matrixScale, search,
            "\(search) \(matrixScale)")
        }
      }
    }
  }

  /// A largest magnitude for each row kind, from none to huge; one is enough for schemes without a matrix scale.
  static func matrixScales(_ scheme: RowScheme) -> [Float] {
    guard scheme.stored.scheme.geometry.hasMatrixScale else { return [1] }
    return [0.5, 1e30, 1e-12, 1e-38, 3e38].map { scheme.matrixScale(amax: $0) } + [1e-38, 1e38]
  }

  /// Rows of eight-bit codes may have any length.
  @Test(arguments: TestedScheme.all.filter { $0.stored.scheme.groupLength == nil }, [1, 15, 33, 100])
  func rowsOfAnyLengthEncodeAlike(tested: TestedScheme, columns: Int) throws {
    let scheme = try RowScheme(tested.stored)
    let values = RowKind.rows(RowKind.allCases.count * 2, columns: columns, seed: 7)
    for (search, weighted) in Self.searches {
      try compare(
        scheme, values, columns, weighted ? RowKind.importance(columns) : nil, 1, search, "\(search)")
    }
  }

  /// Quotients at and next to the midpoints between codes, under scales of all sizes.
  @Test(arguments: TestedScheme.all) func midpointsAreRoundedAlike(tested: TestedScheme) throws {
    let scheme = try RowScheme(tested.stored)
    let midpoints: [Float]
    let largest: Float
    switch tested.stored.scheme {
    case .fp8Channel, .fp8Block:
      (midpoints, largest) = ([0, 0x1p-10, 0x3p-10, 1.0625, 1.1875, 432, 440], 448)
    case .int8Channel: (midpoints, largest) = ([0, 0.5, 1.5, 62.5, 63.5, 126.5, 127], 127.5)
    case .int4Group: (midpoints, largest) = ([0, 0.5, 1.5, 2.5, 5.5, 6.5, 7.5], 7.5)
    case .nvfp4, .mxfp4: (midpoints, largest) = ([0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5], 6)
    }
    var generator = SeededGenerator(seed: 21)
    let columns = 128
    var values: [Float] = []
    for exponent in stride(from: -140, through: 110, by: 2) {
      let unit = Float(sign: .plus, exponent: exponent, significand: 1)
      for i in 0..<columns {
        guard i % 16 > 0 else {
          values.append(i % 32 == 0 ? largest * unit : -largest * unit)
          continue
        }
        let middle = midpoints[Int.random(in: 0..<midpoints.count, using: &generator)] * unit
        let near = [middle, middle.nextUp, middle.nextDown][Int.random(in: 0..<3, using: &generator)]
        values.append(Bool.random(using: &generator) ? near : -near)
      }
    }
    for (search, weighted) in Self.searches {
      try compare(
        scheme, values, columns, weighted ? RowKind.importance(columns) : nil,
        scheme.matrixScale(amax: largest), search, "\(search)")
    }
  }

  /// Any bytes decode alike on every tier.
  @Test(arguments: TestedScheme.all) func decodingAgrees(tested: TestedScheme) throws {
    let scheme = try RowScheme(tested.stored)
    var generator = SeededGenerator(seed: 22)
    for columns in tested.stored.scheme.groupLength == nil ? [1, 33, 256] : [128, 17 * 128] {
      let rows = 300
      let codes = (0..<(rows * (try scheme.codeBytes(columns: columns)))).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      let scales = (0..<(rows * (try scheme.scaleBytes(columns: columns)))).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      for matrixScale in Self.matrixScales(scheme) {
        let expected = try scheme.decode(codes, scales, columns: columns, matrixScale: matrixScale, .twin)
        for tier in KernelTier.runnable {
          let found = try scheme.decode(
            codes, scales, columns: columns, matrixScale: matrixScale, .kernels(tier))
          let wrong = found.indices.first { !found[$0].isSameResult(as: expected[$0]) }
          #expect(wrong == nil, "\(tier), columns: \(columns), element \(wrong ?? 0)")
        }
      }
    }
  }

  private func compare(
    _ scheme: RowScheme, _ values: [Float], _ columns: Int, _ importance: [Float]?, _ matrixScale: Float,
    _ search: ScaleSearch, _ what: String
  ) throws {
    let expected = try scheme.encode(
      values, columns: columns, importance: importance, matrixScale: matrixScale, search: search, .twin)
    for tier in KernelTier.runnable {
      let found = try scheme.encode(
        values, columns: columns, importance: importance, matrixScale: matrixScale, search: search,
        .kernels(tier))
      let scale = found.scales.indices.first { found.scales[$0] != expected.scales[$0] }
      let code = found.codes.indices.first { found.codes[$0] != expected.codes[$0] }
      #expect(scale == nil, "\(tier), \(what), columns: \(columns), byte \(scale ?? 0) of scales")
      #expect(code == nil, "\(tier), \(what), columns: \(columns), byte \(code ?? 0) of codes")
      #expect((found.errors == nil) == (search == .absmax))
      if let found = found.errors, let expected = expected.errors {
        #expect(Self.isSame(found.before, expected.before), "\(tier), \(what): \(found), not \(expected)")
        #expect(Self.isSame(found.after, expected.after), "\(tier), \(what): \(found), not \(expected)")
      }
    }
  }

  private static func isSame(_ a: Double, _ b: Double) -> Bool { a == b || (a.isNaN && b.isNaN) }
}
