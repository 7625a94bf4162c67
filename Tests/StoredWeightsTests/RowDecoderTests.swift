import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import StoredWeights
import Quantization
import TensorFormats
import Testing

/// The bytes that rows need and the values that they decode to, for weights stored by definition.
@Suite struct RowDecoderTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// `[2, 5, 8]`: two matrices of five rows in tiles of 2 x 4, so that the last tile of each is half one.
  private func tiled(_ scalesType: String) throws -> (RowDecoder, Checkpoint, (Int, Int, Int) -> Float) {
    var file = WeightFile()
    // 0x38 is 1, 0x40 is 2 in F8_E4M3.
    let codes = (0..<80).map { UInt8($0 % 3 == 0 ? 0x40 : 0x38) }
    file.add("w.weight", "F8_E4M3", [2, 5, 8], codes)
    let scales = (0..<12).map { Float(1 << $0) }
    if scalesType == "BF16" {
      file.add(
        "w.weight_scale_inv", "BF16", [2, 3, 2], scales.flatMap { bytes(UInt16($0.bitPattern >> 16)) })
    } else {
      file.add("w.weight_scale_inv", "F32", [2, 3, 2], scales.flatMap { bytes($0.bitPattern) })
    }
    try file.write(to: directory.path("model.safetensors"))
    let checkpoint = try Checkpoint.open(directory.path("model.safetensors"))
    let stored = StoredWeight(
      StoredScheme(.fp8Block(rows: 2, columns: 4), .fp8), try #require(checkpoint["w.weight"]),
      TensorShape([2, 5, 8]), scales: checkpoint["w.weight_scale_inv"])
    return (
      try RowDecoder(stored, in: checkpoint), checkpoint,
      { matrix, row, column in
        (codes[(matrix * 5 + row) * 8 + column] == 0x40 ? 2 : 1)
          * scales[(matrix * 3 + row / 2) * 2 + column / 4]
      }
    )
  }

  @Test("rows need their codes and the scales of their own matrix's tiles", arguments: ["F32", "BF16"])
  func tiles(scalesType: String) throws {
    let (decoder, checkpoint, value) = try tiled(scalesType)
    #expect((decoder.columns, decoder.matrixRows, decoder.rowBytes) == (8, 5, 8))
    let size = scalesType == "F32" ? 4 : 2
    for (matrix, rows) in [(0, 0..<5), (1, 0..<5), (1, 1..<3), (0, 4..<5), (1, 3..<4)] {
      let reads = decoder.reads(rows, ofMatrix: matrix)
      let codes = try #require(checkpoint["w.weight"]).byteRange.lowerBound
      #expect(
        reads.codes.bytes == codes + (matrix * 5 + rows.lowerBound) * 8..<codes
          + (matrix * 5 + rows.upperBound) * 8)
      let scales = try #require(checkpoint["w.weight_scale_inv"]).byteRange.lowerBound
      let top = matrix * 3 + rows.lowerBound / 2
      let bottom = matrix * 3 + (rows.upperBound + 1) / 2
      #expect(reads.scales?.bytes == scales + top * 2 * size..<scales + bottom * 2 * size)
      #expect(reads.matrixScale == nil)
      let source = checkpoint.files[0].source
      var values = [Float](repeating: 0, count: rows.count * 8)
      var span = values.mutableSpan
      let (raw, tiles) = (
        try source.readBytes(reads.codes.bytes), try source.readBytes(try #require(reads.scales).bytes)
      )
      try decoder.decode(
        raw.span.bytes, scales: tiles.span.bytes, matrixScale: 1, rows: rows, into: &span)
      for (index, found) in values.enumerated() {
        #expect(found == value(matrix, rows.lowerBound + index / 8, index % 8))
      }
    }
  }

  @Test("scales of other rows are refused") func wrongScales() throws {
    let (decoder, _, _) = try tiled("F32")
    var values = [Float](repeating: 0, count: 16)
    var span = values.mutableSpan
    let (codes, scales) = ([UInt8](repeating: 0x38, count: 16), [UInt8](repeating: 0, count: 8))
    #expect(throws: CheckpointError.self) {
      // Rows 1 and 2 span two rows of tiles, and only one was given.
      try decoder.decode(
        codes.span.bytes, scales: scales.span.bytes, matrixScale: 1, rows: 1..<3, into: &span)
    }
  }

  @Test("a stack has a scale per matrix, or one for all", arguments: [1, 3])
  func matrixScales(count: Int) throws {
    var file = WeightFile()
    file.add("w.weight", "U8", [3, 2, 8], [UInt8](repeating: 0x22, count: 48))
    file.add("w.weight_scale", "F8_E4M3", [3, 2, 1], [UInt8](repeating: 0x38, count: 6))
    file.add("w.weight_scale_2", "F32", [count], (0..<count).flatMap { bytes(Float(10 + $0).bitPattern) })
    try file.write(to: directory.path("model.safetensors"))
    let checkpoint = try Checkpoint.open(directory.path("model.safetensors"))
    let stored = StoredWeight(
      StoredScheme(.nvfp4, .modelOpt), try #require(checkpoint["w.weight"]), TensorShape([3, 2, 16]),
      scales: checkpoint["w.weight_scale"],
      matrixScales: checkpoint["w.weight_scale_2"])
    let decoder = try RowDecoder(stored, in: checkpoint)
    for matrix in 0..<3 {
      let range = try #require(decoder.matrixScaleRead(ofMatrix: matrix))
      let raw = try checkpoint.files[0].source.readBytes(range.bytes)
      let scale = decoder.matrixScale(raw.span.bytes)
      #expect(scale == Float(10 + (count == 1 ? 0 : matrix)))
      let piece = try StoredMatrix(stored, in: checkpoint, matrix: matrix, firstRow: 0)
      var rows = StoredRows()
      try piece.read(1..<2, into: &rows)
      var values = [Float](repeating: 0, count: 16)
      var span = values.mutableSpan
      try piece.decode(rows, into: &span)
      // Code 2 is 1.
      #expect(values == [Float](repeating: scale, count: 16))
    }
  }

  private func bytes<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    (0..<Number.bitWidth / 8).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
  }
}
