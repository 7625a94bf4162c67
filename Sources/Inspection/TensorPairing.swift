internal import Checkpoint
internal import ModelWeights
internal import TensorFormats

/// Which weight of one checkpoint is which of another.
///
/// Names are compared in the published form, where a model description knows it, so that a GGUF file meets the
/// checkpoint that it was made from, and weights whatever their scheme: scales are no tensors of their own but part of
/// the values of the weight that they scale. Where a partition set holds boxes or copies of a weight, each of them
/// meets what it has in common with the other side.
struct TensorPairing {
  /// Two pieces of one weight with elements in common.
  struct Pair {
    /// The published name of the weight, where a side stores several weights as one tensor; `nil` elsewhere.
    let weight: String?
    let a: ModelWeights.Piece
    let b: ModelWeights.Piece
    /// What they have in common; `nil` if the weights have different shapes.
    let box: TensorBox?
  }

  private(set) var pairs: [Pair] = []
  private(set) var onlyInA: [String] = []
  private(set) var onlyInB: [String] = []
  /// Tensors of which one side has elements that the other lacks.
  private(set) var incomplete: [DifferenceReport.Incomplete] = []

  init(_ a: ModelWeights, _ b: ModelWeights) {
    for name in a.names {
      let (left, right) = (Self.pieces(a[name]), Self.pieces(b[name]))
      guard let first = left.first, let counterpart = right.first else {
        onlyInA += Self.names(name, left)
        continue
      }
      let shape = first.box.shape
      guard counterpart.box.shape == shape else {
        pairs.append(Self.pair(name, first, counterpart, nil))
        continue
      }
      if left.map(\.box) == right.map(\.box) {
        for (piece, other) in zip(left, right) { pairs.append(Self.pair(name, piece, other, piece.box)) }
        continue
      }
      var shared: Set<TensorBox> = []
      for piece in left {
        for other in right {
          guard let box = piece.box.intersection(other.box) else { continue }
          pairs.append(Self.pair(name, piece, other, box))
          shared.insert(box)
        }
      }
      let common = Self.count(shared)
      let (inA, inB) = (Self.count(Set(left.map(\.box))), Self.count(Set(right.map(\.box))))
      if inA != common || inB != common {
        incomplete.append(
          .init(
            name: Self.isFused(first) ? name : first.stored.codes.name, elements: shape.elementCount,
            inA: inA, inB: inB, inBoth: common))
      }
    }
    for name in b.names where a[name] == nil { onlyInB += Self.names(name, Self.pieces(b[name])) }
  }

  /// All that a checkpoint holds of a weight, copies too: each is a file that somebody will read.
  private static func pieces(_ weight: ModelWeights.Weight?) -> [ModelWeights.Piece] {
    weight.map { $0.pieces + $0.copies } ?? []
  }

  private static func pair(
    _ name: String, _ a: ModelWeights.Piece, _ b: ModelWeights.Piece, _ box: TensorBox?
  ) -> Pair {
    Pair(weight: isFused(a) || isFused(b) ? name : nil, a: a, b: b, box: box)
  }

  /// Whether the piece is some rows of a tensor that holds those of other weights too.
  private static func isFused(_ piece: ModelWeights.Piece) -> Bool {
    piece.stored.shape.dimensions != piece.box.extent
  }

  /// The stored name of a weight's values or codes: several copies have one.
  private static func names(_ name: String, _ pieces: [ModelWeights.Piece]) -> [String] {
    pieces.first.map { [isFused($0) ? name : $0.stored.codes.name] } ?? []
  }

  /// The elements in boxes that do not overlap.
  private static func count(_ boxes: Set<TensorBox>) -> Int { boxes.reduce(0) { $0 + $1.elementCount } }
}
