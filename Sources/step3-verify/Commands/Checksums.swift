import ArgumentParser
import ByteStreams
import CommandSupport
import Locations
import TensorFormats
import Verification

/// `step3-verify checksums`: checks every byte against the manifest, and the manifest against a pinned digest.
struct Checksums: CheckCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compare every byte of an output with its manifest.",
    discussion: """
      Reports what is missing, extra, truncated or changed: the file, the tensor, the byte range. Each file is read \
      once, and compared by SHA-256 and XXH3, each tensor by XXH3. Exit code 0 if everything is as it was written, 1 \
      if not, 74 if something could not be read. A checkpoint without a manifest has nothing to compare with: only \
      the structure of its files is checked, and the result says so.

      Whoever rewrites files can rewrite the manifest too. Keep the root digest that step3-convert prints elsewhere, \
      and give it with --pin.
      """)

  @Argument(help: "A directory that step3-convert wrote, or one part of it.", completion: .directory)
  var output: String

  @Flag(name: .long, help: "Compare only XXH3, which finds accidents but not tampering.")
  var fast = false

  @Option(
    name: .long,
    help: ArgumentHelp("The root digest that the manifest must have.", valueName: "sha256"),
    transform: Checksums.digest)
  var pin: Digest?

  @Flag(name: .long, help: "Fail if there is no manifest.")
  var requireManifest = false

  @OptionGroup var common: CommonOptions

  /// Reads a root digest.
  static func digest(_ text: String) throws -> Digest {
    guard let digest = Digest(hexadecimal: text), digest.bytes.count == 32 else {
      throw ValidationError("is not a SHA-256: expected 64 hexadecimal digits")
    }
    return digest
  }

  func outcome() async throws -> CheckOutcome {
    let verification = try ChecksumVerification(
      common.location(output).store,
      ChecksumVerification.Options(
        threads: common.threadCount, withSHA256: !fast, pin: pin, requiresManifest: requireManifest))
    let report = try await common.reading("verifying", total: verification.byteCount) {
      try await verification.run(progress: $0)
    }
    return CheckOutcome(
      kind: .checksums, document: report, text: text(report),
      status: report.isIncomplete ? .inputOutput : report.ok ? .success : .checkFailed)
  }

  private func text(_ report: ChecksumReport) -> String {
    var text = ""
    for finding in report.findings {
      text += "\(finding.fatal ? "FAILED" : "note"): \(finding.file.printable)"
      if let tensor = finding.tensor { text += ": \(tensor.printable)" }
      if let start = finding.start, let end = finding.end { text += ": bytes \(start) to \(end)" }
      text += ": \(finding.message)\n"
    }
    let amount = "\(report.tensors) tensors in \(report.files) files"
    if !report.manifest, !report.ok {
      text += "\(output): there is no manifest to compare \(amount) with\n"
    } else if !report.manifest {
      text +=
        "\(output): \(amount) are well-formed; there is no manifest, so their contents were not checked\n"
    } else if report.ok {
      text +=
        "\(output): \(amount), \(ByteSize(bytes: report.bytes).decimal): every byte is as it was written\n"
      if !report.sha256 {
        text += "  compared by XXH3 only, which rules out accidents but not tampering\n"
      }
    } else {
      let count = report.findings.filter(\.fatal).count
      text += "\(output): \(count) \(count == 1 ? "difference" : "differences") in \(amount)\n"
    }
    if let digest = report.rootDigest {
      let verdict = pin.map { "\($0)" == "\(digest)" ? ", as pinned" : ", not the pinned one" }
      text += "  root digest\(verdict ?? ""): \(digest)\n"
    }
    return text
  }
}
