package import Checkpoint
package import StoredWeights
package import TensorFormats

/// Elements of one weight that two checkpoints hold.
package struct WeightPair: Sendable {
  /// The published name.
  package let name: String
  /// The part of a partition set that ``a`` is in; `nil` where it is not about a single part.
  package let part: String?
  package let a: WeightSide
  package let b: WeightSide
  /// What is compared: a box that both sides hold.
  package let box: TensorBox

  /// The box's matrices, and their rows and columns.
  package var matrixCount: Int { box.extent.dropLast(2).reduce(1, *) }
  package var rows: Int { box.extent.count < 2 ? 1 : box.extent[box.extent.count - 2] }
  package var columns: Int { box.extent.last ?? 1 }
}

/// One side of a pair: a piece of a weight, or all of its pieces together.
///
/// A class, because a checkpoint has one for each tensor, and each refers to all its weights.
package final class WeightSide: Sendable {
  package let weights: ModelWeights
  package let weight: ModelWeights.Weight
  /// The piece; of several, the first.
  package let piece: ModelWeights.Piece
  /// Whether it is the whole weight, assembled from its pieces.
  package let isWhole: Bool
  /// What is added to its values before comparing: not 0 if the other side's files hold sums; see
  /// ``StoredWeights/ModelWeights/offset(of:)``.
  package let offset: Float

  init(
    _ weights: ModelWeights, _ weight: ModelWeights.Weight, _ piece: ModelWeights.Piece,
    isWhole: Bool = false,
    beside other: ModelWeights
  ) {
    offset = weights.checkpoint.format == other.checkpoint.format ? 0 : weights.offset(of: weight.name)
    self.weights = weights
    self.weight = weight
    self.piece = piece
    self.isWhole = isWhole
  }

  /// How the piece is stored.
  package var stored: StoredWeight { piece.stored }
  /// The file of its values or codes.
  package var file: Checkpoint.File { weights.checkpoint.files[stored.codes.file] }
  /// Its pieces.
  package var pieces: [ModelWeights.Piece] { isWhole ? weight.pieces : [piece] }
  /// Which elements of the weight it has.
  package var box: TensorBox { isWhole ? TensorBox(wholeOf: weight.shape) : piece.box }
  /// Whether its values need separate scale tensors.
  package var isScaled: Bool { stored.components.count > 1 }

  /// The approximate bytes to read for this many of its elements.
  func byteCount(of elements: Int) -> Int {
    func share(_ stored: StoredWeight, _ elements: Int) -> Int {
      Int(Double(stored.byteCount) * min(1, Double(elements) / Double(max(1, stored.shape.elementCount))))
    }
    guard isWhole else { return share(stored, elements) }
    let all = Double(weight.pieces.reduce(0) { $0 + share($1.stored, $1.box.elementCount) })
    return Int(all * Double(elements) / Double(max(1, weight.shape.elementCount)))
  }
}
