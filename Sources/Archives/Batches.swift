/// What is known of a part of a file before it is archived.
package struct PlannedSection: Sendable {
  package let section: ArchiveLayout.Section
  package let method: ArchiveMethod
}

/// Consecutive pieces of a file that are worked on in one go.
struct Batch: Sendable {
  struct Piece: Sendable {
    /// In the original.
    let range: Range<Int>
    /// Which section it is of.
    let section: Int
  }

  var pieces: [Piece]

  /// In the original.
  var range: Range<Int> { pieces[0].range.lowerBound..<pieces[pieces.count - 1].range.upperBound }
  /// From its start.
  func place(of piece: Piece) -> Range<Int> {
    piece.range.lowerBound - range.lowerBound..<piece.range.upperBound - range.lowerBound
  }

  /// How many bytes a batch has, unless one piece has more.
  static let byteCount = 4 << 20
  /// More of them, where tensors are tiny, would take longer than the rest.
  static let mostPieces = 4096

  /// What one batch needs while it is under way: its bytes, what becomes of them, and an encoder.
  static let memory = 2 * byteCount + 2 << 20
}

/// The batches of a file, from some piece on.
struct Batches: Sequence, IteratorProtocol, Sendable {
  private let sections: [PlannedSection]
  private var section = 0
  private var position: Int

  /// - Parameter position: Where a piece begins.
  init(_ sections: [PlannedSection], from position: Int) {
    self.sections = sections
    self.position = position
    while section < sections.count, sections[section].section.range.upperBound <= position { section += 1 }
  }

  mutating func next() -> Batch? {
    var batch = Batch(pieces: [])
    while section < sections.count, batch.pieces.count < Batch.mostPieces {
      let end = sections[section].section.range.upperBound
      let piece = position..<Swift.min(end, position + ArchiveLayout.pieceByteCount)
      if let first = batch.pieces.first, piece.upperBound - first.range.lowerBound > Batch.byteCount { break }
      batch.pieces.append(Batch.Piece(range: piece, section: section))
      position = piece.upperBound
      if position == end { section += 1 }
    }
    return batch.pieces.isEmpty ? nil : batch
  }
}
