import CheckpointTesting
import Foundation
import Quantization
import TensorFormats
import Testing

/// The figures that a conversion puts its errors beside, measured again.
@Suite struct UsualErrorTests {
  @Test(arguments: ElementType.allCases.filter { $0.errorOnNormalWeights != nil })
  func whatIsStatedIsMeasured(_ type: ElementType) throws {
    let (rows, columns) = (48, 1024)
    var generator = SeededGenerator(seed: 0x0e44)
    var values: [Float] = []
    while values.count < rows * columns {
      // Box and Muller's two normal numbers.
      let radius =
        0.02 * (-2 * log(Double.random(in: Double.leastNonzeroMagnitude..<1, using: &generator))).squareRoot()
      let angle = 2 * Double.pi * Double.random(in: 0..<1, using: &generator)
      values += [Float(radius * cos(angle)), Float(radius * sin(angle))]
    }
    let codec = try #require(BlockCodec.codec(for: type))
    let importance = codec.importanceUse == .required ? [Float](repeating: 1, count: columns) : nil
    let blocks = try IQuantTests.encode(codec, values, columns: columns, importance, tier: .active)
    let decoded = try IQuantTests.decode(codec, blocks, tier: .active)
    var (lost, whole) = (0.0, 0.0)
    for (value, result) in zip(values, decoded) {
      lost += Double(value - result) * Double(value - result)
      whole += Double(value) * Double(value)
    }
    let measured = (lost / whole).squareRoot()
    let stated = try #require(type.errorOnNormalWeights)
    #expect(abs(measured / stated - 1) < 0.03, "\(type): measured \(measured), stated \(stated)")
  }
}
