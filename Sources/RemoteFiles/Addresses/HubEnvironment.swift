internal import ByteStreams
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// The hub settings of the environment: the variables of the Hugging Face client, with its defaults.
///
/// Sources: `constants.py` of `huggingface_hub` 2.4.0, `config.py` of `modelscope_hub` 0.5.1.
public struct HubEnvironment: Sendable {
  /// `HF_ENDPOINT`: the hub's address, without a trailing slash. May be a mirror, or a path on a company proxy.
  public var endpoint: String
  /// `HF_TOKEN`, or the content of the file written by `hf auth login`. Never printed.
  public var token: String?
  /// `HF_HUB_CACHE`: where the Hugging Face client keeps its downloads; `nil` if there is no home directory.
  public var cacheDirectory: String?
  /// `HF_HUB_OFFLINE`: nothing is fetched, only the cache is used.
  public var isOffline: Bool
  /// `HF_HUB_DOWNLOAD_TIMEOUT`: the number of seconds that a server may send nothing.
  public var downloadTimeout: Int?
  /// `MODELSCOPE_ENDPOINT`.
  public var modelScopeEndpoint: String
  /// `CURL_CA_BUNDLE` or `SSL_CERT_FILE`: certificates to trust instead of the system's.
  public var certificateFile: String?
  /// The values of `http_proxy`, `https_proxy`, `HTTPS_PROXY`, `all_proxy` and `ALL_PROXY`, which libcurl reads itself.
  var proxies: [String]

  /// Reads the variables.
  ///
  /// - Parameter variable: Returns the value of a variable; `nil` or empty if it is not set.
  public init(_ variable: (String) -> String?) {
    func value(_ names: String...) -> String? {
      names.lazy.compactMap(variable).first { !$0.isEmpty }
    }
    func isTrue(_ name: String) -> Bool {
      ["1", "ON", "YES", "TRUE"].contains(variable(name)?.uppercased() ?? "")
    }
    func expanded(_ path: String) -> String {
      guard path == "~" || path.hasPrefix("~/"), let home = value("HOME") else { return path }
      return home + path.dropFirst()
    }
    func endpoint(_ text: String) -> String {
      var text = text[...]
      while text.last == "/" { text = text.dropLast() }
      return String(text)
    }
    self.endpoint = endpoint(value("HF_ENDPOINT") ?? "https://huggingface.co")
    modelScopeEndpoint = endpoint(
      value("MODELSCOPE_ENDPOINT") ?? value("MODELSCOPE_DOMAIN").map { "https://\($0)" }
        ?? "https://www.modelscope.cn")
    let caches = value("XDG_CACHE_HOME") ?? value("HOME").map { "\($0)/.cache" }
    let home = value("HF_HOME") ?? caches.map { "\($0)/huggingface" }
    cacheDirectory = (value("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") ?? home.map { "\($0)/hub" }).map(
      expanded)
    downloadTimeout = value("HF_HUB_DOWNLOAD_TIMEOUT").flatMap { Int($0) }.flatMap { $0 > 0 ? $0 : nil }
    isOffline = isTrue("HF_HUB_OFFLINE") || isTrue("TRANSFORMERS_OFFLINE")
    certificateFile = value("CURL_CA_BUNDLE", "SSL_CERT_FILE")
    proxies = ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"].compactMap { value($0) }
    if isTrue("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
      token = nil
    } else {
      let file = (value("HF_TOKEN_PATH") ?? home.map { "\($0)/token" }).map(expanded)
      token =
        Self.cleaned(value("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")) ?? Self.cleaned(file.flatMap(Self.text))
    }
  }

  /// The environment of this process.
  public static var current: HubEnvironment {
    HubEnvironment { name in unsafe getenv(name).map { unsafe String(cString: $0) } }
  }

  private static func text(of file: String) -> String? {
    guard let source = try? InputFile(file), source.byteCount <= 4096,
      let bytes = try? source.readBytes(0..<source.byteCount)
    else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// A token without surrounding whitespace. One with anything other than visible ASCII is ignored: it would break the
  /// request headers.
  private static func cleaned(_ token: String?) -> String? {
    guard let token = token?.split(whereSeparator: \.isWhitespace), token.count == 1, let only = token.first,
      only.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
    else { return nil }
    return String(only)
  }
}
