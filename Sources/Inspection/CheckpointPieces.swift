internal import Checkpoint
internal import ModelWeights
internal import TensorFormats

/// The tensors of a checkpoint by what they are in the model: a part of a partition set holds boxes of some tensors,
/// and several parts may hold the same one.
struct CheckpointPieces {
  /// A stored tensor and which elements of the model's tensor it is.
  struct Piece: Sendable {
    let tensor: Checkpoint.Tensor
    let box: TensorBox
  }

  let checkpoint: Checkpoint
  /// The names in published form, where the model description knows them, in the order of the files.
  private(set) var names: [String] = []
  private var pieces: [String: [Piece]] = [:]
  /// The part that each file of a partition set belongs to; empty for other checkpoints.
  private let owners: [Checkpoint]
  /// The tiles that block-FP8 scales are for.
  private let tile: BlockScales.Tile

  /// Reads what the parts say of themselves.
  ///
  /// - Throws: `.malformed` if a part states a box that its tensor does not have.
  init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    self.checkpoint = checkpoint
    let hasFP8 = checkpoint.tensors.contains { $0.elementType == .f8E4M3 }
    tile = hasFP8 ? try BlockScales.tile(of: checkpoint) : .standard
    var owners: [Checkpoint] = []
    var slices: [[String: TensorBox]] = []
    for part in checkpoint.parts {
      let boxes = try Self.slices(of: part.checkpoint)
      for _ in part.checkpoint.files {
        owners.append(part.checkpoint)
        slices.append(boxes)
      }
    }
    self.owners = owners
    // One part may be looked at by itself.
    let own = checkpoint.parts.isEmpty ? try Self.slices(of: checkpoint) : [:]
    let modelNames = ModelNames(checkpoint)
    for tensor in checkpoint.tensors {
      let name = modelNames.canonical(tensor.name)
      let box = (slices.isEmpty ? own : slices[tensor.file])[tensor.name]
      let piece = Piece(tensor: tensor, box: box ?? TensorBox(wholeOf: tensor.shape))
      if pieces[name]?.append(piece) == nil {
        names.append(name)
        pieces[name] = [piece]
      }
    }
  }

  /// The pieces of a tensor; none if the checkpoint does not have it.
  subscript(name: String) -> [Piece] { pieces[name] ?? [] }

  /// The tensors of a partition set whose elements an earlier part holds already; none of other checkpoints, whose
  /// names are unique.
  static func copies(in checkpoint: Checkpoint) throws(CheckpointError) -> Set<Checkpoint.Tensor> {
    guard !checkpoint.parts.isEmpty else { return [] }
    let pieces = try CheckpointPieces(checkpoint)
    var copies: Set<Checkpoint.Tensor> = []
    for name in pieces.names {
      var seen: Set<TensorBox> = []
      for piece in pieces[name] where !seen.insert(piece.box).inserted { copies.insert(piece.tensor) }
    }
    return copies
  }

  /// The scales of a block-FP8 weight, from the same part; `nil` if it has none.
  func scales(of weight: Checkpoint.Tensor) throws(CheckpointError) -> BlockScales? {
    guard weight.elementType == .f8E4M3 else { return nil }
    let holder = owners.isEmpty ? checkpoint : owners[weight.file]
    guard let scale = holder[BlockScales.scaleName(ofWeight: weight.name)] else { return nil }
    return try BlockScales(scale, of: weight, in: holder, tile: tile)
  }

  /// `step3_partition.slices` of a part's `config.json`, by the name in the part's files.
  private static func slices(of checkpoint: Checkpoint) throws(CheckpointError) -> [String: TensorBox] {
    // A broken configuration is no reason not to look at the weights; `metadata` tells what is wrong with it.
    guard let configuration = try? CheckpointMetadata.configuration(of: checkpoint),
      case .object(let members)? = configuration["step3_partition"]?["slices"]
    else { return [:] }
    var boxes: [String: TensorBox] = [:]
    for member in members {
      guard let tensor = checkpoint[member.key] else { continue }
      let (origin, extent) = (member.value["origin"]?.integers, member.value["extent"]?.integers)
      guard let shape = (member.value["shape"]?.integers).flatMap(TensorShape.init(checking:)),
        let origin, let extent, let stated = TensorBox(shape, origin: origin, extent: extent),
        let box = stated.packed(as: tensor.shape)
      else {
        throw CheckpointError(
          .malformed, "step3_partition.slices does not fit the tensor's shape \(tensor.shape)",
          path: "\(checkpoint.directory)/config.json", tensor: member.key)
      }
      boxes[member.key] = box
    }
    return boxes
  }
}

extension TensorBox {
  /// The same box in elements of a tensor of that shape: codes that are packed several to an element are stated in the
  /// values that they stand for. `nil` if it is no box of such a tensor.
  fileprivate func packed(as stored: TensorShape) -> TensorBox? {
    if extent == stored.dimensions { return self }
    guard let last = extent.last, let columns = stored.dimensions.last, columns > 0, last % columns == 0,
      extent.dropLast() == stored.dimensions.dropLast(), let start = origin.last,
      let all = shape.dimensions.last
    else { return nil }
    let factor = last / columns
    guard factor > 0, start % factor == 0, all % factor == 0,
      let whole = TensorShape(checking: shape.dimensions.dropLast() + [all / factor])
    else { return nil }
    return TensorBox(whole, origin: origin.dropLast() + [start / factor], extent: stored.dimensions)
  }
}
