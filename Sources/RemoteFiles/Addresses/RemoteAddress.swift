internal import TensorFormats

/// A remote source that can be given instead of a path: a model on a hub, a file or a directory on a server.
enum RemoteAddress: Hashable, Sendable {
  /// A directory of a repository on the Hugging Face hub or a mirror.
  case huggingFace(Repository)
  /// A directory of a repository on ModelScope.
  case modelScope(Repository)
  /// A file on any server.
  case file(WebAddress)
  /// A directory on a server that does not list its files.
  case directory(WebAddress)

  /// A model on a hub.
  struct Repository: Hashable, Sendable {
    /// Without a trailing slash.
    var endpoint: String
    /// `owner/name`, or just `name` for some old models.
    var name: String
    /// A branch, a tag or a commit; `nil` for the main branch.
    var revision: String?
    /// The path components of the directory.
    var directory: [String] = []
    /// The file named, if any.
    var file: String?
  }

  /// Whether a text is an address rather than a path. `https:/x` is: some tools collapse the slashes of paths.
  static func isRemote(_ text: String) -> Bool {
    let scheme = text.prefix { $0 != ":" }
    guard scheme.endIndex < text.endIndex, text[scheme.endIndex...].hasPrefix("://") else { return false }
    return !scheme.isEmpty && scheme.first?.isLetter == true
      && scheme.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "+-.".contains($0)) }
  }

  /// - Throws: `.invalidRequest`, listing the supported forms.
  init(_ text: String, _ environment: HubEnvironment) throws(CheckpointError) {
    let scheme = text.prefix { $0 != ":" }.lowercased()
    switch scheme {
    case "hf":
      self = .huggingFace(try Self.repository(text, environment.endpoint, mainIs: "main"))
    case "ms":
      self = .modelScope(try Self.repository(text, environment.modelScopeEndpoint, mainIs: "master"))
    case "http", "https":
      let address = try WebAddress(text)
      if let repository = try Self.pasted(address, environment) {
        self = repository
      } else {
        let last = address.path.split(separator: "/", omittingEmptySubsequences: false).last ?? ""
        self = last.isEmpty ? .directory(address) : .file(address)
      }
    default:
      throw CheckpointError(
        .invalidRequest, "the scheme '\(scheme.printable)' is not supported", path: WebAddress.redacted(text),
        remedy: "use hf://OWNER/NAME, ms://OWNER/NAME, https:// or http://")
    }
  }
}

// MARK: - Hubs

extension RemoteAddress {
  /// `hf://owner/name@revision/directory/file.gguf`.
  private static func repository(
    _ text: String, _ endpoint: String, mainIs main: String
  ) throws(CheckpointError) -> Repository {
    func fault(_ message: String) -> CheckpointError {
      CheckpointError(
        .invalidRequest, message, path: text.printable,
        remedy:
          "write \(text.prefix { $0 != ":" })://OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME@REVISION/DIRECTORY"
      )
    }
    guard let scheme = text.range(of: "://") else { throw fault("this is not an address of a model") }
    var parts: [String] = []
    for part in text[scheme.upperBound...].split(separator: "/") {
      guard let decoded = decodedComponent(part, among: parts) else {
        throw fault("this is not an address of a model")
      }
      parts.append(decoded)
    }
    guard let first = parts.first else { throw fault("this is not an address of a model") }
    guard !["datasets", "spaces", "buckets"].contains(first) else {
      throw fault("only models are supported, and this is under '\(first)'")
    }
    var repository = Repository(endpoint: endpoint, name: first)
    var rest = parts.dropFirst()
    // `name@revision` may be the whole address for models without an owner.
    if !first.contains("@"), let second = rest.popFirst() { repository.name += "/\(second)" }
    if let at = repository.name.firstIndex(of: "@") {
      var revision = String(repository.name[repository.name.index(after: at)...])
      repository.name = String(repository.name[..<at])
      // `refs/pr/4` and `refs/convert/gguf` contain slashes, which names cannot.
      if revision == "refs", rest.count >= 2 {
        revision += rest.prefix(2).map { "/\($0)" }.joined()
        rest = rest.dropFirst(2)
      }
      guard !revision.isEmpty else { throw fault("a revision is missing after the '@'") }
      repository.revision = revision
    }
    guard isName(repository.name) else {
      throw fault("'\(repository.name.printable)' is not a valid model name")
    }
    repository.take(Array(rest))
    return repository
  }

