import ArgumentParser
import CommandSupport
import Locations
import TensorFormats
import Verification

/// `step3-verify checksums`: every byte against the manifest.
struct Checksums: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compare every byte of an output with its manifest.",
    discussion: """
      Names what is missing, extra, truncated or changed: the file, the tensor, the byte range. Exit code 0 if all \
      is as it was written, 1 if not. A checkpoint without a manifest has nothing to be compared with: then only the \
      structure of its files is checked, and the result says so.
      """)

  @Argument(help: "A directory that step3-convert wrote, or one part of it.", completion: .directory)
  var output: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let verification = ChecksumVerification(try common.location(output).store, threads: common.threadCount)
    let progress = common.progressReporter("verifying", total: try verification.byteCount())
    defer { progress.finish() }
    let report = try await Interruption.cancelling {
      try await verification.run { bytes, file in
        progress.advance(by: bytes)
        progress.setItem(file)
      }
    }
    progress.finish()
    try print(report)
    if !report.ok { throw CommandLineTool.end(.checkFailed) }
  }

  private func print(_ report: ChecksumReport) throws(CheckpointError) {
    if common.json {
      return try StandardStream.output.write(json: report)
    }
    var text = ""
    for finding in report.findings {
      text += "\(finding.fatal ? "FAILED" : "note"): \(finding.file.printable)"
      if let tensor = finding.tensor { text += ": \(tensor.printable)" }
      if let start = finding.start, let end = finding.end { text += ": bytes \(start) to \(end)" }
      text += ": \(finding.message)\n"
    }
    let amount = "\(report.tensors) tensors in \(report.files) files"
    if !report.manifest {
      text +=
        "\(output): \(amount) are well-formed; there is no manifest, so their contents were not checked\n"
    } else if report.ok {
      text +=
        "\(output): \(amount), \(ByteSize(bytes: report.bytes).decimal): every byte is as it was written\n"
    } else {
      let count = report.findings.filter(\.fatal).count
      text += "\(output): \(count) \(count == 1 ? "difference" : "differences") in \(amount)\n"
    }
    try StandardStream.output.write(text)
  }
}
