import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// The values that a block can hold, element by element, are those that its decoder gives.
@Suite struct BlockGridTests {
  static let types: [ElementType] = [
    .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q2K, .q3K, .q4K, .q5K, .q6K, .iq4NL, .iq4XS, .mxfp4, .nvfp4,
  ]
  static let columns = 1024

  static func values(_ type: ElementType, rows: Int, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<rows * columns).map { _ in
      // Two of the types have no tensor-wide scale and so a narrow range.
      Float.random(in: -1...1, using: &generator) * Float.random(in: 0...2, using: &generator)
    }
  }

  static func encoded(_ type: ElementType, _ values: [Float]) throws -> [UInt8] {
    let codec = try #require(BlockCodec.codec(for: type))
    var blocks = [UInt8](repeating: 0, count: values.count / type.block.elements * type.block.bytes)
    var span = blocks.mutableSpan
    var bytes = span.mutableBytes
    try codec.encode(values.span, columns: columns, into: &bytes)
    return blocks
  }

  static func decoded(_ type: ElementType, _ blocks: [UInt8]) throws -> [Float] {
    let codec = try #require(BlockCodec.codec(for: type))
    var values = [Float](repeating: 0, count: blocks.count / type.block.bytes * type.block.elements)
    var span = values.mutableSpan
    try codec.decode(blocks.span.bytes, into: &span)
    return values
  }

  static func storing(_ codes: [UInt8], in blocks: [UInt8], _ grid: BlockGrid) -> [UInt8] {
    var changed = blocks
    var span = changed.mutableSpan
    var bytes = span.mutableBytes
    grid.store(codes.span, in: &bytes)
    return changed
  }

  @Test("a stored code decodes to the promised value, and the scales stay the same", arguments: types)
  func stored(_ type: ElementType) throws {
    let grid = try #require(BlockGrid(type))
    let blocks = try Self.encoded(type, Self.values(type, rows: 2, seed: 1))
    let groups = grid.groups(of: blocks.span.bytes)
    #expect(groups.count * grid.groupLength == 2 * Self.columns)
    let wanted = Self.values(type, rows: 2, seed: 2)
    let choices = wanted.indices.map { grid.nearest(wanted[$0], in: groups[$0 / grid.groupLength]) }
    let changed = Self.storing(choices.map(\.code), in: blocks, grid)
    #expect(changed != blocks && grid.groups(of: changed.span.bytes) == groups)
    let values = try Self.decoded(type, changed)
    #expect(zip(values, choices).allSatisfy { $0 == $1.value })
    // A stored value is nearest to itself.
    let again = values.indices.map { grid.nearest(values[$0], in: groups[$0 / grid.groupLength]).value }
    #expect(again == values)
  }

  @Test("the chosen code is the nearest", arguments: types)
  func nearest(_ type: ElementType) throws {
    let grid = try #require(BlockGrid(type))
    let blocks = try Self.encoded(type, Self.values(type, rows: 1, seed: 3))
    let groups = grid.groups(of: blocks.span.bytes)
    let wanted = Self.values(type, rows: 1, seed: 4)
    let chosen = wanted.indices.map { grid.nearest(wanted[$0], in: groups[$0 / grid.groupLength]).value }
    let most = wanted.indices.map { Int(grid.nearest(wanted[$0], in: groups[$0 / grid.groupLength]).code) }
      .max()
    // Every code of the format: one wider than its bits would decode as another.
    let count = [.q8_0: 255, .q6K: 64, .q5K: 32, .q5_0: 32, .q5_1: 32, .q3K: 8, .q2K: 4][type] ?? 16
    #expect(most.map { $0 < count } == true)
    for code in 0..<count {
      let all = try Self.decoded(
        type,
        Self.storing([UInt8](repeating: UInt8(code), count: Self.columns), in: blocks, grid))
      for index in wanted.indices {
        let (mine, other) = (abs(chosen[index] - wanted[index]), abs(all[index] - wanted[index]))
        #expect(mine <= other * 1.000_01 + 1e-7, "\(type), code \(code) of \(wanted[index])")
      }
    }
  }

  @Test("a scale of 0 does not trap", arguments: types)
  func zeros(_ type: ElementType) throws {
    let grid = try #require(BlockGrid(type))
    let blocks = try Self.encoded(type, [Float](repeating: 0, count: Self.columns))
    for group in grid.groups(of: blocks.span.bytes) {
      for value: Float in [0, -0.0, 1, -3e38, 3e38] {
        #expect(grid.nearest(value, in: group).value.magnitude <= abs(group.scale) * 128 + abs(group.offset))
      }
    }
  }

  @Test("lattice formats, whose codes stand for several elements, have no grid")
  func lattices() {
    for type: ElementType in [.iq1S, .iq2XXS, .iq2XS, .iq2S, .iq3XXS, .iq3S, .tq1_0, .q8K, .f16, .bf16] {
      #expect(BlockGrid(type) == nil)
    }
  }

  @Test("blocks encoded elsewhere are measured like those encoded here", arguments: types)
  func compared(_ type: ElementType) throws {
    let values = Self.values(type, rows: 20, seed: 5)
    let transcoder = try RowTranscoder(from: .f32, to: type, columns: Self.columns)
    var scratch = transcoder.makeScratch()
    var blocks = [UInt8](repeating: 0, count: values.count / type.block.elements * type.block.bytes)
    let sums: ErrorSums
    do {
      var span = blocks.mutableSpan
      var bytes = span.mutableBytes
      sums = try transcoder.transcode(values.span.bytes, rows: 20, into: &bytes, scratch: &scratch)
    }
    let compared = try transcoder.compare(
      values.span.bytes, rows: 20, encoded: blocks.span.bytes, scratch: &scratch)
    #expect(compared == sums)
    var bad = values
    bad[3000] = .nan
    #expect(throws: CheckpointError.self) {
      try transcoder.compare(bad.span.bytes, rows: 20, encoded: blocks.span.bytes, scratch: &scratch)
    }
  }
}
