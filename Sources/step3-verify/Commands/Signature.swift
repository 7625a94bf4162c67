import ArgumentParser
import ByteStreams
import CommandSupport
import Locations
import Signatures
import TensorFormats

/// `step3-verify signature`: checks a model against its signature, and the signature against a public key.
struct SignatureCommand: CheckCommand {
  static let configuration = CommandConfiguration(
    commandName: "signature",
    abstract: "Check a model's signature, and every file against it.",
    discussion: """
      First the signature is checked against the public key, then the root digest, then every file: which have \
      changed, which are missing, which are not signed. Signatures are Sigstore bundles made with a key (P-256, P-384, \
      P-521) by step3-convert sign or by the Python package model_signing; those made with a certificate or a Sigstore \
      identity are refused. An archive is checked as the files it was made from, if those were signed.

      Exit code 0 if everything is as it was signed, 1 if not, 65 if the signature cannot be checked, 74 if something \
      could not be read.

      Examples:
        step3-verify signature step3-q4 --public-key pub.pem
        step3-verify signature step3-q4 --public-key pub.pem --provenance step3-q4/provenance.sig
        step3-verify signature step3-q4 --public-key pub.pem --signature from-elsewhere.sig --ignore-unsigned-files
      """)

  @Argument(help: "The directory that was signed, or the one file.", completion: .file())
  var output: String

  @Option(
    name: .customLong("public-key"),
    help: ArgumentHelp("The public key to check with: a PEM file.", valueName: "file"),
    completion: .file())
  var publicKey: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The signature (default: model.sig in the directory, FILE.sig beside a file).", valueName: "file"),
    completion: .file())
  var signature: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Also check this provenance statement, and compare it with the manifest.",
      valueName: "file"),
    completion: .file())
  var provenance: String?

  @Flag(
    name: .customLong("manifest-only"),
    help: """
      Compare the signature with the digests in manifest.json without reading the files that it lists. That says \
      nothing about the files' bytes: step3-verify checksums does.
      """)
  var manifestOnly = false

  @Flag(name: .customLong("ignore-unsigned-files"), help: "Ignore files that are not signed.")
  var ignoresUnsignedFiles = false

  @Flag(name: .customLong("allow-symlinks"), help: "Follow symbolic links to files.")
  var allowsSymbolicLinks = false

  @OptionGroup var common: CommonOptions

  func outcome() async throws -> CheckOutcome {
    let key = try VerifyingKey(reading: publicKey)
    let verification = try SignatureVerification(
      SignedModel(common.location(output)), signature: signature, provenance: provenance, key: key,
      options: SignatureVerification.Options(
        threads: common.threadCount, trustsManifest: manifestOnly, ignoresUnsignedFiles: ignoresUnsignedFiles,
        followsLinks: allowsSymbolicLinks))
    let report = try await common.reading("verifying", total: verification.byteCount) {
      try await verification.run(progress: $0)
    }
    return CheckOutcome(
      kind: .signature, document: report, text: text(report),
      status: report.isIncomplete ? .inputOutput : report.ok ? .success : .checkFailed)
  }

  private func text(_ report: SignatureReport) -> String {
    var text = report.findings.map { "FAILED: \($0.file.printable): \($0.message)\n" }.joined()
    let key = "\(report.key.curve.rawValue), SHA-256 \(report.key.sha256)"
    guard let subject = report.subject, let rootDigest = report.rootDigest else {
      return text + "\(output.printable): not signed with this key (\(key)); its files were not looked at\n"
    }
    if report.ok {
      let read = report.files - report.filesByManifest
      text += "\(output.printable): signed as \(subject.printable): \(read) files, "
      text += "\(ByteSize(bytes: report.bytes).decimal), every byte is as it was signed\n"
      if report.filesByManifest > 0 {
        text +=
          "  \(report.filesByManifest) files were not read: the manifest has the signed digests,  "
          + "which says nothing about their bytes\n"
      }
    } else {
      let count = report.findings.count
      text +=
        "\(output.printable): \(count) \(count == 1 ? "difference" : "differences") from what was signed\n"
      if report.findings.contains(where: { $0.kind == .extra }) {
        text += "  to ignore files that need no signature, give --ignore-unsigned-files\n"
      }
    }
    if let provenance = report.provenance, report.ok {
      text += "  \(provenance.printable) is signed, and agrees with the manifest\n"
    }
    if !report.ignored.isEmpty {
      text += "  left out by the signature: \(report.ignored.map(\.printable).joined(separator: ", "))\n"
    }
    return text + "  root digest: \(rootDigest)\n  key: \(key)\n"
  }
}
