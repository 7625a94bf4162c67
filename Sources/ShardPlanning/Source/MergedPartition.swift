internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import JSON
internal import StoredWeights
internal import OrderedCollections
internal import TensorFormats

/// A partition set reassembled: every tensor of the model once and whole, byte for byte.
///
/// Replicated tensors are taken from the first part; cut ones are gathered from their boxes when read. This requires
/// no knowledge of schemes, because each part states the boxes of its tensors, scales included.
struct MergedPartition {
  /// The model, as one checkpoint. Its side files lie in the directory of the part that serves text.
  let checkpoint: Checkpoint
  /// The directory of the part that has the tokenizer, below the set.
  let textPart: String
  /// Whether `quantization_config` is the same in all parts that hold the language model; otherwise each describes only
  /// its own tensors, and one for the whole has to be made.
  let isQuantizationStated: Bool

  /// Merges a set.
  ///
  /// - Throws: `.malformed` if a part is missing, or the parts contradict each other or leave out elements.
  /// - Complexity: O(number of tensors × parts); reads no weights.
  init(_ set: Checkpoint) throws(CheckpointError) {
    let marks = try set.parts.map { (part) throws(CheckpointError) in try Mark(part) }
    try Self.checkRanks(marks, set)
    guard let first = marks.first(where: { $0.role == .attention }) ?? marks.first else {
      throw CheckpointError(.malformed, "there are no parts", path: set.path)
    }
    textPart = first.part.name
    var held: OrderedDictionary<String, [Held]> = [:]
    var firstFile = 0
    for mark in marks {
      let slices = mark.record.boxes
      for tensor in mark.part.checkpoint.tensors {
        held[tensor.name, default: []].append(
          Held(
            tensor: tensor.shiftingFile(by: firstFile), box: slices[tensor.name], part: mark.part.name))
      }
      firstFile += mark.part.checkpoint.files.count
    }
    var whole: [Checkpoint.Tensor] = []
    var derived: [Checkpoint.Derived] = []
    for (name, pieces) in held {
      if let shape = Self.shapeBeforePacking(name, held) {
        // Each part states its own.
        derived.append(shape)
      } else if pieces.allSatisfy({ $0.box == nil }) {
        whole.append(try Self.copy(pieces, set))
      } else {
        derived.append(try Self.gather(name, pieces, set))
      }
    }
    let (configuration, isStated) = try Self.configuration(marks, set)
    isQuantizationStated = isStated
    checkpoint = set.merged(
      whole, derived, configuration: configuration, ggufMetadata: Self.metadata(first.part.checkpoint))
  }

  /// What one part holds of a tensor.
  private struct Held {
    let tensor: Checkpoint.Tensor
    /// `nil` for all of it.
    let box: TensorBox?
    let part: String
  }
}

// MARK: - Parts

extension MergedPartition {
  /// What a part says about itself.
  private struct Mark {
    let part: Checkpoint.Part
    let members: JSONMembers
    let record: PartitionRecord
    var role: PartRole { record.identity.role }

    init(_ part: Checkpoint.Part) throws(CheckpointError) {
      guard let members = part.checkpoint.configurationMembers,
        let record = try PartitionRecord(of: part.checkpoint)
      else {
        throw CheckpointError(
          .malformed, "a part without a configuration",
          path: part.checkpoint.store.path(of: ConfigurationDocument.name))
      }
      (self.part, self.members, self.record) = (part, members, record)
    }
  }

