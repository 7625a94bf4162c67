internal import Checkpoint
internal import ModelWeights
internal import TensorFormats

/// Which tensor of one checkpoint is which of another.
///
/// Names are compared in the published form, where a model description knows it, so that a GGUF file meets the
/// checkpoint that it was made from. Where a partition set holds boxes or copies of a tensor, each of them meets what
/// it has in common with the other side. Scales are no tensors of their own where the other side has none: they are
/// part of the values of the weight that they scale.
struct TensorPairing {
  /// Two stored tensors with elements in common.
  struct Pair {
    let a: CheckpointPieces.Piece
    let b: CheckpointPieces.Piece
    /// What they have in common; `nil` if the tensors have different shapes.
    let box: TensorBox?
  }

  private(set) var pairs: [Pair] = []
  private(set) var onlyInA: [String] = []
  private(set) var onlyInB: [String] = []
  /// Tensors of which one side has elements that the other lacks.
  private(set) var incomplete: [DifferenceReport.Incomplete] = []

  init(_ a: CheckpointPieces, _ b: CheckpointPieces) {
    for name in a.names {
      let (left, right) = (a[name], b[name])
      guard let first = left.first, let counterpart = right.first else {
        if !Self.isAbsorbed(name, of: a, by: b) { onlyInA += Self.names(left) }
        continue
      }
      let shape = first.box.shape
      guard (left + right).allSatisfy({ $0.box.shape == shape }) else {
        pairs.append(Pair(a: first, b: counterpart, box: nil))
        continue
      }
      if left.map(\.box) == right.map(\.box) {
        for (piece, other) in zip(left, right) { pairs.append(Pair(a: piece, b: other, box: piece.box)) }
        continue
      }
      var shared: Set<TensorBox> = []
      for piece in left {
        for other in right {
          guard let box = piece.box.intersection(other.box) else { continue }
          pairs.append(Pair(a: piece, b: other, box: box))
          shared.insert(box)
        }
      }
      let common = Self.count(shared)
      let (inA, inB) = (Self.count(Set(left.map(\.box))), Self.count(Set(right.map(\.box))))
      if inA != common || inB != common {
        incomplete.append(
          .init(
            name: first.tensor.name, elements: shape.elementCount, inA: inA, inB: inB, inBoth: common))
      }
    }
    for name in b.names where a[name].isEmpty && !Self.isAbsorbed(name, of: b, by: a) {
      onlyInB += Self.names(b[name])
    }
  }

  /// The stored names of a tensor: several copies have one.
  private static func names(_ pieces: [CheckpointPieces.Piece]) -> [String] {
    pieces.first.map { [$0.tensor.name] } ?? []
  }

  /// The elements in boxes that do not overlap.
  private static func count(_ boxes: Set<TensorBox>) -> Int { boxes.reduce(0) { $0 + $1.elementCount } }

  /// Whether a tensor that the other side lacks is a scale, and the weight that it belongs to is there.
  private static func isAbsorbed(
    _ name: String, of owner: CheckpointPieces, by other: CheckpointPieces
  ) -> Bool {
    guard let weight = BlockScales.weightName(ofScale: name) else { return false }
    return owner[weight].first?.tensor.elementType == .f8E4M3 && !other[weight].isEmpty
  }
}
