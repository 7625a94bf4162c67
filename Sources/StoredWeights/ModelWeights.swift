internal import ByteStreams
public import Checkpoint
internal import GGUF
public import Step3Model
public import TensorFormats

/// A model's weights under their published names, however stored: safetensors or GGUF, plain or quantised in any
/// supported scheme, one checkpoint, a partition set or a part of one.
///
/// Callers need not know how weights are stored. Opening reads headers and `config.json`, but no weights.
public struct ModelWeights: Sendable {
  /// The files. Derived weights are in a file of their own after the others; see
  /// `Checkpoint.File.derivations`.
  public let checkpoint: Checkpoint
  /// The same before decoding: with codes and scales, under published names, experts stacked. For independent checks.
  public let encoded: Checkpoint
  /// The configuration, if the model is a Step-3.
  public let configuration: Step3Configuration?
  /// Whether this is one part of a partition set, which has only boxes of some weights, and nothing of others.
  public let isPart: Bool
  /// The names of all weights, in the order of the files.
  public let names: [String]
  private let weights: [String: Weight]

  /// What to do with tensors that cannot be read as weights.
  public enum Unread: Sendable {
    /// Unknown codes are an error.
    case refused
    /// Unknown codes are weights of their own, under their own names and with the stored elements as values; an
    /// unreadable configuration is ignored. For inspecting arbitrary files.
    case asStored
  }

  /// Finds out how each weight is stored.
  ///
  /// - Throws: `.malformed` if scales do not match their codes or a part states a box outside its tensor;
  ///   `.unsupported` for unsupported schemes, unless `unread` is `.asStored`.
  /// - Complexity: O(number of tensors).
  public init(_ checkpoint: Checkpoint, unread: Unread = .refused) throws(CheckpointError) {
    try self.init(checkpoint, unread: unread, configuration: Self.configuration(of: checkpoint, unread))
  }

  /// The same for a checkpoint derived from another one, whose configuration it keeps.
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

  /// The checkpoint under published names, with separately saved experts stacked. Outputs of `step3-convert` already
  /// have these names, so parts of partition sets stay as they are.
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

  /// Whether a tensor, by its name, concerns a module's inputs or outputs rather than its weight: `input_scale` and
  /// the like.
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

  /// The modules of its model; `nil` if unknown.
  public var model: ModelDescription? { configuration?.family.model }

  /// What has to be added to the stored values of a weight to get those that the forward pass multiplies with: the
  /// offset of its module, unless the files already hold the sums, as GGUF does.
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
    /// Where its elements are: all in one place, except in a partition set. Further copies are left out.
    public private(set) var pieces: [Piece] = []
    /// Replicas in several parts of a partition set, except the first of each.
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

    /// Whether no element is missing.
    public var isComplete: Bool {
      // Boxes never overlap: they are cells of a grid, or identical.
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
    /// Where they are stored; file indices refer to ``ModelWeights/checkpoint``.
    public let stored: StoredWeight
    /// The first row of the box in each stored matrix: not 0 if several weights are stored as one.
    public let firstRow: Int
  }
}

// MARK: - Finding weights

/// A checkpoint, or a part of a partition set, being searched for weights.
private struct Holder {
  let checkpoint: Checkpoint
  /// The index of its first file among the files of the set.
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
    // Tensors that only say how to read others.
    var companions: Set<String> = []
    for tensor in checkpoint.tensors {
      guard let stem = CodeRecognition.module(ofCodes: tensor.name),
        let weight = try scaled(stem, recognition, unread), weight.codes.name == tensor.name
      else { continue }
      stored[tensor.name] = weight
      companions.formUnion(weight.components.dropFirst().map(\.name))
      // The shape before packing was checked against that of the codes.
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
            .unsupported, "parts of fused modules are not supported", path: checkpoint.path,
            tensor: tensor.name)
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

  /// A module's weight, if it has separate scale tensors.
  private func scaled(
    _ stem: String, _ recognition: CodeRecognition, _ unread: ModelWeights.Unread
  ) throws(CheckpointError) -> StoredWeight? {
    do throws(CheckpointError) {
      switch try recognition.weight(of: stem) {
      case nil, .values?: return nil
      case .stored(let weight)?: return weight
      case .decoded(let codes)?:
        throw CheckpointError(
          .unsupported, "\(codes.name) is not supported in a part of a partition set",
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
        "\(ConfigurationDocument.partitionKey).slices does not match the tensor's shape \(stored.shape)",
        path: checkpoint.store.path(of: ConfigurationDocument.name), tensor: tensor.name)
    }
    return Found(
      name: name, box: box ?? TensorBox(wholeOf: stored.shape), stored: renumbered(stored), firstRow: 0)
  }

  private func renumbered(_ stored: StoredWeight) -> StoredWeight {
    firstFile == 0 ? stored : stored.shiftingFiles(by: firstFile)
  }

  private func canonical(_ name: String, _ configuration: Step3Configuration?) -> String {
    // GGUF uses the same module names for unknown models.
    let model = (configuration?.family ?? .step3).model
    guard checkpoint.format == .gguf, let known = model.tensor(gguf: name) else { return name }
    return model.published(known)
  }
}
