import CheckpointTesting
import Foundation
import Quantization
import TensorFormats
import Testing

/// The eight-bit floats agree with ml_dtypes, but saturate; see `Fixtures/golden/fp8/README.md`.
@Suite struct FlatEightBitTests {
  static let formats: [(type: ElementType, largest: Float)] = [
    (.f8E4M3, 448), (.f8E5M2, 57_344), (.f8E4M3FNUZ, 240), (.f8E5M2FNUZ, 57_344),
  ]

  /// All BF16 values, then random F32 values from 2^-20 to 2^18.
  static let inputs: [Float] = {
    var generator = SeededGenerator(seed: 2026)
    let brainFloats = (0..<65_536).map { Float(bitPattern: UInt32($0) << 16) }
    let random = (0..<16_384).map { _ in
      let v: UInt64 = generator.next()
      let exponent = UInt32(107 + (v >> 32) % 38)
      return Float(bitPattern: UInt32(v >> 63) << 31 | exponent << 23 | UInt32(v & 0x7F_FFFF))
    }
    return brainFloats + random
  }()

  static func golden(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("golden/fp8/\(name)"))))
  }

  @Test(arguments: formats) func roundsLikeMLDtypes(type: ElementType, largest: Float) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    let golden = try Self.golden("\(type).codes")
    let inputs = Self.inputs
    try #require(golden.count == inputs.count)
    let decoded = try codec.values(ofReference: golden)
    let saturated = try codec.bytes(ofReference: [largest, -largest], columns: 2, importance: nil)
    #expect(try codec.values(ofReference: saturated) == [largest, -largest])

    var expected = golden
    var saturations = 0
    for i in inputs.indices where inputs[i].isFinite && !decoded[i].isFinite {
      expected[i] = saturated[inputs[i] < 0 ? 1 : 0]
      saturations += 1
    }
    #expect(saturations > 1000)
    var forms = [("Swift", try codec.bytes(ofReference: inputs, columns: inputs.count, importance: nil))]
    for tier in KernelTier.runnable {
      forms.append(
        ("\(tier)", try codec.bytes(of: inputs, columns: inputs.count, importance: nil, tier: tier)))
    }
    for (form, found) in forms {
      let values = try codec.values(ofReference: found)
      // NaN has several codes; any of them is fine.
      let wrong = inputs.indices.first {
        found[$0] != expected[$0] && !(inputs[$0].isNaN && values[$0].isNaN && decoded[$0].isNaN)
      }
      #expect(wrong == nil, "\(type), \(form): \(inputs[wrong ?? 0])")
    }
  }

  @Test(arguments: [ElementType.f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ, .f8E8M0, .f4, .f6E2M3, .f6E3M2])
  func everyCodeDecodes(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    let expected = ReferenceVectors.floats(Data(try Self.golden("\(type).values")))
    let bytes: [UInt8] =
      switch type {
      case .f4: stride(from: 0, to: 16, by: 2).map { $0 | ($0 + 1) << 4 }
      case .f6E2M3, .f6E3M2:
        stride(from: UInt32(0), to: 64, by: 4).flatMap { first in
          let packed = first | (first + 1) << 6 | (first + 2) << 12 | (first + 3) << 18
          return [UInt8(packed & 255), UInt8(packed >> 8 & 255), UInt8(packed >> 16)]
        }
      default: (0...255).map { UInt8($0) }
      }
    for tier in KernelTier.runnable {
      let found = try codec.values(of: bytes, tier: tier)
      try #require(found.count == expected.count)
      #expect(found.indices.allSatisfy { found[$0].isSameResult(as: expected[$0]) }, "\(type), \(tier)")
    }
  }

  @Test func scalesAndSubByteScalarsAreReadOnly() throws {
    for type in [ElementType.f8E8M0, .f4, .f6E2M3, .f6E3M2, .q8_1] {
      let codec = try #require(BlockCodec.codec(for: type))
      #expect(!codec.canEncode)
      let error = #expect(throws: CheckpointError.self) {
        try codec.bytes(of: [Float](repeating: 0, count: 32), columns: 32, importance: nil, tier: .portable)
      }
      #expect(error?.code == .unsupported)
    }
  }
}
