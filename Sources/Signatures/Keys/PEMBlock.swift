internal import ByteStreams
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// One block of a PEM file (RFC 7468): its label and its bytes.
struct PEMBlock: Hashable, Sendable {
  /// `PUBLIC KEY`, for instance.
  let label: String
  /// Whether it has the header lines of OpenSSL's old encryption, so that its bytes are not a key.
  let isEncrypted: Bool
  let bytes: [UInt8]

  /// The largest key file that is read. Real ones have less than a kilobyte.
  static let largestFile = 1 << 16

  /// Reads a file and parses a key from its text.
  ///
  /// - Throws: `.notFound`, `.inputOutput`, `.malformed` for a file that is too long; what `key` throws.
  static func read<Key>(
    _ path: String, _ key: ([UInt8]) throws(CheckpointError) -> Key
  ) throws(CheckpointError) -> Key {
    let (directory, name) = splitPath(path)
    let text = try DirectoryStore(directory).read(name, limit: largestFile, as: "a key")
    do throws(CheckpointError) {
      return try key(text)
    } catch {
      throw error.at(path: path)
    }
  }

  private static let opening = "-----BEGIN "
  private static let closing = "-----END "
  private static let ending = "-----"

  /// The blocks of a file in order. Text between them is ignored, as in OpenSSL, which writes notes there.
  ///
  /// - Throws: `.malformed` if there is no block, or one that does not end or is not base64.
  static func blocks(in text: [UInt8]) throws(CheckpointError) -> [PEMBlock] {
    var blocks: [PEMBlock] = []
    var open: (label: String, base64: String, isEncrypted: Bool)?
    for line in text.split(whereSeparator: { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }) {
      let line = trimmed(String(decoding: line, as: UTF8.self))
      guard let block = open else {
        if let label = label(of: line, after: opening) { open = (label, "", false) }
        continue
      }
      if line.hasPrefix(closing) {
        guard label(of: line, after: closing) == block.label, let bytes = Data(base64Encoded: block.base64)
        else { throw fault("the block '\(block.label.printable)' is damaged") }
        blocks.append(PEMBlock(label: block.label, isEncrypted: block.isEncrypted, bytes: Array(bytes)))
        open = nil
      } else if line.contains(":") {
        // `Proc-Type: 4,ENCRYPTED` and `DEK-Info: ...`; base64 has no colon.
        open?.isEncrypted = true
      } else if !block.isEncrypted {
        open?.base64 += line
      }
    }
    if let open { throw fault("the block '\(open.label.printable)' does not end") }
    guard !blocks.isEmpty else { throw fault("there is no '\(opening)' line") }
    return blocks
  }

  private static func label(of line: String, after start: String) -> String? {
    guard line.hasPrefix(start), line.hasSuffix(ending),
      line.utf8.count >= start.utf8.count + ending.utf8.count
    else { return nil }
    return String(line.dropFirst(start.count).dropLast(ending.count))
  }

  private static func trimmed(_ line: String) -> String {
    String(line.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
  }

  private static func fault(_ message: String) -> CheckpointError {
    CheckpointError(.malformed, "is not a PEM file: \(message)")
  }
}
