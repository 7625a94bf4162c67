import ArgumentParser
import ByteStreams
import CommandSupport
import Locations
import Signatures
import TensorFormats

/// `step3-convert sign`: signs a model, in the format of the `model_signing` package.
struct Sign: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Sign an output with a private key, without reading its weights again.",
    discussion: """
      The SHA-256 of every file comes from manifest.json; only files that it does not list (the manifest itself, a \
      README) are read. With --hash every file is read: to sign a checkpoint without a manifest, or an archive, or to \
      make sure before signing that the files are what was written.

      The signature is a Sigstore bundle as the Python package model_signing writes it, and model_signing verify key \
      checks it. The key is an unencrypted PEM file with a key of P-256, P-384 or P-521. What belongs to git (.git, \
      .github, .gitattributes, .gitignore) is left out, as there.

      Examples:
        openssl ecparam -name prime256v1 -genkey -noout -out ec.pem
        openssl pkey -in ec.pem -pubout -out pub.pem
        step3-convert sign step3-q4 --key ec.pem
        step3-convert sign step3-q4 --key ec.pem --provenance step3-q4/provenance.sig
        step3-convert sign step3 --key ec.pem --hash
      """)

  @Argument(help: "The directory to sign, or one file.", completion: .file())
  var output: String

  @Option(name: .long, help: ArgumentHelp("The private key.", valueName: "file"), completion: .file())
  var key: String

  @Option(
    name: .customLong("output"),
    help: ArgumentHelp(
      "Where the signature goes (default: model.sig in the directory, FILE.sig beside a file).",
      valueName: "file"),
    completion: .file())
  var signature: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Also write a signed provenance statement (SLSA): sources, request, plan, version.",
      valueName: "file"), completion: .file())
  var provenance: String?

  @Flag(name: .customLong("hash"), help: "Read every file instead of trusting the manifest.")
  var hashes = false

  @Flag(name: .customLong("allow-symlinks"), help: "Sign the files that symbolic links point to.")
  var allowsSymbolicLinks = false

  @Flag(name: .long, help: "Replace existing signatures.")
  var overwrite = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let model = try SignedModel(common.location(output))
    let key = try SigningKey(reading: key)
    let signing = try ModelSigning(
      model, key: key,
      to: SignatureFile(signature ?? model.signaturePath, overwriting: overwrite),
      provenance: provenance.map { try SignatureFile($0, overwriting: overwrite) },
      options: ModelSigning.Options(
        threads: common.threadCount, hashesFiles: hashes, followsLinks: allowsSymbolicLinks))
    let summary = try await common.reading("hashing", total: signing.byteCount) {
      try await signing.run(progress: $0)
    }
    if common.json { return try StandardStream.output.write(json: summary, as: .sign) }
    try common.write(report: text(summary))
  }

  private func text(_ summary: SigningSummary) -> String {
    let read = "\(summary.filesRead) of them read (\(ByteSize(bytes: summary.bytesRead).decimal))"
    var text =
      "\(summary.signature.printable): signs \(summary.subject.printable), \(summary.files) files, \(read)"
    text += summary.filesRead < summary.files ? ", the others by their digests in the manifest\n" : "\n"
    text += "  root digest: \(summary.rootDigest)\n"
    text += "  key: \(summary.key.curve.rawValue), SHA-256 of its public half \(summary.key.sha256)\n"
    if let provenance = summary.provenance {
      text += "\(provenance.printable): signs its provenance\n"
    }
    return text
  }
}
