internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// Checks a manifest that came from a file as a value: its names stay below the output, its numbers are sizes that can
/// be added up, and its lists say the same of the same files. Whoever reads one may rely on that.
struct ManifestCheck {
  private let manifest: Manifest
  private var plan: ShardPlan { manifest.plan }

  init(_ manifest: Manifest) { self.manifest = manifest }

  /// - Throws: `.malformed` naming the first thing that cannot be; `.unsupported` for another version's plan.
  func run() throws(CheckpointError) {
    guard plan.version == ShardPlan.currentVersion else {
      throw CheckpointError(
        .unsupported, "the plan has version \(plan.version), this tool knows \(ShardPlan.currentVersion)",
        remedy: "use the version of step3-toolkit that wrote it")
    }
    try check(plan.tool == manifest.tool, "the plan was made by another version")
    try checkRequest()
    try checkSources()
    try checkParts()
    try checkRecords()
    try checkTensors()
  }

  private func fault(_ message: String, tensor: String? = nil) -> CheckpointError {
    CheckpointError(
      .malformed, "is no sound manifest: \(message)", tensor: tensor,
      remedy: "restore the manifest, or convert again")
  }

  private func check(_ holds: Bool, _ message: @autoclosure () -> String, tensor: String? = nil)
    throws(CheckpointError)
  {
    guard holds else { throw fault(message(), tensor: tensor) }
  }

  /// Adds a size that must not be negative.
  private func add(_ size: Int, to sum: inout Int, _ what: @autoclosure () -> String) throws(CheckpointError)
  {
    let (result, overflow) = sum.addingReportingOverflow(size)
    try check(size >= 0 && !overflow, "\(what()) is \(size)")
    sum = result
  }
}

// MARK: - The plan

extension ManifestCheck {
  private func checkRequest() throws(CheckpointError) {
    let limit = plan.request.maximumShardBytes
    try check(limit ?? 1 > 0, "the largest shard is \(limit ?? 0) bytes")
    if case .afd(let layout) = plan.request.partition {
      for count in [layout.ffnEP, layout.ffnTP, layout.attentionTP] {
        try check((1...PartIdentity.mostRanks).contains(count), "a partition has \(count) ranks")
      }
    }
    if let importance = plan.importance {
      try check(
        importance.bytes >= 0 && importance.weighted >= 0 && isDigest(importance.xxh3, 16),
        "the importance matrix is not described")
    }
  }

  private func checkSources() throws(CheckpointError) {
    var total = 0
    for file in plan.source.files {
      try check(OutputPath.isPlain(file.path, components: 16), "a source is '\(file.path.printable)'")
      try add(file.bytes, to: &total, "the size of \(file.path.printable)")
      try check(
        (0...file.bytes).contains(file.dataOffset) && isDigest(file.headerXXH3, 16),
        "the header of \(file.path.printable) is \(file.dataOffset) bytes long")
    }
    try check(Set(plan.source.files.map(\.path)).count == plan.source.files.count, "a source is there twice")
    try check(plan.source.tensorCount >= 0, "the source has \(plan.source.tensorCount) tensors")
    try check(
      plan.source.configurationXXH3.map { isDigest($0, 16) } ?? true,
      "the source's configuration has no digest")
    // What is made of other files on the way has no digest of its own.
    let onDisk = plan.source.files.filter { !$0.isDerived }
    try check(
      manifest.sources.map(\.path) == onDisk.map(\.path)
        && manifest.sources.map(\.bytes) == onDisk.map(\.bytes),
      "the sources are not those of the plan")
    for record in manifest.sources { try check(record) }
    for group in plan.scaleGroups { for slice in group.members { try check(slice, of: "a scale group") } }
  }

  private func checkParts() throws(CheckpointError) {
    try check(!plan.parts.isEmpty, "there are no parts")
    try check(
      plan.parts.count == 1 || plan.parts.allSatisfy { !$0.directory.isEmpty },
      "a part of several has no directory")
    try check(OutputListing(plan).isSound, "a path leads elsewhere, or is there twice")
    var (total, parameters) = (0, 0)
    for part in plan.parts {
      for (rank, ranks) in [
        (part.rank, part.ranks), (part.expertParallel.rank, part.expertParallel.ranks),
        (part.tensorParallel.rank, part.tensorParallel.ranks),
      ] {
        try check(
          rank >= 0 && rank < ranks && ranks <= 1 << 20,
          "\(part.directory.printable) is rank \(rank) of \(ranks)")
      }
      let prefix = part.directory.isEmpty ? "" : "\(part.directory)/"
      for path in part.files.map(\.path) + part.documents.map(\.path) {
        let isInside = path.hasPrefix(prefix) && !path.dropFirst(prefix.count).contains("/")
        try check(isInside, "\(path.printable) is not in its part")
      }
      // Side files may lie in a folder.
      for path in part.copies.map(\.path) {
        try check(path.hasPrefix(prefix), "\(path.printable) is not in its part")
      }
      for copy in part.copies {
        try check(
          copy.bytes >= 0 && OutputPath.isPlain(copy.from, components: 16),
          "the copy \(copy.path.printable) is not described")
      }
      for file in part.files {
        try add(file.bytes, to: &total, "the size of \(file.path.printable)")
        try check(file, &parameters)
      }
    }
  }

