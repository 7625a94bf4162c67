public import TensorFormats

/// What a file really holds that cannot be read as what it should be, recognised by its first bytes.
///
/// Downloads go wrong in a few well-known ways, and each leaves a file about which a parser has nothing useful to
/// say: "byte 0: expected an object" is true of a Git LFS pointer and helps nobody.
public enum ForeignContent: Hashable, Sendable {
  /// An empty file.
  case empty
  /// Space that was allocated and never filled.
  case zeros
  /// A Git LFS pointer whose file was not fetched, with the size of that file.
  case gitLFSPointer(byteCount: Int?)
  /// A git-annex pointer whose content is elsewhere.
  case gitAnnexPointer
  /// HTML: a page for a browser.
  case webPage
  /// XML: the error response of an object store.
  case xml
  /// A short text or JSON object with a server's error message.
  case serverMessage(String)
  /// Text with two bytes per character.
  case utf16
  /// A file of another well-known format: its name with an article.
  case format(String)

  /// What a file was opened as.
  public enum Expected: String, Sendable {
    case safetensors = "a safetensors file"
    case gguf = "a GGUF file"
    case json = "a JSON document"
    case importanceMatrix = "an importance matrix"
  }

  /// How many bytes are examined.
  public static let prefixByteCount = 1024
}

// MARK: - Recognising

extension ForeignContent {
  /// Recognises a file by its first bytes.
  ///
  /// Meant for files that could not be read: a match is not proof that a sound file is unsound.
  ///
  /// - Parameters:
  ///   - prefix: The first ``prefixByteCount`` bytes, or all of a shorter file.
  ///   - byteCount: The size of the file.
  ///   - expected: What it was opened as.
  /// - Returns: `nil` for content that is as expected or unknown.
  /// - Complexity: O(1).
  public init?(prefix: [UInt8], byteCount: Int, expected: Expected) {
    guard byteCount > 0, !prefix.isEmpty else {
      self = .empty
      return
    }
    func begins(_ text: StaticString) -> Bool { Self.begins(prefix, text) }
    if expected == .safetensors, Self.isSafetensors(prefix, byteCount) { return nil }
    if begins("version https://git-lfs.github.com/spec/") || begins("version https://hawser.github.com/spec/")
    {
      self = .gitLFSPointer(byteCount: Self.pointerSize(prefix))
    } else if begins("/annex/objects/") {
      self = .gitAnnexPointer
    } else if let markup = Self.markup(prefix) {
      self = markup
    } else if let format = Self.format(prefix, byteCount, expected) {
      self = .format(format)
    } else if let message = Self.message(prefix, byteCount, expected) {
      self = .serverMessage(message)
    } else if expected != .json,
      prefix.first(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }) == UInt8(ascii: "{")
    {
      self = .format("a JSON document")
    } else if expected == .json,
      prefix.starts(with: [0xFF, 0xFE]) || prefix.starts(with: [0xFE, 0xFF])
    {
      self = .utf16
    } else if prefix.count >= min(64, byteCount), prefix.allSatisfy({ $0 == 0 }) {
      self = .zeros
    } else {
      return nil
    }
  }

  private static func begins(_ prefix: [UInt8], _ text: StaticString) -> Bool {
    text.withUTF8Buffer { text in
      guard prefix.count >= text.count else { return false }
      return text.indices.allSatisfy { unsafe prefix[$0] == text[$0] }
    }
  }

  /// Eight bytes of length that the file can hold, and a JSON object after them.
  private static func isSafetensors(_ prefix: [UInt8], _ byteCount: Int) -> Bool {
    guard prefix.count > 8, prefix[8] == UInt8(ascii: "{") else { return false }
    let length = prefix[..<8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return length <= UInt64(byteCount)
  }

  /// The `size` line of a pointer.
  private static func pointerSize(_ prefix: [UInt8]) -> Int? {
    String(decoding: prefix, as: UTF8.self).split(separator: "\n").lazy.compactMap { line in
      line.hasPrefix("size ") ? Int(line.dropFirst(5)) : nil
    }.first
  }

  private static func markup(_ prefix: [UInt8]) -> ForeignContent? {
    var start = prefix[...]
    if start.starts(with: [0xEF, 0xBB, 0xBF]) { start = start.dropFirst(3) }
    start = start.drop { [0x20, 0x09, 0x0A, 0x0D].contains($0) }
    guard start.first == UInt8(ascii: "<") else { return nil }
    let text = String(decoding: start.prefix(512), as: UTF8.self).lowercased()
    if text.hasPrefix("<?xml") { return text.contains("<html") ? .webPage : .xml }
    return ["<!doctype", "<html", "<head", "<body", "<!--"].contains(where: text.hasPrefix) ? .webPage : nil
  }

  private static func format(_ prefix: [UInt8], _ byteCount: Int, _ expected: Expected) -> String? {
    let formats: [([UInt8], String)] = [
      (Array("GGUF".utf8), "a GGUF file"),
      ([0x50, 0x4B, 0x03, 0x04], "a ZIP archive, as PyTorch's .pt and .bin are"),
      ([0x80, 0x02, 0x8A], "a PyTorch pickle"), ([0x1F, 0x8B, 0x08], "gzip-compressed"),
      ([0x28, 0xB5, 0x2F, 0xFD], "zstd-compressed"), ([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00], "xz-compressed"),
      (Array("BZh".utf8), "bzip2-compressed"), ([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], "a 7z archive"),
      ([0x93] + Array("NUMPY".utf8), "a NumPy array"),
      ([0x89, 0x48, 0x44, 0x46], "an HDF5 file"),
    ]
    if let found = formats.first(where: { prefix.starts(with: $0.0) }) {
      // Both are written as GGUF.
      let isExpected = found.1 == "a GGUF file" && (expected == .gguf || expected == .importanceMatrix)
      return isExpected ? nil : found.1
    }
    if expected != .safetensors, isSafetensors(prefix, byteCount) { return "a safetensors file" }
    return nil
  }

  /// Text that makes up the whole file. A JSON document counts only if none is expected, or if its first key is one
  /// that servers report errors under.
  private static func message(_ prefix: [UInt8], _ byteCount: Int, _ expected: Expected) -> String? {
    guard byteCount <= prefixByteCount, prefix.count == byteCount,
      let text = String(validating: prefix, as: UTF8.self),
      text.unicodeScalars.allSatisfy({ $0.value >= 0x20 || $0 == "\n" || $0 == "\r" || $0 == "\t" })
    else { return nil }
    let words = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard let first = words.utf8.first else { return nil }
    switch first {
    case UInt8(ascii: "{"):
      let key = words.dropFirst().drop { $0 == " " || $0 == "\"" }.prefix { $0 != "\"" }.lowercased()
      let isError = ["error", "errors", "message", "detail", "code", "statuscode", "status"].contains(key)
      return isError ? words : nil
    case UInt8(ascii: "["), UInt8(ascii: "\""): return nil
    default:
      // A sentence, not the beginning of something else.
      return words.utf8.count < 8 || words.contains("{") ? nil : words
    }
  }
}

