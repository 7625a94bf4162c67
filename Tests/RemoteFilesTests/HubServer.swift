import ByteStreams
import CheckpointTesting
import Foundation
import RemoteFiles
import TensorFormats

/// The server of `Tests/HubServer`, started once for all tests, with a small model.
final class HubServer: Sendable {
  static let program =
    ProcessInfo.processInfo.environment["HUB_SERVER"]
    ?? URL(filePath: #filePath).deletingLastPathComponent().appending(
      path: "../HubServer/.build/release/hub-server"
    )
    .standardizedFileURL.path(percentEncoded: false)

  /// Whether the tests can run. Where `make` has set HUB_SERVER, they must.
  static let isThere =
    ProcessInfo.processInfo.environment["HUB_SERVER"] != nil
    || FileManager.default.isExecutableFile(atPath: program)

  private static let started = Result { try HubServer() }

  static var shared: HubServer { get throws { try started.get() } }

  let hub: Int
  let bodies: Int
  /// The files, by name.
  let files: [String: [UInt8]]
  let commit = "0123456789abcdef0123456789abcdef01234567"
  private let root: TemporaryDirectory
  private let process: Process
  private let input: Pipe

  static let large = "model-00001-of-00002.safetensors"
  static let second = "model-00002-of-00002.safetensors"

  private init() throws {
    root = try TemporaryDirectory()
    let model = root.path("owner/model")
    try FileManager.default.createDirectory(atPath: "\(model)/.sha256", withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: "\(model)/sub dir", withIntermediateDirectories: true)
    var generator = SeededGenerator(seed: 1)
    var files: [String: [UInt8]] = [:]
    for (name, count) in [
      (Self.large, 3_000_000), (Self.second, 700_001), ("weights.gguf", 5000), ("empty.bin", 0),
    ] {
      let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
      files[name] = bytes
      try Data(bytes).write(to: URL(filePath: "\(model)/\(name)"))
      try Data("\(Self.digest(bytes))".utf8).write(to: URL(filePath: "\(model)/.sha256/\(name)"))
    }
    let index =
      #"{"metadata":{},"weight_map":{"a":"\#(Self.large)","b":"\#(Self.second)"}}"#
    for (name, text) in [
      ("config.json", #"{"model_type":"x"}"#), ("model.safetensors.index.json", index),
      ("sub dir/ä 100%.json", #"{"a":1}"#),
    ] {
      files[name] = Array(text.utf8)
      try Data(text.utf8).write(to: URL(filePath: "\(model)/\(name)"))
    }
    self.files = files
    // A model whose file does not have the digest that the hub publishes.
    let broken = root.path("owner/broken")
    try FileManager.default.createDirectory(atPath: "\(broken)/.sha256", withIntermediateDirectories: true)
    try Data(count: 100_000).write(to: URL(filePath: "\(broken)/model.safetensors"))
    try Data("\(Self.digest([1]))".utf8).write(to: URL(filePath: "\(broken)/.sha256/model.safetensors"))
    process = Process()
    process.executableURL = URL(filePath: Self.program)
    process.arguments = [root.path]
    let output = Pipe()
    input = Pipe()
    process.standardOutput = output
    // The server exits when this end of the pipe is closed, at the latest with this process.
    process.standardInput = input
    try process.run()
    var line = ""
    while !line.hasSuffix("\n") {
      let data = output.fileHandleForReading.availableData
      guard !data.isEmpty else {
        throw CheckpointError(.inputOutput, "the server did not start", path: Self.program)
      }
      line += String(decoding: data, as: UTF8.self)
    }
    let ports = line.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
    (hub, bodies) = (ports[0], ports[1])
  }

  private static func digest(_ bytes: [UInt8]) -> Digest {
    var digester = SHA256Digester()
    digester.update(bytes.span.bytes)
    return digester.finalize()
  }

  func digest(of name: String) -> Digest { Self.digest(files[name] ?? []) }

  /// A test's session on this server.
  struct Session {
    let name: String
    let server: HubServer

    var endpoint: String { "http://127.0.0.1:\(server.hub)/s/\(name)" }
    var plain: String { "\(endpoint)/static/owner/model" }

    /// Options with short timeouts and no cache.
    func options(_ more: [String: String] = [:], token: String? = nil) -> RemoteOptions {
      var variables = ["HF_ENDPOINT": endpoint, "HF_HOME": "/nonexistent", "MODELSCOPE_ENDPOINT": endpoint]
      variables["HF_TOKEN"] = token
      variables.merge(more) { $1 }
      let all = variables
      var options = RemoteOptions(environment: HubEnvironment { all[$0] })
      // Only a server told to stall needs a short timeout; any other may be slow on a busy machine.
      options.stallLimit = name.contains("stall") ? .seconds(1) : .seconds(60)
      options.firstDelay = .milliseconds(2)
      options.longestDelay = .milliseconds(10)
      options.connections = 4
      return options
    }

    /// The requests that the server received: host, method, path, range, authorisation.
    func log() throws -> [[String]] {
      var options = options()
      options.attempts = 1
      let directory = try RemoteDirectory("\(endpoint)/_log", options: options)
      return String(decoding: try directory.read("_log", limit: 64 << 20), as: UTF8.self).split(
        separator: "\n"
      )
      .map { $0.split(separator: " ").map(String.init) }
    }
  }

  /// A separate session for each test.
  func session(_ settings: String = "", _ name: String = UUID().uuidString) -> Session {
    Session(name: settings.isEmpty ? name : "\(name)~\(settings)", server: self)
  }
}
