import CheckpointTesting
import Foundation
import Quantization
import TensorFormats
import Testing

import Comparison

/// Rows of synthetic weights, BF16 values.
struct Weights {
  enum Kind: String, CaseIterable, Sendable {
    /// Standard deviation 0.02.
    case gaussian
    /// Student's t with three degrees of freedom: outliers of 20 standard deviations and more.
    case heavyTailed
    /// Columns 60 times as large as the others.
    case outlierColumns
    /// Rows of all sizes, one of them all zeros.
    case rowsOfAllSizes
    /// An offset larger than the spread.
    case shifted
    case uniform
  }

  static let columns = 1024
  static let rows = 256

  let values: [Float]

  init(_ kind: Kind, seed: UInt64 = 1) {
    var generator = SeededGenerator(seed: seed)
    func uniform() -> Double { Double((generator.next() >> 11) + 1) * 0x1p-53 }
    func normal() -> Double { (-2 * log(uniform())).squareRoot() * cos(2 * .pi * uniform()) }
    let large = Set((0..<8).map { _ in Int(generator.next() % UInt64(Self.columns)) })
    var values: [Float] = []
    values.reserveCapacity(Self.rows * Self.columns)
    for row in 0..<Self.rows {
      let size = row == 100 ? 0 : exp(normal() * 2)
      for column in 0..<Self.columns {
        let value: Double
        switch kind {
        case .gaussian: value = normal() * 0.02
        case .heavyTailed:
          let squares = (0..<3).reduce(0.0) { sum, _ in
            let part = normal()
            return sum + part * part
          }
          value = normal() / (squares / 3).squareRoot() * 0.02
        case .outlierColumns: value = normal() * (large.contains(column) ? 1.2 : 0.02)
        case .rowsOfAllSizes: value = normal() * 0.02 * size
        case .shifted: value = normal() * 0.02 + 0.05
        case .uniform: value = (uniform() - 0.5) * 0.06
        }
        values.append(Float(bitPattern: Float(value).bitPattern & 0xFFFF_0000))
      }
    }
    self.values = values
  }

  /// Importance weights, one per column, as in an importance matrix.
  static let importance: [Float] = {
    var generator = SeededGenerator(seed: 9)
    return (0..<columns).map { _ in Float(generator.next() >> 40) * 0x1p-22 + 0.05 }
  }()
}

/// A way of storing rows, and the values that it leaves.
struct Storing: Sendable, CustomTestStringConvertible {
  let storage: StoredPrecision
  var usesImportance = false

  var testDescription: String { storage.name + (usesImportance ? " with importance" : "") }

  /// Every format that is written, by the codecs or, for schemes with separate scales, by the definition.
  static let all: [Storing] =
    ElementType.allCases.flatMap { type -> [Storing] in
      guard let codec = BlockCodec.codec(for: type), codec.canEncode, type != .f64 else { return [] }
      let plain = Storing(storage: StoredPrecision(type))
      let weighted = Storing(storage: StoredPrecision(type), usesImportance: true)
      return switch codec.importanceUse {
      case .ignored: [plain]
      case .optional: [plain, weighted]
      case .required: [weighted]
      }
    }
    + [
      WeightScheme.fp8Tiles, .fp8Channel, .int8Channel, .int4Group(32), .int4Group(128), .nvfp4, .mxfp4,
    ].map { Storing(storage: StoredPrecision($0)) }

  /// How many neighbours in a row share a scale that nothing outside uses.
  var group: Int {
    switch storage.scheme {
    case nil: max(32, storage.elementType.block.elements)
    case .fp8Block: 128
    case .fp8Channel, .int8Channel: Weights.columns
    case .int4Group(let length): length
    case .nvfp4: 16
    case .mxfp4: 32
    }
  }