  private static func checkRanks(_ marks: [Mark], _ set: Checkpoint) throws(CheckpointError) {
    let groups = Dictionary(grouping: marks, by: \.role).sorted { $0.key.rawValue < $1.key.rawValue }
    for (role, parts) in groups {
      let ranks = parts[0].record.identity.position.ranks
      if let odd = parts.first(where: { $0.record.identity.position.ranks != ranks }) {
        throw CheckpointError(
          .malformed,
          "says that there are \(odd.record.identity.position.ranks) parts of its kind, but \(parts[0].part.name) says \(ranks)",
          path: set.store.path(of: odd.part.name))
      }
      let found = Set(parts.map(\.record.identity.position.rank))
      let missing = (0..<ranks).filter { !found.contains($0) }
      guard missing.isEmpty, parts.count == ranks else {
        throw CheckpointError(
          .malformed,
          missing.isEmpty
            ? "there are \(parts.count) \(role.rawValue) parts for \(ranks) ranks"
            : "of \(ranks) \(role.rawValue) parts the ranks \(missing.prefix(8).map(String.init).joined(separator: ", ")) are missing",
          path: set.path, remedy: "put all parts in one directory")
      }
    }
    for role in [PartRole.attention, .ffn] where !marks.contains(where: { $0.role == role }) {
      throw CheckpointError(
        .malformed, "there is no \(role.rawValue) part", path: set.path,
        remedy: "put all parts in one directory")
    }
  }
}

// MARK: - Tensors

extension MergedPartition {
  private static func copy(_ pieces: [Held], _ set: Checkpoint) throws(CheckpointError) -> Checkpoint.Tensor {
    let first = pieces[0]
    if let odd = pieces.first(where: {
      $0.tensor.shape != first.tensor.shape || $0.tensor.elementType != first.tensor.elementType
    }) {
      throw CheckpointError(
        .malformed,
        "is \(odd.tensor.elementType) \(odd.tensor.shape) in \(odd.part.printable) and "
          + "\(first.tensor.elementType) \(first.tensor.shape) in \(first.part.printable)",
        path: set.path, tensor: first.tensor.name)
    }
    return first.tensor
  }

  /// The shape before packing of codes that are cut: `[rows, columns]`, once for each matrix of a stack. `nil` for all
  /// other tensors.
  private static func shapeBeforePacking(_ name: String, _ held: OrderedDictionary<String, [Held]>)
    -> Checkpoint.Derived?
  {
    let suffix = ".weight_shape"
    guard name.hasSuffix(suffix), let pieces = held[name], let own = pieces.first?.tensor,
      let codes = held["\(name.dropLast(suffix.count)).weight_packed"]?.first, let whole = codes.box?.shape,
      own.elementType == .i64, (2...3).contains(whole.rank), own.shape.rank == whole.rank - 1
    else { return nil }
    let matrix = Array(whole.dimensions.suffix(2))
    let matrices = whole.rank == 3 ? whole.dimensions[0] : 1
    let bytes = (0..<matrices).flatMap { _ in matrix }.flatMap { number in
      (0..<8).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
    }
    return Checkpoint.Derived(
      name: name, elementType: .i64, shape: TensorShape(whole.rank == 3 ? [matrices, 2] : [2]),
      source: MemorySource(bytes, path: own.name), origins: pieces.map(\.tensor), operation: "merged")
  }

