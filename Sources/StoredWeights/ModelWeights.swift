internal import ByteStreams
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
  /// The files. Weights that are not on disk as they are read are in a file of their own behind the others; see
  /// `Checkpoint.File.derivations`.
  public let checkpoint: Checkpoint
  /// The same before anything was decoded: codes, scales and all, under published names, experts stacked. For those who
  /// read them a second time.
  public let encoded: Checkpoint
  /// The configuration, if the model is a Step-3.
  public let configuration: Step3Configuration?
  /// Whether this is one part of a partition set, which has boxes of some weights and nothing of others.
  public let isPart: Bool
  /// The names of all weights, in the order of the files.
  public let names: [String]
  private let weights: [String: Weight]

  /// What becomes of what cannot be read as a weight.
  public enum Unread: Sendable {
    /// Codes that are not understood are an error.
    case refused
    /// Codes that are not understood are weights of their own, under their own names and with what is stored as their
    /// values; a configuration that cannot be read says nothing. For those who look at files of any origin.
    case asStored
  }

  /// Finds out how each weight is stored.
  ///
  /// - Throws: `.malformed` if scales do not fit their codes or a part states a box that its tensor does not have;
  ///   `.unsupported` for schemes that are not read, unless they are to be held as stored.
  /// - Complexity: O(number of tensors).
  public init(_ checkpoint: Checkpoint, unread: Unread = .refused) throws(CheckpointError) {
    try self.init(checkpoint, unread: unread, configuration: Self.configuration(of: checkpoint, unread))
  }

  /// The same of a checkpoint that was made of another one, whose configuration it has.
  ///
  /// - Throws: As ``init(_:unread:)``.
  package init(
    _ checkpoint: Checkpoint, unread: Unread = .refused, configuration: Step3Configuration?
  ) throws(CheckpointError) {
    self.configuration = configuration
    isPart = try PartitionRecord(of: checkpoint) != nil
    encoded = try Self.published(checkpoint, configuration, isPart: isPart, unread)
    let checkpoint =
      encoded.parts.isEmpty && !isPart
      ? try DecodedForm.of(encoded, isTolerant: unread == .asStored) : encoded
    self.checkpoint = checkpoint
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

  /// The checkpoint under published names, experts that were saved one by one stacked. What `step3-convert` writes has
  /// no other names, so parts of its partition sets stay as they are.
  private static func published(
    _ checkpoint: Checkpoint, _ configuration: Step3Configuration?, isPart: Bool, _ unread: Unread
  ) throws(CheckpointError) -> Checkpoint {
    guard let configuration, checkpoint.parts.isEmpty, !isPart else { return checkpoint }
    do throws(CheckpointError) {
      return try PublishedForm.of(checkpoint, configuration)
    } catch {
      guard unread == .asStored else { throw error }
      return checkpoint
    }
  }

  /// Whether a tensor, by its name, is about what a module is given or gives, not about its weight: `input_scale` and
  /// its kind.
  public static func isAboutActivations(_ name: String) -> Bool {
    CodeRecognition.isAboutActivations(name)
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

  /// The modules of its model; `nil` if that is not known.
  public var model: ModelDescription? { configuration?.family.model }

  /// What has to be added to the stored values of a weight to get those that the forward pass multiplies with: the
  /// offset of its module, where the files do not hold the sums already, as GGUF does.
  ///
  /// - Complexity: O(1).
  public func offset(of name: String) -> Float {
    guard checkpoint.format == .safetensors, let model, let known = model.tensor(published: name),
      known.suffix == .weight
    else { return 0 }
    return model.row(of: known).offset
  }

  /// That weight of the model; `nil` if the checkpoint has none, or is of an unknown model.
  public subscript(name: Step3TensorName) -> Weight? {
    guard let model, model[name.module] != nil else { return nil }
    return weights[model.published(name)]
  }
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
    let recognition = try CodeRecognition(checkpoint)
    let slices = try PartitionRecord(of: checkpoint)?.boxes ?? [:]
    var stored: [String: StoredWeight] = [:]
    // What only says how to read another tensor.
    var companions: Set<String> = []
    for tensor in checkpoint.tensors {
      guard let stem = CodeRecognition.module(ofCodes: tensor.name),
        let weight = try scaled(stem, recognition, unread), weight.codes.name == tensor.name
      else { continue }
      stored[tensor.name] = weight
      companions.formUnion(weight.components.dropFirst().map(\.name))
      // The shape before packing was held against that of the codes.
      companions.insert("\(stem).weight_shape")
    }
    var found: [Found] = []
    for tensor in checkpoint.tensors where !companions.contains(tensor.name) {
      guard let weight = stored[tensor.name], let stem = CodeRecognition.module(ofCodes: tensor.name) else {
        if unread == .refused { try recognition.check(plain: tensor) }
        found.append(
          try piece(
            canonical(tensor.name, configuration), StoredWeight(values: tensor), slices[tensor.name],
            of: tensor))
        continue
      }
      if let fused = FusedModule(stem, weight.shape, configuration) {
        guard slices[tensor.name] == nil else {
          throw CheckpointError(
            .unsupported, "parts of fused modules are not read", path: checkpoint.path, tensor: tensor.name)
        }
        for member in fused.members {
          found.append(
            Found(
              name: member.name, box: TensorBox(wholeOf: member.shape), stored: renumbered(weight),
              firstRow: member.firstRow))
        }
        continue
      }
      found.append(
        try piece(canonical(stem + ".weight", configuration), weight, slices[tensor.name], of: tensor))
    }
    return found
  }

  /// A module's weight, if it has scales in tensors of their own.
  private func scaled(
    _ stem: String, _ recognition: CodeRecognition, _ unread: ModelWeights.Unread
  ) throws(CheckpointError) -> StoredWeight? {
    do throws(CheckpointError) {
      switch try recognition.weight(of: stem) {
      case nil, .values?: return nil
      case .stored(let weight)?: return weight
      case .decoded(let codes)?:
        throw CheckpointError(
          .unsupported, "\(codes.name) is not read in a part of a partition set",
          path: checkpoint.path(of: codes.codes), tensor: codes.codes.name)
      }
    } catch {
      guard unread == .asStored, error.code == .unsupported else { throw error }
      return nil
    }
  }

  private func piece(
    _ name: String, _ stored: StoredWeight, _ box: TensorBox?, of tensor: Checkpoint.Tensor
  ) throws(CheckpointError) -> Found {
    if let box, box.extent != stored.shape.dimensions {
      throw CheckpointError(
        .malformed,
        "\(ConfigurationDocument.partitionKey).slices does not fit the tensor's shape \(stored.shape)",
        path: checkpoint.store.path(of: ConfigurationDocument.name), tensor: tensor.name)
    }
    return Found(
      name: name, box: box ?? TensorBox(wholeOf: stored.shape), stored: renumbered(stored), firstRow: 0)
  }

  private func renumbered(_ stored: StoredWeight) -> StoredWeight {
    firstFile == 0 ? stored : stored.shiftingFiles(by: firstFile)
  }

  private func canonical(_ name: String, _ configuration: Step3Configuration?) -> String {
    // GGUF calls the modules of unknown models by the same words.
    let model = (configuration?.family ?? .step3).model
    guard checkpoint.format == .gguf, let known = model.tensor(gguf: name) else { return name }
    return model.published(known)
  }
}
