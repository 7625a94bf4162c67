internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import QuantizationRecipes
package import TensorFormats

/// Checks a plan from a file as a value: its numbers can be summed without overflow, its boxes lie within their
/// tensors, its tensors within their files, and every operation gives the tensor that the plan describes. Readers of a
/// plan may rely on that.
///
/// Names and the source are checked elsewhere: nothing is opened here.
package struct PlanCheck {
  private let plan: ShardPlan

  /// Takes an untrusted plan.
  package init(_ plan: ShardPlan) { self.plan = plan }

  /// The limit for files and dimensions: smaller values can be multiplied by a few and summed without overflow.
  private static let largest = 1 << 50

  /// - Throws: `.unsupported` for another version's plan, `.malformed` naming the first impossible value.
  package func run() throws(CheckpointError) {
    guard plan.version == ShardPlan.currentVersion else {
      throw CheckpointError(
        .unsupported, "the plan has version \(plan.version), but this tool reads \(ShardPlan.currentVersion)",
        remedy: "use the version of step3-toolkit that wrote it")
    }
    try checkRequest()
    try checkSource()
    for group in plan.scaleGroups { try check(group) }
    try check(!plan.parts.isEmpty, "there are no parts")
    try check(
      plan.parts.count == 1 || plan.parts.allSatisfy { !$0.directory.isEmpty },
      "one of several parts has no directory")
    var (bytes, parameters) = (0, 0)
    for fallback in plan.fallbacks {
      try add(fallback.parameters, to: &parameters, "the size of \(fallback.tensor.printable)")
    }
    parameters = 0
    for part in plan.parts {
      try check(part)
      for copy in part.copies { try add(copy.bytes, to: &bytes, "the size of \(copy.path.printable)") }
      for document in part.documents {
        try add(document.text.utf8.count, to: &bytes, "the size of \(document.path.printable)")
      }
      for file in part.files {
        try add(file.bytes, to: &bytes, "the size of \(file.path.printable)")
        try check(file, &parameters)
      }
      try ModuleCheck(part.tensors).run()
      let names = part.files.flatMap(\.tensors).map(\.name)
      try check(
        Set(names).count == names.count, "a tensor is in \(part.directory.printable) twice",
        tensor: Self.firstTwice(names))
    }
  }

  private static func firstTwice(_ names: [String]) -> String? {
    var seen: Set<String> = []
    return names.first { !seen.insert($0).inserted }
  }

  private func check(
    _ holds: Bool, _ message: @autoclosure () -> String, tensor: String? = nil
  ) throws(CheckpointError) {
    guard holds else { throw CheckpointError(.malformed, message(), tensor: tensor) }
  }

  /// Adds a size that must not be negative.
  private func add(_ size: Int, to sum: inout Int, _ what: @autoclosure () -> String) throws(CheckpointError)
  {
    let (result, overflow) = sum.addingReportingOverflow(size)
    try check(size >= 0 && !overflow, "\(what()) is \(size)")
    sum = result
  }

  private static func isDigest(_ text: String) -> Bool {
    Digest(hexadecimal: text).map { $0.bytes.count == 16 } ?? false
  }
}

// MARK: - Request and source

extension PlanCheck {
  private func checkRequest() throws(CheckpointError) {
    let limit = plan.request.maximumShardBytes
    try check(limit ?? 1 > 0, "the largest shard is \(limit ?? 0) bytes")
    if case .afd(let layout) = plan.request.partition {
      for count in [layout.ffnEP, layout.ffnTP, layout.attentionTP] {
        try check((1...PartIdentity.mostRanks).contains(count), "a partition has \(count) ranks")
      }
    }
    if let calibration = plan.request.calibration {
      try check(
        calibration.tokens > 0 && calibration.minimumExpertTokens >= 0 && calibration.damping > 0
          && calibration.damping.isFinite && Self.isDigest(calibration.xxh3),
        "the calibration is not described")
    }
    if let budget = plan.request.budget { try check(budget) }
    if let importance = plan.importance {
      try check(
        importance.bytes >= 0 && importance.weighted >= 0 && Self.isDigest(importance.xxh3),
        "the importance matrix is not described")
    }
  }

