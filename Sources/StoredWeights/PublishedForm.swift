internal import ByteStreams
internal import Checkpoint
internal import OrderedCollections
internal import Step3Model
internal import TensorFormats

/// A Step-3's tensors under their published names, whatever wrapped them: prefixes are removed, and separately saved
/// experts are stacked.
enum PublishedForm {
  /// The checkpoint under its published names; unchanged if it already has them.
  ///
  /// - Throws: `.malformed` if two tensors map to one name, or the experts of a stack are incomplete or not alike.
  /// - Complexity: O(number of tensors); reads nothing.
  static func of(
    _ checkpoint: Checkpoint, _ configuration: Step3Configuration
  ) throws(CheckpointError) -> Checkpoint {
    guard checkpoint.format == .safetensors else { return checkpoint }
    let model = configuration.family.model
    var names: [String: String] = [:]
    var stacks: OrderedDictionary<String, [Int: Checkpoint.Tensor]> = [:]
    for tensor in checkpoint.tensors {
      guard let (name, expert) = published(tensor.name, in: model) else { continue }
      guard let expert else {
        names[tensor.name] = name
        continue
      }
      if let other = stacks[name, default: [:]].updateValue(tensor, forKey: expert) {
        throw clash(tensor, other, name, checkpoint)
      }
    }
    guard !names.isEmpty || !stacks.isEmpty else { return checkpoint }
    // Other tensors in the same wrapper are unwrapped too.
    for tensor in checkpoint.tensors
    where names[tensor.name] == nil && published(tensor.name, in: model) == nil {
      names[tensor.name] = Step3NameVariant.unwrappedStranger(tensor.name)
    }
    var owners: [String: Checkpoint.Tensor] = [:]
    for tensor in checkpoint.tensors {
      let name = names[tensor.name] ?? tensor.name
      if let other = owners.updateValue(tensor, forKey: name) { throw clash(tensor, other, name, checkpoint) }
    }
    var derived: [Checkpoint.Derived] = []
    for (name, experts) in stacks {
      if let other = owners[name], let first = experts.values.min(by: { $0.name < $1.name }) {
        throw clash(first, other, name, checkpoint)
      }
      derived.append(try stack(name, experts, count: configuration.text.expertCount, checkpoint))
    }
    let hidden = Set(stacks.values.flatMap { $0.values.map(\.name) })
    return checkpoint.replacing(hidden, with: derived).renaming(names)
  }

  /// The published name of a tensor that has another one, and its expert. Companions of a weight are renamed with it.
  private static func published(_ name: String, in model: ModelDescription) -> (name: String, expert: Int?)? {
    if let variant = Step3NameVariant(name, in: model) {
      return (model.published(variant.published), variant.expert)
    }
    guard let dot = name.lastIndex(of: "."), model.tensor(published: name) == nil else { return nil }
    let (stem, last) = (name[..<dot], name[name.index(after: dot)...])
    if let variant = Step3NameVariant("\(stem).weight", in: model) {
      return ("\(model.published(variant.published).dropLast("weight".count))\(last)", variant.expert)
    }
    // `experts.7.up_proj_scale` is a companion of `experts.7.up_proj.weight`.
    for row in model.modules where row.expertAxis != nil {
      let module = row.ownName
      guard last.hasPrefix("\(module)_"),
        let variant = Step3NameVariant("\(stem).\(module).weight", in: model)
      else { continue }
      let weight = model.published(variant.published)
      return ("\(weight.dropLast("\(module).weight".count))\(last)", variant.expert)
    }
    return nil
  }

  private static func clash(
    _ a: Checkpoint.Tensor, _ b: Checkpoint.Tensor, _ name: String, _ checkpoint: Checkpoint
  ) -> CheckpointError {
    CheckpointError(
      .malformed, "is \(name) under another name, and so is \(b.name.printable)",
      path: checkpoint.path(of: a), tensor: a.name, remedy: "leave one of them out with --exclude")
  }

  /// One tensor of all experts, stacked along the first dimension. A scale that is a single number becomes a vector.
  private static func stack(
    _ name: String, _ experts: [Int: Checkpoint.Tensor], count: Int, _ checkpoint: Checkpoint
  ) throws(CheckpointError) -> Checkpoint.Derived {
    var tensors: [Checkpoint.Tensor] = []
    var missing: [Int] = []
    for expert in 0..<count {
      if let tensor = experts[expert] { tensors.append(tensor) } else { missing.append(expert) }
    }
    guard missing.isEmpty, let first = tensors.first, experts.count == count else {
      let named = missing.prefix(4).map(String.init).joined(separator: ", ")
      throw CheckpointError(
        .malformed,
        missing.isEmpty
          ? "there are \(experts.count) experts, but the configuration says \(count)"
          : "\(missing.count) of its \(count) experts are missing: \(named)\(missing.count > 4 ? ", ..." : "")",
        path: checkpoint.path, tensor: name, remedy: "the download may be incomplete")
    }
    if let odd = tensors.first(where: { $0.shape != first.shape || $0.elementType != first.elementType }) {
      throw CheckpointError(
        .malformed,
        "is \(odd.elementType) \(odd.shape), but \(first.name.printable) is \(first.elementType) "
          + "\(first.shape): they cannot be stacked", path: checkpoint.path(of: odd), tensor: odd.name)
    }
    let bytes = first.byteRange.count
    let dimensions = [count] + (first.shape.elementCount == 1 ? [] : first.shape.dimensions)
    let pieces = tensors.enumerated().map { expert, tensor in
      GatheredSource.Piece(
        checkpoint.files[tensor.file].source, offset: tensor.byteRange.lowerBound,
        matrices: expert..<expert + 1, rows: 0..<1, columns: 0..<bytes)
    }
    guard let shape = TensorShape(checking: dimensions),
      let source = GatheredSource(
        path: checkpoint.path, matrices: count, rows: 1, rowBytes: bytes, pieces: pieces)
    else {
      throw CheckpointError(
        .malformed, "all of its experts together have too many elements",
        path: checkpoint.path, tensor: name)
    }
    return Checkpoint.Derived(
      name: name, elementType: first.elementType, shape: shape, source: source, origins: tensors,
      operation: "stacked")
  }
}
