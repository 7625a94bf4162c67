import Archives
import CommandSupport
import TensorFormats

/// The outcome of archiving.
struct ArchiveSummary: Encodable {
  let output: String
  let files: Int
  let bytes: Int
  let storedBytes: Int
  /// Files that an earlier run had finished.
  let reusedFiles: Int
  /// Whether there was nothing left to do.
  let wasComplete: Bool
  /// By element type and method, the most bytes first.
  let methods: [ArchiveManifest.MethodTotal]
  let seconds: Double
  let peakMemoryBytes: Int

  /// The uses of methods, summed over all files.
  static func methods(_ manifest: ArchiveManifest) -> [ArchiveManifest.MethodTotal] {
    struct Key: Hashable {
      let elementType: String?
      let method: String
    }
    var sums: [Key: (bytes: Int, storedBytes: Int)] = [:]
    for use in manifest.files.flatMap(\.methods) {
      let key = Key(elementType: use.elementType, method: use.method)
      sums[key, default: (0, 0)].bytes += use.bytes
      sums[key, default: (0, 0)].storedBytes += use.storedBytes
    }
    return sums.map {
      ArchiveManifest.MethodTotal(
        elementType: $0.elementType, method: $0.method, bytes: $1.bytes, storedBytes: $1.storedBytes)
    }.sorted { ($1.bytes, $0.elementType ?? "", $0.method) < ($0.bytes, $1.elementType ?? "", $1.method) }
  }

  var text: String {
    var text = "\(output): \(files) \(files == 1 ? "file" : "files")\n"
    if wasComplete { text += "  was already complete: nothing to do\n" }
    text +=
      "  \(ByteSize(bytes: bytes).decimal) -> \(ByteSize(bytes: storedBytes).decimal)\(share(storedBytes, of: bytes))\n"
    if !wasComplete {
      if reusedFiles > 0 { text += "  resumed: \(reusedFiles) files were already done\n" }
      text += timing(bytes, seconds, peakMemoryBytes)
    }
    for use in methods.prefix(8) {
      text += "    \(use.elementType?.printable ?? "headers and gaps"): \(use.method.printable), "
      text += "\(ByteSize(bytes: use.bytes).decimal)\(share(use.storedBytes, of: use.bytes))\n"
    }
    return text + "  check it with: step3-convert restore \(output) --check\n"
  }
}

/// The outcome of restoring or checking.
struct RestoreSummary: Encodable {
  /// `nil` if it was only checked.
  let output: String?
  let files: Int
  let bytes: Int
  let storedBytes: Int
  let ok: Bool
  let findings: [Finding]
  let seconds: Double
  let peakMemoryBytes: Int

  struct Finding: Encodable {
    let path: String
    let error: String
  }

  var text: String {
    var text = ""
    for finding in findings { text += "FAILED: \(finding.path.printable): \(finding.error)\n" }
    let count = "\(files) \(files == 1 ? "file" : "files"), \(ByteSize(bytes: bytes).decimal)"
    if let output {
      text += "\(output): \(count): every file has the SHA-256 of its original\n"
    } else if ok {
      text += "\(count): every file can be restored, with the SHA-256 of its original\n"
    } else {
      text += "\(findings.count) of \(count), cannot be restored\n"
    }
    return text + timing(bytes, seconds, peakMemoryBytes)
  }
}

/// `, 66.7 %`
private func share(_ part: Int, of whole: Int) -> String {
  whole > 0 ? ", \(NumberText.decimals(Double(part) / Double(whole) * 100, 1)) %" : ""
}

private func timing(_ bytes: Int, _ seconds: Double, _ memory: Int) -> String {
  let rate = seconds > 0 ? Int(Double(bytes) / seconds) : 0
  return "  \(NumberText.decimals(seconds, 1)) s, \(ByteSize(bytes: rate).decimal)/s, peak memory "
    + "\(ByteSize(bytes: memory).binary)\n"
}