  /// A chosen recipe must be readable, and everything recorded about it in range.
  private func check(_ budget: ShardPlan.Budget) throws(CheckpointError) {
    let numbers =
      [budget.multiplier, budget.estimatedKL] + budget.choices.flatMap { [$0.relativeError, $0.estimatedKL] }
      + budget.fixed.map(\.estimatedKL)
    let sizes = [budget.bytes, budget.sampledRows, budget.sampledBytes, budget.reachable.lowerBound]
    let isBounded =
      switch budget.target {
      case .bytes(let bytes): bytes > 0
      case .bitsPerWeight(let number), .klDivergence(let number): number > 0 && number.isFinite
      }
    try check(
      isBounded && numbers.allSatisfy { $0 >= 0 && $0.isFinite }
        && (sizes + budget.fixed.map(\.bytes)).allSatisfy { $0 >= 0 } && Self.isDigest(budget.basis),
      "the budget is not described")
    try check(isKept(budget), "the plan does not keep its budget, or does not match the recorded estimates")
    let recipe = try Recipe(yaml: budget.recipe, path: "the recipe of the budget")
    try check(recipe.name == plan.request.recipe, "the recipe of the budget is another one")
    let names = budget.choices.map(\.tensor)
    try check(
      Set(names).count == names.count, "the budget names a tensor twice", tensor: Self.firstTwice(names))
    var types: [String: ElementType] = [:]
    for tensor in plan.files.flatMap(\.tensors) { types[tensor.name] = tensor.elementType }
    for choice in budget.choices {
      try check(
        types[choice.tensor] == choice.format, "the budget says \(choice.format) and the plan does not",
        tensor: choice.tensor)
    }
  }

  /// Whether the plan keeps the limit, has the recorded size, and the estimates add up.
  private func isKept(_ budget: ShardPlan.Budget) -> Bool {
    // Sums in another order differ in the last bits.
    let slack = 1 + 1e-9
    let estimate = budget.choices.reduce(0) { $0 + $1.estimatedKL }
    guard estimate <= budget.estimatedKL * slack, budget.estimatedKL <= estimate * slack else { return false }
    let tensors = plan.files.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.bytes } }
    switch budget.target {
    case .bytes(let limit): return plan.outputBytes == budget.bytes && budget.bytes <= limit
    case .bitsPerWeight(let limit): return tensors == budget.bytes && plan.bitsPerWeight <= limit * slack
    case .klDivergence(let limit): return plan.outputBytes == budget.bytes && estimate <= limit * slack
    }
  }

  private func checkSource() throws(CheckpointError) {
    var total = 0
    for file in plan.source.files {
      let name = file.path.printable
      try check((0...Self.largest).contains(file.bytes), "the size of \(name) is \(file.bytes)")
      try add(file.bytes, to: &total, "the size of \(name)")
      try check(
        (0...file.bytes).contains(file.dataOffset) && Self.isDigest(file.headerXXH3),
        "the header of \(name) is \(file.dataOffset) bytes long")
      for origin in file.origins {
        try check(
          (0...file.bytes).contains(origin.offset) && plan.source.files.indices.contains(origin.file)
            && (0...plan.source.files[origin.file].bytes).contains(origin.end),
          "the origins of \(name) end at byte \(origin.end) of source file \(origin.file), which does not exist"
        )
      }
    }
    try check(Set(plan.source.files.map(\.path)).count == plan.source.files.count, "a source appears twice")
    try check(plan.source.tensorCount >= 0, "the source has \(plan.source.tensorCount) tensors")
    try check(
      plan.source.configurationXXH3.map(Self.isDigest) ?? true, "the source's configuration has no digest")
  }

  /// A box of a source tensor. Its shape has been checked by its own decoder.
  private func check(_ slice: ShardPlan.Slice, of tensor: String) throws(CheckpointError) {
    let dimensions = slice.shape.dimensions
    try check(
      slice.origin.count == dimensions.count && slice.extent.count == dimensions.count,
      "a slice has \(slice.extent.count) dimensions of \(dimensions.count)", tensor: tensor)
    for (dimension, (origin, extent)) in zip(dimensions, zip(slice.origin, slice.extent)) {
      try check(dimension <= Self.largest, "a dimension is \(dimension)", tensor: tensor)
      try check(
        origin >= 0 && extent >= 0 && origin <= dimension && extent <= dimension - origin,
        "a slice of \(extent) from \(origin) is not in \(dimension)", tensor: tensor)
    }
    for axis in dimensions.indices.dropFirst().dropLast(2) {
      try check(
        slice.extent[axis] == dimensions[axis],
        "dimension \(axis) is cut, but only the first and the last two can be",
        tensor: tensor)
    }
    let packing = slice.scaling?.scheme?.scheme.geometry.codesPerElement ?? 1
    try check(
      packing == 1 || slice.shape.columns % packing == 0,
      "rows of \(slice.shape.columns) elements are not a whole number of codes", tensor: tensor)
    let stored = TensorShape(
      checking: Array(dimensions.dropLast() + dimensions.suffix(1).map { $0 / packing }))
    try check(slice.file, slice.offset, stored, slice.elementType, of: tensor)
    for scales in [slice.scaling?.scales, slice.scaling?.matrixScales] {
      guard let scales else { continue }
      try check(scales.file, scales.offset, scales.shape, scales.elementType, of: tensor)
    }
  }

  /// A tensor of the source: its bytes are in its file.
  private func check(
    _ file: Int, _ offset: Int, _ shape: TensorShape?, _ type: ElementType, of tensor: String
  ) throws(CheckpointError) {
    guard let bytes = shape?.byteCount(as: type) else {
      throw CheckpointError(.malformed, "a source of it ends inside a block", tensor: tensor)
    }
    try check(
      plan.source.files.indices.contains(file) && offset >= 0 && bytes <= plan.source.files[file].bytes
        && offset <= plan.source.files[file].bytes - bytes,
      "\(bytes) bytes from byte \(offset) of source file \(file) do not exist", tensor: tensor)
  }

  /// Matrices that share a scale: each weight must have the same number of them.
  private func check(_ group: ShardPlan.ScaleGroup) throws(CheckpointError) {
    guard let first = group.members.first else {
      throw CheckpointError(.malformed, "a scale group has no members")
    }
    for slice in group.members {
      try check(slice, of: slice.tensor)
      try check(
        slice.isWholeInRows && (2...3).contains(slice.shape.rank) && slice.matrixCount == first.matrixCount,
        "its matrices are not those of its scale group", tensor: slice.tensor)
      try slice.checkDecodable()
    }
  }
}

