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
    do throws(CheckpointError) {
      try PlanCheck(plan).run()
      try PlanNames(plan).check()
    } catch {
      throw error.code == .malformed ? fault(error.message, tensor: error.tensor) : error
    }
    try check(plan.tool == manifest.tool, "the plan was made by another version")
    try checkSources()
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

// MARK: - The records

extension ManifestCheck {
  private func checkSources() throws(CheckpointError) {
    // What is made of other files on the way has no digest of its own.
    let onDisk = plan.source.files.filter { !$0.isDerived }
    try check(
      manifest.sources.map(\.path) == onDisk.map(\.path)
        && manifest.sources.map(\.bytes) == onDisk.map(\.bytes),
      "the sources are not those of the plan")
    for record in manifest.sources { try check(record) }
  }
}

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