  /// The address of a hub's web page, as copied from a browser.
  private static func pasted(
    _ address: WebAddress, _ environment: HubEnvironment
  ) throws(CheckpointError) -> RemoteAddress? {
    var parts: [String] = []
    for part in address.path.split(separator: "/") {
      guard let decoded = decodedComponent(part, among: parts) else { return nil }
      parts.append(decoded)
    }
    let host = address.origin.host
    /// The path components below an endpoint from the environment.
    func below(_ endpoint: String) -> [String]? {
      guard let own = try? WebAddress(endpoint), own.origin == address.origin else { return nil }
      let prefix = own.path.split(separator: "/").map(String.init)
      return parts.starts(with: prefix) ? Array(parts.dropFirst(prefix.count)) : nil
    }
    let endpoint: String
    var isModelScope = false
    if ["modelscope.cn", "www.modelscope.cn", "modelscope.ai", "www.modelscope.ai"].contains(host) {
      (endpoint, isModelScope) = ("https://\(host)", true)
    } else if ["huggingface.co", "www.huggingface.co", "hf.co"].contains(host) {
      endpoint = "https://huggingface.co"
    } else if host == "hf-mirror.com" {
      endpoint = "https://hf-mirror.com"
    } else if let rest = below(environment.modelScopeEndpoint), rest.first == "models" {
      (endpoint, isModelScope, parts) = (environment.modelScopeEndpoint, true, rest)
    } else if let rest = below(environment.endpoint) {
      (endpoint, parts) = (environment.endpoint, rest)
    } else {
      return nil
    }
    if isModelScope {
      // https://modelscope.cn/models/OWNER/NAME[/files|/resolve/REVISION/FILE]
      guard parts.first == "models" else { return nil }
      parts.removeFirst()
    }
    guard parts.count >= 2, !["datasets", "spaces", "api"].contains(parts[0]) else { return nil }
    var repository = Repository(endpoint: endpoint, name: "\(parts[0])/\(parts[1])")
    guard isName(repository.name) else { return nil }
    var rest = Array(parts.dropFirst(2))
    if let verb = rest.first {
      guard ["tree", "blob", "resolve", "raw", "files"].contains(verb) else { return nil }
      rest.removeFirst()
      if verb != "files", !rest.isEmpty {
        let length = rest[0] == "refs" && rest.count >= 3 ? 3 : 1
        repository.revision = rest.prefix(length).joined(separator: "/")
        rest.removeFirst(length)
      }
      repository.take(rest, isFile: verb != "tree" && verb != "files")
    }
    return isModelScope ? .modelScope(repository) : .huggingFace(repository)
  }

  /// A decoded path component; `nil` for one that leads elsewhere. A revision may have encoded slashes.
  private static func decodedComponent(_ text: Substring, among before: [String]) -> String? {
    guard let decoded = WebAddress.decoded(text), !decoded.isEmpty, decoded != ".", decoded != "..",
      !decoded.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F || $0 == "\\" })
    else { return nil }
    let mayHaveSlashes = text.contains("@") || ["tree", "blob", "resolve", "raw"].contains(before.last ?? "")
    guard mayHaveSlashes || !decoded.contains("/") else { return nil }
    return decoded.split(separator: "/").contains(where: { $0 == "." || $0 == ".." }) ? nil : decoded
  }

  private static func isName(_ name: String) -> Bool {
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    return (1...2).contains(parts.count)
      && parts.allSatisfy { part in
        !part.isEmpty && part.utf8.count <= 96 && part != "." && part != ".."
          && part.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
              UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
              true
            default: false
            }
          }
      }
  }
}

extension RemoteAddress.Repository {
  /// Sets the rest of the path: directories, and a file if its name is that of weights or an index.
  fileprivate mutating func take(_ parts: [String], isFile: Bool? = nil) {
    directory = parts
    guard let last = parts.last else { return }
    let looksLikeFile = [".safetensors", ".gguf", ".index.json", ".json"].contains { last.hasSuffix($0) }
    if isFile ?? looksLikeFile {
      directory.removeLast()
      file = last
    }
  }

  /// An address below the endpoint.
  func address(_ text: String) throws(CheckpointError) -> WebAddress { try WebAddress("\(endpoint)/\(text)") }
}