  private func check(_ file: ShardPlan.File, _ parameters: inout Int) throws(CheckpointError) {
    let name = file.path.printable
    try check(
      (0...file.bytes).contains(file.dataOffset) && isDigest(file.headerXXH3, 16),
      "the header of \(name) is \(file.dataOffset) bytes long, and the file \(file.bytes)")
    var end = file.dataOffset
    for tensor in file.tensors {
      try check(
        tensor.offset >= end && tensor.bytes >= 0 && tensor.bytes <= file.bytes - tensor.offset,
        "\(tensor.bytes) bytes from \(tensor.offset) are not in \(name), or not behind the tensor before",
        tensor: tensor.name)
      end = tensor.offset + tensor.bytes
      try check(!tensor.sources.isEmpty, "it is made of nothing", tensor: tensor.name)
      for slice in tensor.sources {
        try check(slice, of: tensor.name)
        try add(slice.extent.reduce(1, *), to: &parameters, "the size of a slice of \(tensor.name.printable)")
      }
      try check(
        tensor.operation.scaleGroup.map(plan.scaleGroups.indices.contains) ?? true, "it names no scale group",
        tensor: tensor.name)
    }
    try check(Set(file.tensors.map(\.name)).count == file.tensors.count, "a tensor is in \(name) twice")
  }

  /// A box of a source tensor. Its shape has been checked by its own decoder, so what lies within can be multiplied.
  private func check(_ slice: ShardPlan.Slice, of tensor: String) throws(CheckpointError) {
    let dimensions = slice.shape.dimensions
    try check(
      slice.origin.count == dimensions.count && slice.extent.count == dimensions.count,
      "a slice has \(slice.extent.count) dimensions of \(dimensions.count)", tensor: tensor)
    for (dimension, (origin, extent)) in zip(dimensions, zip(slice.origin, slice.extent)) {
      try check(
        origin >= 0 && extent >= 0 && origin <= dimension && extent <= dimension - origin,
        "a slice of \(extent) from \(origin) is not in \(dimension)", tensor: tensor)
    }
    try check(inSource: slice.file, slice.offset, tensor)
    for scales in [slice.scaling?.scales, slice.scaling?.matrixScales] {
      guard let scales else { continue }
      try check(inSource: scales.file, scales.offset, tensor)
    }
  }

  private func check(inSource file: Int, _ offset: Int, _ tensor: String) throws(CheckpointError) {
    try check(
      plan.source.files.indices.contains(file) && (0...plan.source.files[file].bytes).contains(offset),
      "byte \(offset) of source file \(file) is not there", tensor: tensor)
  }
}

// MARK: - The records

extension ManifestCheck {
  private func check(_ record: Manifest.FileRecord) throws(CheckpointError) {
    try check(
      record.bytes >= 0 && isDigest(record.xxh3, 16) && isDigest(record.sha256, 32),
      "the size or a digest of \(record.path.printable) is none")
  }

  private func isDigest(_ text: String, _ bytes: Int) -> Bool {
    Digest(hexadecimal: text).map { $0.bytes.count == bytes } ?? false
  }

  private func checkRecords() throws(CheckpointError) {
    var sizes: [String: Int] = [:]
    for part in plan.parts {
      for file in part.files { sizes[file.path] = file.bytes }
      for document in part.documents { sizes[document.path] = document.text.utf8.count }
      for copy in part.copies { sizes[copy.path] = copy.bytes }
    }
    var total = 0
    for record in manifest.files {
      let path = record.path.printable
      guard let size = sizes.removeValue(forKey: record.path) else {
        throw fault("the plan has no file \(path), or it is recorded twice")
      }
      try check(size == record.bytes, "\(path) has \(record.bytes) bytes, and \(size) by the plan")
      try check(record)
      try add(record.bytes, to: &total, "the size of \(path)")
    }
    if let missing = sizes.keys.min() { throw fault("\(missing.printable) is planned, but not recorded") }
  }

  private struct TensorKey: Hashable {
    let file: String
    let name: String
  }

  private func checkTensors() throws(CheckpointError) {
    var planned = Set(
      plan.files.flatMap { file in file.tensors.map { TensorKey(file: file.path, name: $0.name) } })
    for record in manifest.tensors {
      guard planned.remove(TensorKey(file: record.file, name: record.name)) != nil else {
        throw fault(
          "\(record.file.printable) has no such tensor, or it is recorded twice", tensor: record.name)
      }
      try check(isDigest(record.xxh3, 16), "its digest is none", tensor: record.name)
      guard let error = record.error else { continue }
      let figures = [error.rmse, error.maximumAbsoluteError, error.relativeRMSE]
      try check(
        figures.allSatisfy { $0 >= 0 } && (error.search.map { $0.before >= 0 && $0.after >= 0 } ?? true),
        "an error is negative", tensor: record.name)
      try check(
        abs(error.cosineSimilarity) < 1 + 1e-6, "its cosine is \(error.cosineSimilarity)", tensor: record.name
      )
    }
    if let missing = planned.first {
      throw fault("the tensor is planned, but not recorded", tensor: missing.name)
    }
  }
}