  private static func gather(
    _ name: String, _ pieces: [Held], _ set: Checkpoint
  ) throws(CheckpointError) -> Checkpoint.Derived {
    func malformed(_ message: String) -> CheckpointError {
      CheckpointError(.malformed, message, path: set.path, tensor: name)
    }
    let type = pieces[0].tensor.elementType
    var seen: Set<TensorBox> = []
    var kept: [(held: Held, box: TensorBox)] = []
    for piece in pieces {
      guard let box = piece.box else {
        throw malformed("\(piece.part.printable) holds all of it, but others hold boxes")
      }
      guard box.shape == pieces[0].box?.shape, piece.tensor.elementType == type else {
        throw malformed(
          "\(pieces[0].part.printable) and \(piece.part.printable) contradict each other about it")
      }
      if seen.insert(box).inserted { kept.append((piece, box)) }
    }
    guard let whole = kept.first?.box.shape, (1...3).contains(whole.rank),
      let stored = kept.first?.held.tensor,
      let boxColumns = kept.first?.box.extent.last, stored.shape.rank == whole.rank
    else { throw malformed("its boxes cannot be assembled") }
    // Boxes of packed codes are counted in the values that they stand for.
    let packed = stored.shape.columns
    guard packed > 0, boxColumns % packed == 0 else {
      throw malformed("its box does not consist of whole elements")
    }
    let factor = boxColumns / packed
    func bytes(_ columns: Int) throws(CheckpointError) -> Int {
      guard columns % factor == 0, let count = type.block.byteCount(ofElements: columns / factor) else {
        throw malformed("columns of its boxes end inside an element or a block")
      }
      return count
    }
    let rank = whole.rank
    var gathered: [GatheredSource.Piece] = []
    for (held, box) in kept {
      let extent = box.extent.dropLast() + [box.extent[rank - 1] / factor]
      guard held.tensor.shape.dimensions == Array(extent) else {
        throw malformed("\(held.part.printable) holds \(held.tensor.shape), but its box is \(box.extent)")
      }
      func range(_ axis: Int) -> Range<Int> {
        axis < 0 ? 0..<1 : box.origin[axis]..<box.origin[axis] + box.extent[axis]
      }
      let columns = range(rank - 1)
      gathered.append(
        GatheredSource.Piece(
          set.files[held.tensor.file].source, offset: held.tensor.byteRange.lowerBound,
          matrices: range(rank - 3), rows: range(rank - 2),
          columns: try bytes(columns.lowerBound)..<bytes(columns.upperBound)))
    }
    let dimensions = Array(whole.dimensions.dropLast()) + [whole.columns / factor]
    guard
      let source = GatheredSource(
        path: set.path, matrices: rank < 3 ? 1 : whole.dimensions[0],
        rows: rank < 2 ? 1 : whole.dimensions[rank - 2], rowBytes: try bytes(whole.columns), pieces: gathered)
    else { throw malformed("the parts do not hold every element of it exactly once") }
    return Checkpoint.Derived(
      name: name, elementType: type, shape: TensorShape(dimensions), source: source,
      origins: kept.map(\.held.tensor), operation: "merged")
  }
}

// MARK: - What is said about the model

extension MergedPartition {
  /// The keys in which the parts' configurations may differ.
  private static let ownKeys: Set<String> = [
    ConfigurationDocument.partitionKey, "quantization_config", "compression_config", "torch_dtype", "dtype",
  ]

  /// The configuration of the part that serves text, without its partition record.
  ///
  /// - Throws: `.malformed` if the parts are of different models.
  private static func configuration(
    _ marks: [Mark], _ set: Checkpoint
  ) throws(CheckpointError) -> (document: ConfigurationDocument?, isStated: Bool) {
    guard let first = marks.first(where: { $0.role == .attention }) ?? marks.first,
      let text = first.part.checkpoint.configuration
    else { return (nil, true) }
    func model(_ mark: Mark) -> JSONMembers {
      var members = mark.members.keeping { !ownKeys.contains($0) }
      if let inner = members["text_config"]?.members {
        members["text_config"] = .object(inner.keeping { !ownKeys.contains($0) })
      }
      return members
    }
    if let odd = marks.first(where: { model($0) != model(first) }) {
      throw CheckpointError(
        .malformed, "describes a different model from that of \(first.part.name.printable)",
        path: odd.part.checkpoint.store.path(of: ConfigurationDocument.name),
        remedy: "put the parts of a single conversion together")
    }
    var merged = try ConfigurationText(text)
    merged[ConfigurationDocument.partitionKey] = nil
    var isStated = true
    for key in ["quantization_config", "compression_config"] {
      let stated = marks.filter { $0.role != .vision }.map { $0.members[key] ?? .null }
      guard let value = stated.first(where: { $0 != .null }) else { continue }
      isStated = isStated && stated.allSatisfy { $0 == value }
      for mark in marks where mark.members[key] == value {
        guard let own = mark.part.checkpoint.configuration else { continue }
        merged[key] = try ConfigurationText(own)[key]
        break
      }
    }
    let document = ConfigurationDocument(
      Array(merged.text().utf8), path: first.part.checkpoint.store.path(of: ConfigurationDocument.name))
    return (document, isStated)
  }

  private static func metadata(_ part: Checkpoint) -> GGUFMetadata? {
    guard var metadata = part.ggufMetadata else { return nil }
    metadata.removePart()
    return metadata
  }
}
