import ByteStreams
import CheckpointTesting
import TensorFormats
import Testing

/// Tensors stored in pieces, read in ranges of every kind.
@Suite struct GatheredSourceTests {
  /// A stack of 2 matrices of 6 rows of 10 bytes, each byte its own number.
  private let whole = (0..<120).map { UInt8($0) }

  private func piece(_ matrices: Range<Int>, _ rows: Range<Int>, _ columns: Range<Int>)
    -> GatheredSource.Piece
  {
    var bytes: [UInt8] = [99, 99, 99]
    for matrix in matrices {
      for row in rows { bytes += columns.map { whole[(matrix * 6 + row) * 10 + $0] } }
    }
    return GatheredSource.Piece(
      MemorySource(bytes), offset: 3, matrices: matrices, rows: rows, columns: columns)
  }

  private func gathered(_ pieces: [GatheredSource.Piece]) -> GatheredSource? {
    GatheredSource(path: "whole", matrices: 2, rows: 6, rowBytes: 10, pieces: pieces)
  }

  @Test("every range reads the same however the tensor is cut") func stretches() throws {
    let cuts: [[GatheredSource.Piece]] = [
      [piece(0..<2, 0..<6, 0..<10)],
      [piece(1..<2, 0..<6, 0..<10), piece(0..<1, 0..<6, 0..<10)],
      [piece(0..<2, 0..<2, 0..<10), piece(0..<2, 2..<6, 0..<10)],
      [piece(0..<2, 0..<6, 4..<10), piece(0..<2, 0..<6, 0..<4)],
      [
        piece(0..<1, 0..<6, 0..<5), piece(0..<1, 0..<6, 5..<10), piece(1..<2, 0..<3, 0..<10),
        piece(1..<2, 3..<6, 0..<10),
      ],
    ]
    for pieces in cuts {
      let source = try #require(gathered(pieces))
      for start in 0...120 {
        for end in start...120 { #expect(try source.readBytes(start..<end) == Array(whole[start..<end])) }
      }
    }
  }

  @Test("pieces that leave a gap, overlap or reach beyond their source are refused") func refusals() {
    #expect(gathered([piece(0..<1, 0..<6, 0..<10)]) == nil)
    #expect(gathered([piece(0..<2, 0..<6, 0..<6), piece(0..<2, 0..<6, 5..<9)]) == nil)
    #expect(gathered([piece(0..<2, 0..<5, 0..<10), piece(0..<2, 4..<5, 0..<10)]) == nil)
    let short = GatheredSource.Piece(
      MemorySource(Array(whole[..<119])), offset: 0, matrices: 0..<2, rows: 0..<6, columns: 0..<10)
    #expect(gathered([short]) == nil)
  }

  @Test("concatenated sources, empty ones among them, read as one") func concatenation() throws {
    let source = ConcatenatedSource(
      path: "all", [whole[..<7], whole[7..<7], whole[7..<100], whole[100...]].map { MemorySource(Array($0)) })
    #expect(source.byteCount == 120)
    for start in stride(from: 0, to: 120, by: 3) {
      for end in start...120 { #expect(try source.readBytes(start..<end) == Array(whole[start..<end])) }
    }
    #expect(throws: CheckpointError.self) { try source.readBytes(100..<121) }
  }
}
