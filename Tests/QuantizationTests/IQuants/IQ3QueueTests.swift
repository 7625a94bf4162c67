import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// The IQ3 kernels queue the work of many groups and process it in vectors: whatever a queue holds, and however much, the
/// bytes are the twin's.
@Suite("IQ3 queues") struct IQ3QueueTests {
  static let types: [ElementType] = [.iq3XXS, .iq3S]

  /// Compares every tier with the twin, on as many super-blocks as there are.
  private func expectTwin(_ values: [Float], _ type: ElementType, importance: [Float]?, _ what: String) throws
  {
    let codec = try #require(BlockCodec.codec(for: type))
    let columns = importance?.count ?? values.count
    let expected = try IQuantTests.encode(codec, values, columns: columns, importance, tier: nil)
    for tier in KernelTier.runnable {
      let bytes = try IQuantTests.encode(codec, values, columns: columns, importance, tier: tier)
      IQuantTests.expectEqualBlocks(
        bytes, expected, type, "\(what), \(tier), importance: \(importance != nil)")
    }
  }

  @Test("any number of groups with stretches encodes as the twin", arguments: types)
  func anyNumberOfGroups(type: ElementType) throws {
    // From none to all 64 groups of a super-block, which leaves every possible vector remainder, in queues of short
    // lists and of long ones.
    var values: [Float] = []
    for active in 0...64 {
      let groups = IQuantRows.normal(count: 256, seed: 0xAC + UInt64(active))
      // Scattered over the sub-blocks: 37 and 64 are coprime.
      let chosen = Set((0..<active).map { $0 * 37 % 64 })
      values += groups.indices.map { chosen.contains($0 / 4) ? groups[$0] : 0 }
    }
    try expectTwin(values, type, importance: nil, "groups")
    try expectTwin(values, type, importance: IQuantRows.importance(columns: values.count), "groups")
    // The same as batches of one super-block, whose last lanes repeat the first.
    for block in [0, 1, 2, 17, 63, 64] {
      try expectTwin(
        Array(values[block * 256..<block * 256 + 256]), type, importance: nil, "\(block) groups alone")
    }
  }

  @Test("batches without any stretch encode as the twin", arguments: types) func emptyBatches(
    type: ElementType
  ) throws {
    for count in [1, 2, 8, 9] {
      let zeros = [Float](repeating: 0, count: 256 * count)
      try expectTwin(zeros, type, importance: nil, "zeros")
      try expectTwin(zeros, type, importance: IQuantRows.importance(columns: zeros.count), "zeros")
      // Every group is on the point of level 0 in all coordinates, or on the one with one level 7 at most scales.
      let spikes = zeros.indices.map { $0 % 32 == 5 ? Float(1) : 0 }
      try expectTwin(spikes, type, importance: nil, "spikes")
    }
  }

  @Test("full batches, and full and empty ones in turn, encode as the twin", arguments: types)
  func fullBatches(type: ElementType) throws {
    var generator = SeededGenerator(seed: 0xF1)
    // Values between a half and the whole of the largest cross most levels from the first candidate to the last, each
    // at a different scale: no group can have many more stretches.
    func full() -> [Float] {
      (0..<256).map {
        let sign: Float = Bool.random(using: &generator) ? 1 : -1
        return sign * ($0 % 32 == 3 ? 1 : Float.random(in: 0.5...1, using: &generator))
      }
    }
    let empty = [Float](repeating: 0, count: 256)
    for kinds in ["fffffffff", "fefefefef", "eeeeeeeef", "feeeeeeee", "eefeefffe", "f", "fe", "ef"] {
      let values = kinds.flatMap { $0 == "f" ? full() : empty }
      try expectTwin(values, type, importance: nil, kinds)
      try expectTwin(values, type, importance: IQuantRows.importance(columns: values.count), kinds)
    }
  }

  @Test("ties between levels and between neighbours encode as the twin", arguments: types)
  func edgesAndTies(type: ElementType) throws {
    var generator = SeededGenerator(seed: 0x71E)
    // At the candidate of reach 14, multiples of 1/7 of the largest are half way between two levels; at that of 15,
    // odd multiples of 1/15 are on a level.
    for steps in [7, 14, 15, 30] {
      let values: [Float] = (0..<9 * 256).map {
        let level = $0 % 32 == 9 ? steps : Int.random(in: -steps...steps, using: &generator)
        return Float(level) / Float(steps)
      }
      let equal = [Float](repeating: 1, count: 768)
      let none = equal.indices.map { Float($0 / 4 % 3 == 0 ? 0 : 1) }
      let some = equal.indices.map { Float($0 % 3 == 0 ? 0 : 1) }
      let faint = equal.indices.map { Float($0 / 4 % 2 == 0 ? 1e-38 : 1) }
      for importance in [nil, equal, none, some, faint] {
        try expectTwin(values, type, importance: importance, "\(steps) steps")
      }
    }
    for magnitude: Float in [1, 0.37, 1e-3] {
      let values: [Float] = (0..<9 * 256).map { _ in Bool.random(using: &generator) ? magnitude : -magnitude }
      try expectTwin(values, type, importance: nil, "one magnitude")
      try expectTwin(values, type, importance: IQuantRows.importance(columns: 768), "one magnitude")
    }
  }

  @Test("sub-blocks that cannot be queued encode as the twin among others", arguments: types)
  func untamedAmongOthers(type: ElementType) throws {
    // A sub-block with values that are too large, too small or NaN is searched without queues, and so are those
    // in the lanes beside it.
    for odd: Float in [1e30, -3e38, 1e-30, 0x1p-140, .infinity, .nan] {
      var values = IQuantRows.normal(count: 9 * 256, seed: 0x0DD)
      // A single small value does not matter among larger ones, so all values of the sub-block are small.
      if odd.magnitude < 1 { for element in 512..<544 { values[element] *= odd } }
      values[520] = odd
      values[2000] = odd
      try expectTwin(values, type, importance: nil, "\(odd)")
      try expectTwin(values, type, importance: IQuantRows.importance(columns: 768), "\(odd)")
    }
    let values = IQuantRows.normal(count: 9 * 256, seed: 0x0DE)
    for odd: Float in [0, .leastNonzeroMagnitude, 1e-30, 1e30, 3e38] {
      var importance = IQuantRows.importance(columns: 768)
      for column in stride(from: 0, to: 768, by: 11) { importance[column] = odd }
      try expectTwin(values, type, importance: importance, "importance \(odd)")
    }
  }

  @Test("many random rows encode as the twin", arguments: types) func randomRows(type: ElementType) throws {
    var generator = SeededGenerator(seed: 0x1A3)
    for scale: Float in [1e-7, 0.02, 100] {
      let normal = IQuantRows.normal(count: 33 * 256, seed: 0x2B, scale: scale)
      // Products of two are heavy-tailed.
      let heavy = zip(normal, IQuantRows.normal(count: 33 * 256, seed: 0x2C, scale: 1)).map { $0 * $1 }
      let sparse = normal.map { Float.random(in: 0..<1, using: &generator) < 0.8 ? 0 : $0 }
      for values in [normal, heavy, sparse] {
        try expectTwin(values, type, importance: nil, "scale \(scale)")
        try expectTwin(values, type, importance: IQuantRows.importance(columns: 11 * 256), "scale \(scale)")
      }
    }
  }
}
