internal import ByteStreams
internal import Checkpoint
internal import StoredWeights
internal import Quantization
internal import QuantizationRecipes
internal import TensorFormats

/// Checks that a stored plan matches the source: every box of every tensor, with the source's type and scales.
struct SourceCheck {
  let plan: ShardPlan
  let source: PlannedSource
  private var checkpoint: Checkpoint { source.model.checkpoint }

  init(plan: ShardPlan, source: PlannedSource) {
    self.plan = plan
    self.source = source
  }

  private static func changed(_ message: String, _ path: String) -> CheckpointError {
    CheckpointError(
      .sourceChanged, "the source is not the one that was planned for: \(message)", path: path,
      remedy: "restore it, name it with --source, or plan again")
  }

  private func malformed(_ message: String, _ tensor: String) -> CheckpointError {
    CheckpointError(.malformed, message, tensor: tensor, remedy: "plan again")
  }

  /// Compares the files on disk: names, sizes and headers.
  static func checkFiles(
    of checkpoint: Checkpoint, against planned: ShardPlan.Source
  ) throws(CheckpointError) {
    guard checkpoint.format == planned.format else {
      throw changed(
        "it is \(checkpoint.format.rawValue), but was \(planned.format.rawValue)", checkpoint.path)
    }
    let files = Dictionary(checkpoint.files.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    let onDisk = planned.files.filter { !$0.isDerived }
    for file in onDisk {
      guard let found = files[file.path] else {
        throw changed("\(file.path.printable) does not exist", checkpoint.path)
      }
      let path = found.source.path
      guard found.source.byteCount == file.bytes else {
        throw changed("it has \(found.source.byteCount) bytes, but had \(file.bytes)", path)
      }
      guard found.dataOffset == file.dataOffset,
        digest(of: try found.source.readBytes(0..<found.dataOffset)) == file.headerXXH3
      else { throw changed("its header has changed", path) }
    }
    let known = Set(onDisk.map(\.path))
    if let stranger = checkpoint.files.first(where: { !known.contains($0.name) }) {
      throw changed("it is a new file", stranger.source.path)
    }
    guard checkpoint.files.map(\.name) == onDisk.map(\.path) else {
      throw changed("its files are in a different order", checkpoint.path)
    }
  }

  func run() throws(CheckpointError) {
    let found = try ShardPlanner.describe(checkpoint, isRaw: source.model.isRaw)
    guard found.configurationXXH3 == plan.source.configurationXXH3 else {
      throw Self.changed(
        "its configuration has changed", checkpoint.configurationDocument?.path ?? checkpoint.path)
    }
    guard found == plan.source else {
      throw CheckpointError(
        .malformed,
        "the tensors derived from the source differ from those in the plan: files, names or tensors",
        path: checkpoint.path, remedy: "plan again")
    }
    guard source.excluded == plan.excluded else {
      throw CheckpointError(
        .malformed, "the plan leaves out different tensors than --exclude asked for", path: checkpoint.path,
        tensor: plan.excluded.first { !source.excluded.contains($0) }?.tensor, remedy: "plan again")
    }
    try checkBoxes()
    try checkAbsorbed()
    try checkCopies()
    do throws(CheckpointError) {
      try plan.checkCoverage(of: checkpoint)
    } catch {
      throw CheckpointError(
        .malformed, error.message, path: error.path, tensor: error.tensor, remedy: "plan again")
    }
  }

  /// Every box must be of a weight that the source has, stored as the plan says.
  private func checkBoxes() throws(CheckpointError) {
    let weights = Dictionary(
      source.model.tensors.map { ($0.stored.codes.name, PlacedTensor($0, part: 0).slice) },
      uniquingKeysWith: { first, _ in first })
    func check(_ slice: ShardPlan.Slice) throws(CheckpointError) {
      guard let weight = weights[slice.tensor] else {
        throw malformed("the source has no such weight", slice.tensor)
      }
      guard slice.file == weight.file, slice.offset == weight.offset, slice.elementType == weight.elementType,
        slice.shape == weight.shape, slice.scaling == weight.scaling
      else { throw malformed("the source does not store it as the plan says", slice.tensor) }
    }
    for group in plan.scaleGroups { for slice in group.members { try check(slice) } }
    for file in plan.files { for tensor in file.tensors { for slice in tensor.sources { try check(slice) } } }
  }

  /// An absorbed tensor must not be a weight, nor anything that an output tensor still needs.
  private func checkAbsorbed() throws(CheckpointError) {
    let weights = Set(
      source.model.tensors.filter { !ObsoleteScales.isActivationScale($0) }.map(\.stored.codes.name))
    var needed: Set<String> = []
    // A shape needs only the plan's own numbers.
    for tensor in plan.files.flatMap(\.tensors)
    where !tensor.operation.decodes && tensor.operation.part != .shape {
      for scaling in tensor.sources.compactMap(\.scaling) {
        for scales in [scaling.scales, scaling.matrixScales].compactMap(\.self) {
          needed.insert(scales.tensor)
        }
      }
    }
    for absorption in plan.absorbed
    where weights.contains(absorption.tensor) || needed.contains(absorption.tensor) {
      throw malformed("the plan drops it: \(absorption.reason.printable)", absorption.tensor)
    }
  }

  /// Files beside the weights have sizes but no digests.
  private func checkCopies() throws(CheckpointError) {
    for copy in plan.parts.flatMap(\.copies) {
      let store = checkpoint.store
      let path = store.path(of: copy.from)
      guard copy.bytes <= OutputMarkers.largestTextFile else {
        throw CheckpointError(
          .malformed, "\(copy.bytes) bytes are too many for a file beside the weights", path: path)
      }
      let bytes = try store.kind(of: copy.from) == .file ? store.size(of: copy.from) : nil
      guard bytes == copy.bytes else {
        throw Self.changed(
          bytes.map { "it has \($0) bytes, but had \(copy.bytes)" } ?? "it does not exist", path)
      }
    }
  }

  /// The importance matrix must be the planned one, and have weights for every tensor that the plan weights.
  func check(_ importance: ImportanceFile?) throws(CheckpointError) {
    let names = plan.files.flatMap(\.tensors).filter { $0.operation.importance != nil }
    guard let planned = plan.importance else {
      if let first = names.first {
        throw malformed("the plan weights its columns, but names no importance matrix", first.name)
      }
      guard importance == nil else {
        throw CheckpointError(
          .invalidRequest, "the plan does not use an importance matrix", remedy: "leave out --imatrix")
      }
      return
    }
    guard let importance else {
      throw CheckpointError(
        .invalidRequest, "the plan was made with the importance matrix \(planned.file.printable)",
        remedy: "give it with --imatrix")
    }
    guard importance.byteCount == planned.bytes, importance.xxh3 == planned.xxh3 else {
      throw CheckpointError(
        .sourceChanged, "is not the importance matrix that the plan was made with", path: importance.path,
        remedy: "restore it, name it with --imatrix, or plan again")
    }
    for tensor in names {
      guard let name = tensor.operation.importance else { continue }
      let shape = tensor.source.shape
      let experts = shape.rank == 3 ? shape.dimensions[0] : nil
      guard try importance.matrix.covers(name, columns: shape.columns, expertCount: experts) else {
        throw malformed("the importance matrix has nothing about \(name.printable)", tensor.name)
      }
    }
  }
}
