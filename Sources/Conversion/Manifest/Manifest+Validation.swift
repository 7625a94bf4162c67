internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// Checks a manifest from a file as a value: its names stay below the output, its sizes can be summed without
/// overflow, and its lists agree about the same files. Readers may rely on that.
struct ManifestCheck {
  private let manifest: Manifest
  private var plan: ShardPlan { manifest.plan }

  init(_ manifest: Manifest) { self.manifest = manifest }

  /// - Parameter text: The bytes that it was read from.
  /// - Throws: `.malformed` naming the first impossible value; `.unsupported` for another version's plan.
  func run(_ text: [UInt8]) throws(CheckpointError) {
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
    try checkFallbacks()
    // Last, because the checks above give more precise errors.
    guard let digest = Manifest.rootDigest(of: text) else {
      throw fault("it does not begin with its root digest, as it was written")
    }
    try check(
      digest.stated == digest.found,
      "the root digest is \(digest.found), but the manifest states \(digest.stated): it has been changed"
    )
  }

  private func fault(_ message: String, tensor: String? = nil) -> CheckpointError {
    CheckpointError(
      .malformed, "is not a sound manifest: \(message)", tensor: tensor,
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
    // Derived files have no digests of their own.
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
      "the size or a digest of \(record.path.printable) is invalid")
  }

  private func isDigest(_ text: String, _ bytes: Int) -> Bool {
    Digest(hexadecimal: text).map { $0.bytes.count == bytes } ?? false
  }

  private func checkRecords() throws(CheckpointError) {
    var sizes: [String: Int] = [:]
    var texts: [String: String] = [:]
    var order = plan.files.map(\.path)
    for part in plan.parts {
      for file in part.files { sizes[file.path] = file.bytes }
      for document in part.documents {
        sizes[document.path] = document.text.utf8.count
        texts[document.path] = document.text
      }
      for copy in part.copies { sizes[copy.path] = copy.bytes }
      order += part.documents.map(\.path) + part.copies.map(\.path)
    }
    var total = 0
    for record in manifest.files {
      let path = record.path.printable
      guard let size = sizes.removeValue(forKey: record.path) else {
        throw fault("the plan has no file \(path), or it is recorded twice")
      }
      try check(size == record.bytes, "\(path) has \(record.bytes) bytes, but the plan says \(size)")
      try check(record)
      try add(record.bytes, to: &total, "the size of \(path)")
      if let text = texts[record.path] {
        let digests = FileDigests(of: Array(text.utf8))
        try check(
          record.xxh3 == "\(digests.xxh3)" && record.sha256 == "\(digests.sha256)",
          "a digest of \(path) is not that of its text in the plan")
      }
    }
    if let missing = sizes.keys.min() { throw fault("\(missing.printable) is planned, but not recorded") }
    try check(manifest.files.map(\.path) == order, "the files are in a different order than in the plan")
  }

  private struct TensorKey: Hashable {
    let file: String
    let name: String
  }

  private func checkTensors() throws(CheckpointError) {
    var planned: [TensorKey: ShardPlan.Tensor] = [:]
    for file in plan.files {
      for tensor in file.tensors { planned[TensorKey(file: file.path, name: tensor.name)] = tensor }
    }
    let names = SourceNames(plan)
    for record in manifest.tensors {
      guard let tensor = planned.removeValue(forKey: TensorKey(file: record.file, name: record.name)) else {
        throw fault(
          "\(record.file.printable) has no such tensor, or it is recorded twice", tensor: record.name)
      }
      try check(isDigest(record.xxh3, 16), "its digest is invalid", tensor: record.name)
      try check(
        record.sources == names.sources(of: tensor), "its sources are not those of the plan",
        tensor: record.name)
      try check(
        (record.error != nil) == !tensor.isLossless,
        record.error == nil ? "its error is not recorded" : "it has an error although it is lossless",
        tensor: record.name)
      guard let error = record.error else { continue }
      try check(
        (error.search != nil) == (tensor.operation.search == .mse),
        "the search for its scales is not that of the plan", tensor: record.name)
      // Slices have been checked: the product is the number of elements in a file.
      let count = tensor.sources.reduce(0) { $0 + $1.extent.reduce(1, *) }
      guard error.isPossible(of: count) else {
        throw fault(
          "its errors are impossible for \(count) values: \(error.text)", tensor: record.name)
      }
    }
    if let missing = planned.keys.map(\.name).min() {
      throw fault("the tensor is planned, but not recorded", tensor: missing)
    }
    let order = plan.files.flatMap { file in
      file.tensors.map { TensorKey(file: file.path, name: $0.name) }
    }
    try check(
      manifest.tensors.map { TensorKey(file: $0.file, name: $0.name) } == order,
      "the tensors are in a different order than in the plan")
  }
}

extension ManifestCheck {
  /// Each listed weight must be encoded by the plan, and listed once.
  private func checkFallbacks() throws(CheckpointError) {
    try check(
      (manifest.roundedToNearest != nil) == (plan.request.calibration != nil),
      "its list of weights rounded to nearest does not match the plan")
    guard let fallbacks = manifest.roundedToNearest else { return }
    var matrices: [String: Int] = [:]
    for slice in plan.files.flatMap(\.tensors).filter(\.operation.decodes).flatMap(\.sources) {
      matrices[slice.tensor] = slice.shape.dimensions.dropLast(2).reduce(1, *)
    }
    var seen: Set<CalibrationFallback> = []
    for fallback in fallbacks {
      guard let count = matrices[fallback.tensor], (0..<count).contains(fallback.expert ?? 0),
        fallback.tokens ?? 0 >= 0, seen.insert(fallback).inserted
      else {
        throw fault(
          "it lists a weight as rounded to nearest that is not encoded, or twice", tensor: fallback.tensor)
      }
    }
  }
}

extension Manifest.QuantizationError {
  fileprivate var text: String {
    "rmse \(rmse), maximum \(maximumAbsoluteError), relative \(relativeRMSE), cosine \(cosineSimilarity)"
  }

  /// Whether such errors are possible for that many values.
  ///
  /// With the values x, the stored values y, and t = ‖y‖ / ‖x‖: (‖x - y‖ / ‖x‖)² = 1 + t² - 2 t cos, which is at
  /// least 1 - cos², whatever t is, and 1 where cos is negative.
  fileprivate func isPossible(of count: Int) -> Bool {
    // Slack for the rounding of sums.
    let slack = 1.000_01
    guard (0...Double(Float.greatestFiniteMagnitude)).contains(maximumAbsoluteError), rmse >= 0,
      rmse <= maximumAbsoluteError * slack,
      maximumAbsoluteError <= rmse * Double(count).squareRoot() * slack,
      (-1...1).contains(cosineSimilarity), relativeRMSE >= 0, rmse > 0 || relativeRMSE == 0
    else { return false }
    // No format changes a value by a million times its size; infinite means that the source was zero.
    guard relativeRMSE <= 1e6 || relativeRMSE == .infinity else { return false }
    let least = 1 - max(0, cosineSimilarity) * max(0, cosineSimilarity)
    return relativeRMSE * relativeRMSE >= least - 1e-5
      && search.map { $0.after >= 0 && $0.after.isFinite && $0.before >= $0.after } ?? true
  }
}
