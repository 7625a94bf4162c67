import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// The overloads on arrays, against those on spans.
@Suite("codecs on arrays") struct ArrayConvenienceTests {
  private let values: [Float]
  private let importance: [Float]

  init() {
    var generator = SeededGenerator(seed: 4)
    values = (0..<1024).map { _ in Float.random(in: -2...2, using: &generator) }
    importance = (0..<256).map { _ in Float.random(in: 0...3, using: &generator) }
  }

  @Test(
    "block codecs on arrays equal those on spans", arguments: [ElementType.q4K, .q8_0, .bf16, .iq4XS, .f32])
  func blocks(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    for importance in [nil, importance] {
      let blocks = try codec.encode(values, columns: 256, importance: importance)
      var expected = [UInt8](repeating: 0, count: blocks.count)
      var span = expected.mutableSpan
      var bytes = unsafe span.mutableBytes
      try codec.encode(values.span, columns: 256, importance: importance?.span, into: &bytes)
      #expect(blocks == expected && blocks.count == type.block.byteCount(ofElements: 1024))
      let restored = try codec.decode(blocks)
      var floats = [Float](repeating: 0, count: 1024)
      var target = floats.mutableSpan
      try unsafe codec.decode(blocks.span.bytes, into: &target)
      #expect(restored == floats)
      #expect(
        try ErrorSums(original: values, restored: restored)
          == ErrorSums(original: values.span, restored: floats.span))
    }
  }

  @Test func incompleteRowsAreRefused() throws {
    let codec = try #require(BlockCodec.codec(for: .q4K))
    #expect(throws: CheckpointError.self) {
      try codec.encode([Float](repeating: 1, count: 100), columns: 100)
    }
    #expect(throws: CheckpointError.self) { try codec.encode(values, columns: 0) }
    #expect(throws: CheckpointError.self) { try codec.encode(values, columns: 256, importance: [1]) }
    #expect(throws: CheckpointError.self) { try codec.decode([UInt8](repeating: 0, count: 143)) }
    #expect(try codec.decode([]) == [])
    #expect(FiniteCheck.firstNonFinite([1, 2, .nan]) == 2 && FiniteCheck.firstNonFinite(values) == nil)
  }

  @Test(
    "row schemes on arrays equal those on spans",
    arguments: [WeightScheme.int4Group(128), .nvfp4, .int8Channel])
  func rows(scheme: WeightScheme) throws {
    let codec = try RowScheme(StoredScheme(scheme, .compressedTensors))
    for search in [ScaleSearch.absmax, .mse] {
      let rows = try codec.encode(values, columns: 256, matrixScale: 1.5, search: search)
      var codes = [UInt8](repeating: 0, count: 4 * (try codec.codeBytes(columns: 256)))
      var scales = [UInt8](repeating: 0, count: 4 * (try codec.scaleBytes(columns: 256)))
      var codeSpan = codes.mutableSpan
      var scaleSpan = scales.mutableSpan
      var codeBytes = unsafe codeSpan.mutableBytes
      var scaleBytes = unsafe scaleSpan.mutableBytes
      try codec.encode(
        values.span, columns: 256, matrixScale: 1.5, search: search, codes: &codeBytes, scales: &scaleBytes)
      #expect(rows.codes == codes && rows.scales == scales)
      var floats = [Float](repeating: 0, count: 1024)
      var target = floats.mutableSpan
      try unsafe codec.decode(
        codes: codes.span.bytes, scales: scales.span.bytes, columns: 256, matrixScale: 1.5, into: &target)
      #expect(try codec.decode(rows, columns: 256, matrixScale: 1.5) == floats)
    }
    #expect(throws: CheckpointError.self) { try codec.encode(values, columns: 0, search: .absmax) }
    #expect(throws: CheckpointError.self) { try codec.encode(values, columns: 300, search: .absmax) }
  }
}