// MARK: - The output

extension PlanCheck {
  private func check(_ part: ShardPlan.Part) throws(CheckpointError) {
    for (rank, ranks) in [
      (part.rank, part.ranks), (part.expertParallel.rank, part.expertParallel.ranks),
      (part.tensorParallel.rank, part.tensorParallel.ranks),
    ] {
      try check(
        rank >= 0 && rank < ranks && ranks <= 1 << 20,
        "\(part.directory.printable) is rank \(rank) of \(ranks)")
    }
  }

  private func check(_ file: ShardPlan.File, _ parameters: inout Int) throws(CheckpointError) {
    let name = file.path.printable
    try check(
      (0...Self.largest).contains(file.bytes) && (0...file.bytes).contains(file.dataOffset)
        && Self.isDigest(file.headerXXH3),
      "the header of \(name) is \(file.dataOffset) bytes long, and the file \(file.bytes)")
    var end = file.dataOffset
    for tensor in file.tensors {
      try check(
        tensor.offset >= end && tensor.bytes >= 0 && tensor.bytes <= file.bytes - tensor.offset,
        "\(tensor.bytes) bytes from \(tensor.offset) are not within \(name), or not after the previous tensor",
        tensor: tensor.name)
      end = tensor.offset + tensor.bytes
      try check(!tensor.sources.isEmpty, "it has no sources", tensor: tensor.name)
      for slice in tensor.sources {
        try check(slice, of: tensor.name)
        try add(slice.extent.reduce(1, *), to: &parameters, "the size of a slice of \(tensor.name.printable)")
      }
      try check(tensor)
    }
  }

  /// The operation must give what the plan says.
  private func check(_ tensor: ShardPlan.Tensor) throws(CheckpointError) {
    do throws(CheckpointError) {
      try OperationCheck(tensor, groups: plan.scaleGroups).run()
    } catch {
      var named = error
      named.code = .malformed
      named.tensor = tensor.name
      throw named
    }
  }
}

extension ShardPlan.Slice {
  /// How many matrices the whole tensor is a stack of.
  var matrixCount: Int { shape.dimensions.dropLast(2).reduce(1, *) }

  /// Whether no column is left out: a member of a scale group may be one of several weights stored in one tensor.
  fileprivate var isWholeInRows: Bool { extent.last == shape.dimensions.last }

  /// - Throws: `.unsupported` if the elements cannot be decoded to values.
  func checkDecodable() throws(CheckpointError) {
    guard scaling?.scheme != nil || (BlockCodec.codec(for: elementType) != nil && !elementType.isInteger)
    else {
      throw CheckpointError(.unsupported, "\(elementType) holds no real numbers")
    }
  }
}
