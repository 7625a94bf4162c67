internal import Checkpoint
package import StoredWeights
package import TensorFormats

/// Which weights of two checkpoints correspond, and which elements they share.
///
/// Names are compared in published form, if a model description knows it, so that a GGUF file matches the checkpoint it
/// was made from, and weights match in any scheme: scales are not separate tensors here but part of their weight's
/// values.
package struct WeightPairing: Sendable {
  /// A checkpoint, or one part of a partition set treated separately.
  package struct Holder: Sendable {
    /// The part's name; `nil` for a whole checkpoint.
    package let part: String?
    package let weights: ModelWeights

    package init(part: String? = nil, _ weights: ModelWeights) {
      self.part = part
      self.weights = weights
    }
  }

  /// What the pieces of the first checkpoint are compared with, if either is partitioned.
  package enum Counterpart: Sendable {
    /// Each piece and copy of the second that shares elements with it, for these elements.
    case pieces
    /// The weight of the second, assembled from its pieces; if incomplete, the piece that holds all elements of the
    /// first's.
    case weight
  }

  /// What both hold under one name.
  package struct Match: Sendable {
    /// The published name.
    package let name: String
    /// The part that ``a`` is in.
    package let part: String?
    /// `nil` if only the second checkpoint has it.
    package let a: ModelWeights.Weight?
    /// `nil` if only the first checkpoint has it.
    package let b: ModelWeights.Weight?
    /// What is to be compared; nothing if the shapes differ.
    package fileprivate(set) var pairs: [WeightPair] = []
    /// Pieces of the first without a counterpart; see ``Counterpart/weight``.
    package fileprivate(set) var unmatched: [ModelWeights.Piece] = []

    /// Whether both have it, in the same shape.
    package var hasSameShape: Bool { a != nil && a?.shape == b?.shape }
  }

  /// In the order of the first checkpoint and its parts, followed by those that only the second has.
  package private(set) var matches: [Match] = []

  /// Finds the counterpart of every weight.
  ///
  /// - Parameter isWanted: Which published names count.
  /// - Throws: What `isWanted` throws.
  /// - Complexity: O(weights), and for weights in parts the product of their numbers of pieces.
  package init(
    _ a: [Holder], _ b: ModelWeights, with counterpart: Counterpart,
    isWanted: (String) throws(CheckpointError) -> Bool = { _ in true }
  ) throws(CheckpointError) {
    var found: Set<String> = []
    for holder in a {
      for name in holder.weights.names where try isWanted(name) {
        var match = Match(name: name, part: holder.part, a: holder.weights[name], b: b[name])
        found.insert(name)
        if match.hasSameShape, let mine = match.a, let its = match.b {
          switch counterpart {
          case .pieces: match.pair(mine, of: holder.weights, withPiecesOf: its, of: b)
          case .weight: match.pair(mine, of: holder.weights, withAllOf: its, of: b)
          }
        }
        matches.append(match)
      }
    }
    for name in b.names where try isWanted(name) && !found.contains(name) {
      matches.append(Match(name: name, part: nil, a: nil, b: b[name]))
    }
  }

  /// The number of elements in disjoint boxes.
  package static func elementCount(_ boxes: Set<TensorBox>) -> Int {
    boxes.reduce(0) { $0 + $1.elementCount }
  }
}

extension WeightPairing.Match {
  fileprivate mutating func pair(
    _ a: ModelWeights.Weight, of weightsA: ModelWeights, withPiecesOf b: ModelWeights.Weight,
    of weightsB: ModelWeights
  ) {
    let (left, right) = (a.everyPiece, b.everyPiece)
    func add(_ piece: ModelWeights.Piece, _ other: ModelWeights.Piece, _ box: TensorBox) {
      pairs.append(
        WeightPair(
          name: name, part: part, a: WeightSide(weightsA, a, piece, beside: weightsB),
          b: WeightSide(weightsB, b, other, beside: weightsA),
          box: box))
    }
    // Two sets partitioned in the same way: their copies correspond too.
    if left.map(\.box) == right.map(\.box) {
      for (piece, other) in zip(left, right) { add(piece, other, piece.box) }
      return
    }
    for piece in left {
      for other in right { if let box = piece.box.intersection(other.box) { add(piece, other, box) } }
    }
  }

  fileprivate mutating func pair(
    _ a: ModelWeights.Weight, of weightsA: ModelWeights, withAllOf b: ModelWeights.Weight,
    of weightsB: ModelWeights
  ) {
    for piece in a.pieces {
      let holder = b.pieces.first { b.isComplete || $0.box.intersection(piece.box) == piece.box }
      guard let holder else {
        unmatched.append(piece)
        continue
      }
      pairs.append(
        WeightPair(
          name: name, part: part, a: WeightSide(weightsA, a, piece, beside: weightsB),
          b: WeightSide(weightsB, b, holder, isWhole: b.isComplete, beside: weightsA), box: piece.box))
    }
  }
}

extension ModelWeights.Weight {
  /// All its pieces in a checkpoint, including copies: each is in a file that somebody will read.
  package var everyPiece: [ModelWeights.Piece] { pieces + copies }
}

extension ModelWeights.Piece {
  /// Whether it is some rows of a tensor shared with other weights.
  package var isFused: Bool { stored.shape.dimensions != box.extent }
}
