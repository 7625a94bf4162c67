internal import ByteStreams
public import Checkpoint
internal import ShardPlanning
public import TensorFormats

/// The SHA-256 digests that were published for a checkpoint's files, as `sha256sum` lists them.
///
/// Only weight files are compared: their bytes are read anyway. Lines about other files are ignored.
public struct ExpectedDigests: Sendable {
  /// Where the list is, for messages.
  public let path: String
  private let digests: [String: Digest]

  /// Reads a list.
  ///
  /// - Throws: `.notFound`, `.inputOutput`, or `.malformed` with the line.
  public init(path: String) throws(CheckpointError) {
    let file = try InputFile(path)
    guard file.byteCount <= OutputMarkers.largestTextFile else {
      throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for a list", path: path)
    }
    try self.init(file.readBytes(0..<file.byteCount), path: path)
  }

  /// Reads a list in memory. Each line is a digest in hexadecimal, a blank, a blank or `*`, and a name; a
  /// line that begins with a backslash has backslashes and line breaks in its name escaped.
  ///
  /// - Throws: `.malformed` with the line.
  public init(_ text: [UInt8], path: String) throws(CheckpointError) {
    var digests: [String: Digest] = [:]
    for (index, line) in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .enumerated()
    {
      let trimmed = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      guard !trimmed.isEmpty else { continue }
      guard let (name, digest) = Self.parse(trimmed) else {
        throw CheckpointError(
          .malformed, "line \(index + 1) is not '<SHA-256>  <name>'", path: path,
          remedy: "write the list as sha256sum does")
      }
      guard digests.updateValue(digest, forKey: name) ?? digest == digest else {
        throw CheckpointError(
          .malformed, "line \(index + 1) contradicts an earlier one about \(name.printable)", path: path)
      }
    }
    self.path = path
    self.digests = digests
  }

  /// The digests that a partition set's manifest has of its files, so that parts of different conversions are not
  /// combined.
  ///
  /// - Returns: `nil` for what is not a set, or has no manifest.
  /// - Throws: What is wrong with a manifest that is there.
  public init?(ofSet checkpoint: Checkpoint) throws(CheckpointError) {
    guard !checkpoint.parts.isEmpty, try checkpoint.store.kind(of: OutputMarkers.manifest) != nil else {
      return nil
    }
    let names = Set(checkpoint.files.map(\.name))
    var digests: [String: Digest] = [:]
    for record in try Manifest.read(in: checkpoint.store).files where names.contains(record.path) {
      digests[record.path] = Digest(hexadecimal: record.sha256)
    }
    guard !digests.isEmpty else { return nil }
    path = checkpoint.store.path(of: OutputMarkers.manifest)
    self.digests = digests
  }

  /// The digests that were published with the source, by a hub or in an archive's manifest.
  ///
  /// - Returns: `nil` if there were none.
  public init?(publishedFor checkpoint: Checkpoint) {
    var digests: [String: Digest] = [:]
    for file in checkpoint.files where !file.isDerived {
      if let digest = checkpoint.store.sha256(of: file.name) { digests[file.name] = digest }
    }
    guard !digests.isEmpty else { return nil }
    path = checkpoint.store.path
    self.digests = digests
  }

  private static func parse(_ line: ArraySlice<UInt8>) -> (String, Digest)? {
    let backslash = UInt8(ascii: "\\")
    let escaped = line.first == backslash
    let body = escaped ? line.dropFirst() : line
    let separator = body.dropFirst(64).prefix(2)
    guard separator.first == UInt8(ascii: " "), let mark = separator.last, separator.count == 2,
      mark == UInt8(ascii: " ") || mark == UInt8(ascii: "*"),
      let digest = Digest(hexadecimal: String(decoding: body.prefix(64), as: UTF8.self))
    else { return nil }
    var name: [UInt8] = []
    var rest = body.dropFirst(66)
    while let byte = rest.popFirst() {
      guard escaped, byte == backslash else {
        name.append(byte)
        continue
      }
      switch rest.popFirst() {
      case backslash: name.append(backslash)
      case UInt8(ascii: "n"): name.append(UInt8(ascii: "\n"))
      case UInt8(ascii: "r"): name.append(UInt8(ascii: "\r"))
      default: return nil
      }
    }
    if name.starts(with: "./".utf8) { name.removeFirst(2) }
    guard !name.isEmpty, let text = String(validating: name, as: UTF8.self) else { return nil }
    return (text, digest)
  }
}

// MARK: - Comparing

extension ExpectedDigests {
  /// Checks before the work that the list matches this source.
  ///
  /// - Throws: `.notFound` if it names a missing weight file, or none of the existing ones.
  func check(_ source: ShardPlan.Source) throws(CheckpointError) {
    let names = Set(source.files.filter { !$0.isDerived }.map(\.path))
    let missing = digests.keys.filter {
      !names.contains($0) && ($0.hasSuffix(".safetensors") || $0.hasSuffix(".gguf"))
    }
    if let name = missing.min() {
      throw CheckpointError(.notFound, "names \(name.printable), which the source does not have", path: path)
    }
    guard digests.keys.contains(where: names.contains) else {
      throw CheckpointError(.notFound, "names none of the source's weight files", path: path)
    }
  }

  /// Compares the digest of one file.
  ///
  /// - Throws: `.digestMismatch`.
  func check(_ name: String, _ digest: Digest, path: String) throws(CheckpointError) {
    guard let expected = digests[name], expected != digest else { return }
    throw CheckpointError(
      .digestMismatch, "the SHA-256 is \(digest), expected \(expected)", path: path,
      remedy: "the file is damaged or another version: download it again")
  }

  /// Compares the digests of the source in a manifest.
  ///
  /// - Throws: `.digestMismatch`.
  func check(_ manifest: Manifest, of store: any ByteStore) throws(CheckpointError) {
    for file in manifest.sources {
      guard let digest = Digest(hexadecimal: file.sha256) else { continue }
      try check(file.path, digest, path: store.path(of: file.path))
    }
  }
}
