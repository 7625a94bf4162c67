/// What is known about a section of a file before it is archived.
package struct PlannedSection: Sendable {
  package let section: ArchiveLayout.Section
  package let method: ArchiveMethod
}

/// Consecutive pieces of a file that are processed together.
struct Batch: Sendable {
  struct Piece: Sendable {
    /// In the original.
    let range: Range<Int>
    /// The section that it belongs to.
    let section: Int
  }

  var pieces: [Piece]

  /// In the original.
  var range: Range<Int> { pieces[0].range.lowerBound..<pieces[pieces.count - 1].range.upperBound }
  /// The piece's range within the batch.
  func place(of piece: Piece) -> Range<Int> {
    piece.range.lowerBound - range.lowerBound..<piece.range.upperBound - range.lowerBound
  }

  /// The size of a batch, unless a single piece is larger.
  static let byteCount = 4 << 20
  /// With tiny tensors, more pieces would make a batch take longer than the others.
  static let mostPieces = 4096

  /// The memory of one batch in progress: its bytes, their encoded form, and an encoder.
  static let memory = 2 * byteCount + 2 << 20
}

/// The batches of a file, starting at a given piece.
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