// MARK: - Messages

extension ForeignContent {
  /// What it is: a phrase to follow the file's name.
  public func description(insteadOf expected: Expected) -> String {
    let wanted = expected.rawValue
    return switch self {
    case .empty: "the file is empty, and not \(wanted)"
    case .zeros: "the file starts with zeros, and is not \(wanted)"
    case .gitLFSPointer(let size):
      "this is a Git LFS pointer, not the file\(size.map { " of \($0) bytes" } ?? "") that it stands for"
    case .gitAnnexPointer: "this is a git-annex pointer, not the file that it stands for"
    case .webPage: "this is an HTML page, not \(wanted)"
    case .xml: "this is an XML document, not \(wanted)"
    case .serverMessage(let text):
      "this is the text '\(String(text.prefix(160)).printable)', not \(wanted)"
    case .utf16: "this is text in UTF-16, not \(wanted) in UTF-8"
    case .format(let name): "the file is \(name), not \(wanted)"
    }
  }

  /// The remedy.
  public var remedy: String {
    switch self {
    case .empty: "the file is empty: download it again"
    case .zeros:
      "the file starts with zeros, as after an aborted download: download it again"
    case .gitLFSPointer: "run `git lfs pull` in its repository, or download the file itself"
    case .gitAnnexPointer: "run `git annex get` on it, or download the file itself"
    case .webPage, .xml, .serverMessage:
      "a server's answer was saved in the file's place: download it again, after `hf auth login` if access to the "
        + "repository is restricted"
    case .utf16: "save it as UTF-8"
    case .format("a JSON document"):
      "name the weights, their index or their directory, or download the file again"
    case .format(let name):
      name.hasSuffix("compressed") || name.hasSuffix("archive")
        ? "unpack it first" : "rename it to match its format, or put the right file in its place"
    }
  }
}

extension CheckpointError {
  /// The same error, or a more helpful one if the file is something else altogether: a pointer, a web page, an archive.
  ///
  /// - Parameters:
  ///   - source: The file that the error is about.
  ///   - expected: What it was opened as.
  /// - Complexity: Reads a kilobyte.
  public func explained(by source: some ByteSource, as expected: ForeignContent.Expected) -> CheckpointError {
    guard let prefix = try? source.readBytes(0..<min(ForeignContent.prefixByteCount, source.byteCount)) else {
      return self
    }
    return explained(prefix: prefix, byteCount: source.byteCount, as: expected).at(path: source.path)
  }

  /// The same for a file whose first bytes have been read.
  public func explained(
    prefix: [UInt8], byteCount: Int, as expected: ForeignContent.Expected
  ) -> CheckpointError {
    guard code != .notFound, code != .inputOutput,
      let content = ForeignContent(
        prefix: Array(prefix.prefix(ForeignContent.prefixByteCount)), byteCount: byteCount, expected: expected
      )
    else { return self }
    guard content != .empty, content != .zeros else {
      // Errors about missing bytes are clear enough.
      var copy = self
      copy.remedy = content.remedy
      return copy
    }
    return CheckpointError(
      .malformed, content.description(insteadOf: expected), path: path, remedy: content.remedy)
  }
}
