import Quantization
import TensorFormats
import Testing

import Comparison

/// Error bounds against sound conversions and against every kind of fault, in every format that is written.
@Suite struct ErrorBoundTests {
  private static let source = StoredPrecision(.bf16)

  @Test("a sound conversion is within its bounds", arguments: Storing.all, Weights.Kind.allCases)
  func honest(storing: Storing, kind: Weights.Kind) throws {
    let weights = Weights(kind).values
    let bound = ErrorBound(storing.storage, of: Self.source)
    let (restored, floor) = try storing.restored(weights)
    let errors = try judge(weights, restored, bound, floor: floor)
    #expect(errors.badBlocks == 0, "worst: \(String(describing: errors.worstBlock))")
    let limit = bound.typical * errors.boundSquares.squareRoot()
    #expect(errors.sums.squaredErrors.squareRoot() <= limit)
    // The bound must be tight: never far above the actual error of ordinary weights.
    if kind == .gaussian, !bound.isExact, errors.sums.squaredErrors > 0,
      storing.storage.elementType != .f8E4M3,
      storing.storage.elementType != .nvfp4, storing.storage.elementType != .f16
    {
      #expect(errors.sums.squaredErrors.squareRoot() >= 0.15 * limit)
    }
  }

  enum Fault: String, CaseIterable, Sendable {
    case swappedRows, signOfARow, doubledScale, zeroedGroup, transposedTile, shiftedRow
  }

  @Test("every kind of fault is found", arguments: Storing.all, Fault.allCases)
  func faults(storing: Storing, fault: Fault) throws {
    for kind in [Weights.Kind.gaussian, .heavyTailed] {
      let weights = Weights(kind).values
      let bound = ErrorBound(storing.storage, of: Self.source)
      var (restored, floor) = try storing.restored(weights)
      let columns = Weights.columns
      // Any group of any row would do; this one is checked.
      let start = 77 * columns + columns / 2 / storing.group * storing.group
      let group = start..<start + storing.group
      switch fault {
      case .swappedRows:
        for column in 0..<columns { restored.swapAt(5 * columns + column, 200 * columns + column) }
      case .signOfARow: for index in 31 * columns..<32 * columns { restored[index] = -restored[index] }
      case .doubledScale: for index in group { restored[index] *= 2 }
      case .zeroedGroup: for index in group { restored[index] = 0 }
      case .transposedTile:
        for row in 0..<128 {
          for column in 0..<row { restored.swapAt(row * columns + column, column * columns + row) }
        }
      case .shiftedRow:
        let row = Array(restored[9 * columns..<10 * columns])
        for column in 0..<columns { restored[9 * columns + column] = row[(column + 1) % columns] }
      }
      let errors = try judge(weights, restored, bound, floor: floor)
      #expect(errors.badBlocks > 0, "\(kind): worst \(String(describing: errors.worstBlock))")
      let worst = try #require(errors.worstBlock)
      switch fault {
      case .swappedRows: #expect(worst.place.row == 5 || worst.place.row == 200)
      case .signOfARow: #expect(worst.place.row == 31)
      case .doubledScale, .zeroedGroup: #expect(worst.place.row == 77)
      case .transposedTile: #expect(worst.place.row < 128 && worst.place.column < 128)
      case .shiftedRow: #expect(worst.place.row == 9)
      }
    }
  }

  @Test("errors slightly too large everywhere are found", arguments: [ElementType.q8_0, .q4K, .q6K])
  func somewhatTooLarge(type: ElementType) throws {
    let weights = Weights(.gaussian).values
    let bound = ErrorBound(StoredPrecision(type), of: Self.source)
    let (restored, _) = try Storing(storage: StoredPrecision(type)).restored(weights)
    // Like an encoder with one bit less precision.
    let worse = zip(weights, restored).map { $0 + ($1 - $0) * 3.2 }
    let errors = try judge(weights, worse, bound)
    #expect(errors.sums.squaredErrors.squareRoot() > bound.typical * errors.boundSquares.squareRoot())
  }

  @Test func typesThatHoldAllValuesMustBeExact() {
    func isExact(_ candidate: ElementType, _ source: ElementType) -> Bool {
      ErrorBound(StoredPrecision(candidate), of: StoredPrecision(source)).isExact
    }
    for source in [ElementType.bf16, .f16, .f8E4M3, .f8E5M2, .f32, .q4K] { #expect(isExact(.f32, source)) }
    for source in [ElementType.bf16, .f8E4M3, .f8E5M2, .f4] { #expect(isExact(.bf16, source)) }
    for source in [ElementType.f16, .f8E4M3, .f8E5M2] { #expect(isExact(.f16, source)) }
    #expect(!isExact(.bf16, .f32) && !isExact(.bf16, .f16) && !isExact(.f16, .bf16) && !isExact(.bf16, .q8_0))
    #expect(
      ErrorBound(StoredPrecision(.f32), of: StoredPrecision(WeightScheme.fp8Tiles)).isExact
        && !ErrorBound(StoredPrecision(.bf16), of: StoredPrecision(WeightScheme.fp8Tiles)).isExact)
    // F16 has all the precision of BF16 and lacks only the smallest numbers.
    let half = ErrorBound(StoredPrecision(.f16), of: StoredPrecision(.bf16))
    #expect(half.relative == 0 && half.absolute == 0x1p-25)
  }

  @Test func errorsOfTwoFormatsAdd() {
    let one = ErrorBound(StoredPrecision(.q8_0), of: StoredPrecision(.bf16))
    let both = ErrorBound(StoredPrecision(.q8_0), of: StoredPrecision(WeightScheme.fp8Tiles))
    #expect(both.relative > one.relative + 0.06 && both.relative < 0.1)
    // But never so loose that zeros would pass.
    for candidate in Storing.all {
      for source in Storing.all {
        #expect(ErrorBound(candidate.storage, of: source.storage).relative < 1)
      }
    }
  }
}
