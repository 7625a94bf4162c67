public import Checkpoint
internal import GGUF
public import Step3Model
public import TensorFormats

/// A model's weights under their published names, whatever holds them: safetensors or GGUF, plain or quantised in any
/// scheme that is read, one checkpoint, a partition set or a part of one.
///
/// Who reads weights through this type does not know how they are stored. Opening reads headers and `config.json`,
/// and no weights.
public struct ModelWeights: Sendable {
  /// The files.
  public let checkpoint: Checkpoint
  /// The configuration, if the model is a Step-3.
  public let configuration: Step3Configuration?
  /// Whether this is one part of a partition set, which has boxes of some weights and nothing of others.
  public let isPart: Bool
  /// The names of all weights, in the order of the files.
  public let names: [String]
  private let weights: [String: Weight]

  /// What becomes of what cannot be read as a weight.
  public enum Unread: Sendable {
    /// Schemes that are not read are an error, and what belongs to no weight is left out.
    case refused
    /// Every tensor that belongs to no weight that is read is a weight of its own, under its own name and with what is
    /// stored as its values; a configuration that cannot be read says nothing. For those who look at files of any
    /// origin.
    case asStored
  }

  /// Finds out how each weight is stored.
  ///
  /// - Throws: `.malformed` if scales do not fit their codes or a part states a box that its tensor does not have;
  ///   `.unsupported` for schemes that are not read, unless they are to be held as stored.
  /// - Complexity: O(number of tensors).
  public init(_ checkpoint: Checkpoint, unread: Unread = .refused) throws(CheckpointError) {
    self.checkpoint = checkpoint
    configuration = try Self.configuration(of: checkpoint, unread)
    isPart = PartitionSlices.describes(checkpoint)
    var names: [String] = []
    var weights: [String: Weight] = [:]
    let holders =
      checkpoint.parts.isEmpty
      ? [Holder(checkpoint: checkpoint, firstFile: 0)] : Holder.parts(of: checkpoint)
    for holder in holders {
      for piece in try holder.pieces(configuration, unread) {
        if weights[piece.name] == nil { names.append(piece.name) }
        try weights[piece.name, default: Weight(name: piece.name, shape: piece.box.shape)].add(
          piece.box, piece.stored, firstRow: piece.firstRow, of: checkpoint)
      }
    }
    self.names = names
    self.weights = weights
  }

  private static func configuration(
    of checkpoint: Checkpoint, _ unread: Unread
  ) throws(CheckpointError) -> Step3Configuration? {
    do throws(CheckpointError) {
      return try Step3Configuration(of: checkpoint)
    } catch {
      guard unread == .asStored else { throw error }
      return nil
    }
  }

  /// The weight of that published name; `nil` if the checkpoint has none.
  ///
  /// - Complexity: O(1).
  public subscript(name: String) -> Weight? { weights[name] }

  /// The weight of that name.
  public subscript(name: Step3TensorName) -> Weight? { weights[name.huggingFace] }
}

// MARK: - A weight

extension ModelWeights {
  /// One weight, and where its elements are.
  public struct Weight: Sendable {
    /// The published name.
    public let name: String
    /// Row-major, of the whole weight.
    public let shape: TensorShape
    /// Where its elements are: all in one place, except in a partition set. Copies of what is there already are left
    /// out.
    public private(set) var pieces: [Piece] = []
    /// What several parts of a partition set hold, but for the first of each.
    public private(set) var copies: [Piece] = []

    init(name: String, shape: TensorShape) {
      self.name = name
      self.shape = shape
    }

    /// Matrices of a stack; 1 for a single matrix or a vector.
    public var matrixCount: Int { shape.dimensions.dropLast(2).reduce(1, *) }
    /// Rows of one matrix; 1 for a vector.
    public var rows: Int { shape.rank < 2 ? 1 : shape.dimensions[shape.rank - 2] }
    /// Elements of a row.
    public var columns: Int { shape.columns }
    /// The bytes of all of it, scales included.
    public var byteCount: Int { pieces.reduce(0) { $0 + $1.stored.byteCount } }

    /// Whether every element is somewhere.
    public var isComplete: Bool {
      // Boxes never overlap: they are cells of a grid or the same.
      pieces.reduce(0) { $0 + $1.box.elementCount } == shape.elementCount
    }

    mutating func add(
      _ box: TensorBox, _ stored: StoredWeight, firstRow: Int, of checkpoint: Checkpoint
    ) throws(CheckpointError) {
      guard box.shape == shape else {
        throw CheckpointError(
          .malformed, "two parts state the shapes \(shape) and \(box.shape) for it", path: checkpoint.path,
          tensor: name)
      }
      let added = Piece(box: box, stored: stored, firstRow: firstRow)
      for piece in pieces {
        guard piece.box != box else {
          copies.append(added)
          return
        }
        guard piece.box.intersection(box) == nil else {
          throw CheckpointError(
            .malformed, "two parts hold boxes of it that overlap", path: checkpoint.path, tensor: name)
        }
      }
      pieces.append(added)
    }
  }

  /// A box of a weight in one place.
  public struct Piece: Sendable {
    /// Which elements of the weight.
    public let box: TensorBox
    /// Where they are; files are counted in ``ModelWeights/checkpoint``.
    public let stored: StoredWeight
    /// The row of each stored matrix with which the box begins: not 0 where several weights are stored as one.
    public let firstRow: Int
  }
}