  /// The values after encoding and decoding, and the smallest step that a scale of the whole matrix allows.
  func restored(_ values: [Float]) throws -> (values: [Float], floor: Double) {
    let columns = Weights.columns
    guard let scheme = storage.scheme else {
      return (try coded(values, storage.elementType, usesImportance ? Weights.importance : nil), 0)
    }
    switch scheme {
    case .fp8Block:
      let scales = tiles(values, 128, 128).map { max($0, 1e-12) / 448 }
      return (try scaled(values) { scales[$0 / 128 * (columns / 128) + $1 / 128] }, 0)
    case .fp8Channel:
      let scales = tiles(values, 1, columns).map { max($0, 1e-12) / 448 }
      return (try scaled(values) { row, _ in scales[row] }, 0)
    case .int8Channel:
      let scales = tiles(values, 1, columns).map { max($0, 1e-12) / 127 }
      return (steps(values, -127...127) { row, _ in scales[row] }, 0)
    case .int4Group(let length):
      let scales = tiles(values, 1, length).map { max($0, 1e-12) / 7.5 }
      return (steps(values, -8...7) { scales[$0 * (columns / length) + $1 / length] }, 0)
    case .nvfp4:
      let largest = values.map(\.magnitude).max() ?? 0
      let whole = largest / 2688
      let wanted = tiles(values, 1, 16).map { $0 / 6 / whole }
      let scales = try coded(wanted, .f8E4M3, nil)
      return (
        fourBits(values) { scales[$0 * (columns / 16) + $1 / 16] * whole }, 6 * 0x1p-10 * Double(whole)
      )
    case .mxfp4:
      let scales = tiles(values, 1, 32).map {
        $0 > 0 ? Float(sign: .plus, exponent: $0.exponent - 2, significand: 1) : 0
      }
      return (fourBits(values) { scales[$0 * (columns / 32) + $1 / 32] }, 0)
    }
  }

  private func coded(_ values: [Float], _ type: ElementType, _ importance: [Float]?) throws -> [Float] {
    let codec = try #require(BlockCodec.codec(for: type))
    let count = try #require(type.block.byteCount(ofElements: values.count))
    var bytes = [UInt8](repeating: 0, count: count)
    var restored = [Float](repeating: 0, count: values.count)
    do {
      var span = bytes.mutableSpan
      var target = span.mutableBytes
      let columns = values.count % Weights.columns == 0 ? Weights.columns : values.count
      try codec.encode(values.span, columns: columns, importance: importance?.span, into: &target)
    }
    var span = restored.mutableSpan
    try codec.decode(bytes.span.bytes, into: &span)
    return restored
  }

  /// The largest magnitude of each tile.
  private func tiles(_ values: [Float], _ height: Int, _ width: Int) -> [Float] {
    let across = Weights.columns / width
    var largest = [Float](repeating: 0, count: values.count / Weights.columns / height * across)
    for (index, value) in values.enumerated() {
      let tile = index / Weights.columns / height * across + index % Weights.columns / width
      largest[tile] = max(largest[tile], value.magnitude)
    }
    return largest
  }

  private func scaled(_ values: [Float], _ scale: (Int, Int) -> Float) throws -> [Float] {
    let scales = values.indices.map { scale($0 / Weights.columns, $0 % Weights.columns) }
    return zip(try coded(zip(values, scales).map { $0 / $1 }, .f8E4M3, nil), scales).map { $0 * $1 }
  }

  private func steps(_ values: [Float], _ range: ClosedRange<Float>, _ scale: (Int, Int) -> Float) -> [Float]
  {
    values.enumerated().map { index, value in
      let scale = scale(index / Weights.columns, index % Weights.columns)
      let level = (value / scale).rounded(.toNearestOrEven)
      return min(max(level, range.lowerBound), range.upperBound) * scale
    }
  }

  private func fourBits(_ values: [Float], _ scale: (Int, Int) -> Float) -> [Float] {
    let levels: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    return values.enumerated().map { index, value in
      let scale = scale(index / Weights.columns, index % Weights.columns)
      guard scale > 0 else { return 0 }
      let wanted = value.magnitude / scale
      let level = levels.min { abs($0 - wanted) < abs($1 - wanted) } ?? 0
      return value < 0 ? -level * scale : level * scale
    }
  }
}

/// Judges rows as ``TensorVerification`` does.
func judge(
  _ source: [Float], _ candidate: [Float], _ bound: ErrorBound, floor: Double = 0
) throws -> TensorErrors {
  let columns = Weights.columns
  let judge = RowJudge(bound: bound, floor: floor, isStack: false)
  var errors = TensorErrors()
  var height = source.count / columns
  if case .tile(let rows, _) = bound.reach { height = rows }
  let (x, y) = (source.span, candidate.span)
  for first in stride(from: 0, to: source.count / columns, by: height) {
    let end = min(first + height, source.count / columns)
    let tiles = judge.tiles(x.extracting(first * columns..<end * columns), columns: columns)
    for row in first..<end {
      let range = row * columns..<(row + 1) * columns
      try judge.judge(
        x.extracting(range), y.extracting(range), tiles,
        at: TensorErrors.Place(matrix: 0, row: row, column: 0), into: &errors)
    }
  }
  return errors
}