// MARK: - Finding weights

/// A checkpoint, or a part of a partition set, whose tensors are being looked through.
private struct Holder {
  let checkpoint: Checkpoint
  /// The number of its first file among the files of the set.
  let firstFile: Int

  struct Found {
    let name: String
    let box: TensorBox
    let stored: StoredWeight
    let firstRow: Int
  }

  static func parts(of set: Checkpoint) -> [Holder] {
    var holders: [Holder] = []
    var files = 0
    for part in set.parts {
      holders.append(Holder(checkpoint: part.checkpoint, firstFile: files))
      files += part.checkpoint.files.count
    }
    return holders
  }

  func pieces(
    _ configuration: Step3Configuration?, _ unread: ModelWeights.Unread
  ) throws(CheckpointError) -> [Found] {
    let settings = try QuantizationSettings(checkpoint)
    let slices = try PartitionSlices.read(checkpoint)
    var found: [Found] = []
    for tensor in checkpoint.tensors {
      guard let stem = stem(of: tensor), let stored = try recognised(stem, settings, unread) else {
        if isCompanion(tensor) { continue }
        let name = canonical(tensor.name)
        found.append(try piece(name, StoredWeight(values: tensor), slices[tensor.name], of: tensor))
        continue
      }
      // A module with both spellings is one weight, found by its codes.
      guard stored.codes.name == tensor.name else { continue }
      if let fused = FusedModule(stem, stored.shape, configuration) {
        guard slices[tensor.name] == nil else {
          throw CheckpointError(
            .unsupported, "parts of fused modules are not read", path: checkpoint.path, tensor: tensor.name)
        }
        for member in fused.members {
          found.append(
            Found(
              name: member.name, box: TensorBox(wholeOf: member.shape), stored: renumbered(stored),
              firstRow: member.firstRow))
        }
        continue
      }
      found.append(try piece(canonical(stem + ".weight"), stored, slices[tensor.name], of: tensor))
    }
    return unread == .asStored ? found + unused(found) : found
  }

  private func recognised(
    _ stem: String, _ settings: QuantizationSettings, _ unread: ModelWeights.Unread
  ) throws(CheckpointError) -> StoredWeight? {
    do throws(CheckpointError) {
      return try StoredWeight(stem, in: checkpoint, settings)
    } catch {
      guard unread == .asStored, error.code == .unsupported else { throw error }
      return nil
    }
  }

  /// The tensors that belong to nothing that was found.
  private func unused(_ found: [Found]) -> [Found] {
    let used = Set(found.flatMap { $0.stored.components.map(\.name) })
    let packed = Set(found.compactMap { $0.stored.scheme == nil ? nil : $0.stored.codes.name })
    return checkpoint.tensors.compactMap { tensor in
      guard !used.contains(tensor.name) else { return nil }
      // The shape before packing was held against that of the codes.
      if tensor.name.hasSuffix(StoredWeight.shapeSuffix),
        packed.contains(tensor.name.dropLast(StoredWeight.shapeSuffix.count) + ".weight_packed")
      {
        return nil
      }
      let stored = renumbered(StoredWeight(values: tensor))
      return Found(
        name: canonical(tensor.name), box: TensorBox(wholeOf: tensor.shape), stored: stored, firstRow: 0)
    }
  }

  private func stem(of tensor: Checkpoint.Tensor) -> String? {
    StoredWeight.codesSuffixes.first { tensor.name.hasSuffix($0) }.map {
      String(tensor.name.dropLast($0.count))
    }
  }

  /// Whether a tensor only says how to read another that is there.
  private func isCompanion(_ tensor: Checkpoint.Tensor) -> Bool {
    if tensor.name.hasSuffix(StoredWeight.blockScaleSuffix) {
      let stem = tensor.name.dropLast(StoredWeight.blockScaleSuffix.count)
      return checkpoint[stem + ".weight"]?.elementType == .nvfp4
    }
    guard let suffix = StoredWeight.companionSuffixes.first(where: { tensor.name.hasSuffix($0) }) else {
      return false
    }
    let stem = tensor.name.dropLast(suffix.count)
    return StoredWeight.codesSuffixes.contains { checkpoint[stem + $0] != nil }
  }

  private func piece(
    _ name: String, _ stored: StoredWeight, _ box: TensorBox?, of tensor: Checkpoint.Tensor
  ) throws(CheckpointError) -> Found {
    if let box, box.extent != stored.shape.dimensions {
      throw CheckpointError(
        .malformed, "step3_partition.slices does not fit the tensor's shape \(stored.shape)",
        path: "\(checkpoint.directory)/config.json", tensor: tensor.name)
    }
    return Found(
      name: name, box: box ?? TensorBox(wholeOf: stored.shape), stored: renumbered(stored), firstRow: 0)
  }

  private func renumbered(_ stored: StoredWeight) -> StoredWeight {
    firstFile == 0 ? stored : stored.shiftingFiles(by: firstFile)
  }

  private func canonical(_ name: String) -> String {
    guard checkpoint.format == .gguf, let known = Step3TensorName(gguf: name) else { return name }
    return known.huggingFace
  }
}
