import ByteStreams
import CheckpointTesting
import Foundation
import RemoteFiles
import TensorFormats
import Testing

@Suite(
  .enabled(if: HubServer.isThere, "build it: swift build -c release --package-path Tests/HubServer"),
  .timeLimit(.minutes(5)))
struct HubTests {
  let server: HubServer

  init() throws { server = try HubServer.shared }

  @Test func listsAModelAndReadsIt() throws {
    let session = server.session()
    let directory = try RemoteDirectory("hf://owner/model", options: session.options())
    #expect(directory.path == "hf://owner/model@\(server.commit)")
    #expect(directory.commit == server.commit)
    #expect(
      try directory.names() == [
        "config.json", "empty.bin", HubServer.large, HubServer.second, "model.safetensors.index.json",
        "weights.gguf",
      ])
    for name in try directory.names() {
      let source = try directory.open(name)
      #expect(source.byteCount == server.files[name]?.count)
      #expect(try source.readBytes(0..<source.byteCount) == server.files[name], "\(name)")
    }
    let large = try #require(directory.files.first { $0.name == HubServer.large })
    #expect(large.sha256 == server.digest(of: HubServer.large))
    #expect(directory.files.first { $0.name == "config.json" }?.sha256 == nil)
  }

  @Test func laterRequestsUseThePinnedCommit() throws {
    let session = server.session()
    let directory = try RemoteDirectory("hf://owner/model@main", options: session.options())
    _ = try directory.read("config.json", limit: 64 << 20)
    _ = try directory.open(HubServer.large).readBytes(100..<200)
    let resolves = try session.log().map { $0[2] }.filter { $0.contains("/resolve/") }
    #expect(!resolves.isEmpty && resolves.allSatisfy { $0.contains("/resolve/\(server.commit)/") })
  }

  @Test func oneSignatureServesManyRanges() throws {
    let session = server.session()
    let source = try RemoteDirectory("hf://owner/model", options: session.options()).open(HubServer.large)
    for start in stride(from: 300_000, to: 2_900_000, by: 400_000) {
      #expect(
        try source.readBytes(start..<start + 1000).elementsEqual(
          server.files[HubServer.large]![start..<start + 1000]))
    }
    let log = try session.log()
    #expect(log.filter { $0[1] == "HEAD" }.count == 1)
    #expect(log.filter { $0[0] == "cdn" }.count == 7)
    // Read-ahead fetches what follows, and no more than that.
    #expect(log.filter { $0[0] == "cdn" }.map { $0[3] }.first == "bytes=300000-431071")
  }

  @Test func manySmallReadsAreFewRequests() async throws {
    let session = server.session()
    let source = try RemoteDirectory("hf://owner/model", options: session.options()).open(HubServer.large)
    let content = try #require(server.files[HubServer.large])
    // Two readers that move forward in different places, and one that jumps.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for start in [400_000, 1_900_000] {
        group.addTask {
          for offset in stride(from: start, to: start + 900_000, by: 700) {
            let bytes = try source.readBytes(offset..<offset + 900)
            #expect(bytes.elementsEqual(content[offset..<offset + 900]))
          }
        }
      }
      group.addTask {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<200 {
          let start = Int.random(in: 0..<source.byteCount - 5000, using: &generator)
          let bytes = try source.readBytes(start..<start + 5000)
          #expect(bytes.elementsEqual(content[start..<start + 5000]))
        }
      }
      try await group.waitForAll()
    }
    let requests = try session.log().filter { $0[0] == "cdn" }.count
    #expect(requests < 60, "2,700 reads in \(requests) requests")
  }

  @Test func readingBackwardsGivesTheRightBytes() throws {
    let session = server.session()
    var options = session.options()
    options.readAheadByteCount = 0
    let source = try RemoteDirectory("hf://owner/model", options: options).open(HubServer.large)
    let content = try #require(server.files[HubServer.large])
    for start in stride(from: source.byteCount - 2000, to: 300_000, by: -50_000) {
      #expect(try source.readBytes(start..<start + 2000).elementsEqual(content[start..<start + 2000]))
    }
  }

  @Test func aReadContinuesAtTheSameByteWithARenewedSignature() throws {
    let session = server.session("uses=2~faults=drop:100000,drop:100000,ok,expired,drop:70000")
    let source = try RemoteDirectory("hf://owner/model", options: session.options()).open(HubServer.large)
    #expect(try source.readBytes(0..<source.byteCount) == server.files[HubServer.large])
    let log = try session.log()
    #expect(log.filter { $0[1] == "HEAD" }.count >= 2)
    // Bytes received before the cut are not requested again.
    let starts = log.filter { $0[0] == "cdn" }.compactMap { Int($0[3].dropFirst(6).prefix { $0 != "-" }) }
    #expect(starts == starts.sorted() && (starts.last ?? 0) > 0)
  }

  @Test func theTokenIsSentToTheHubOnly() throws {
    let secret = "hf_secretsecretsecret"
    let session = server.session("token=\(secret)")
    let directory = try RemoteDirectory("hf://owner/model", options: session.options(token: secret))
    _ = try directory.open(HubServer.large).readBytes(0..<3_000_000)
    _ = try directory.read("config.json", limit: 64 << 20)
    let log = try session.log()
    #expect(log.contains { $0[0] == "cdn" })
    for line in log { #expect(line[0] == "cdn" ? line.last == "-" : line.last == secret, "\(line)") }
    for token in [nil, "hf_wrongwrongwrong"] {
      let error = #expect(throws: CheckpointError.self) {
        try RemoteDirectory("hf://owner/model", options: session.options(token: token))
      }
      #expect(error?.code == .notFound)
      #expect(error?.message.contains("Access to model is restricted") == true)
      #expect(error?.description.contains("hf_") == false)
      #expect(error?.remedy?.contains("HF_TOKEN") == (token == nil))
    }
  }

  @Test func renamedRepositoriesAreFollowed() throws {
    let session = server.session()
    let directory = try RemoteDirectory("hf://old/name", options: session.options())
    #expect(try directory.open(HubServer.second).readBytes(0..<700_001) == server.files[HubServer.second])
  }

  @Test func listsComeInPages() throws {
    let session = server.session("page=2")
    let directory = try RemoteDirectory("hf://owner/model", options: session.options())
    #expect(directory.files.count == 6)
    #expect(try session.log().filter { $0[2].contains("/tree/") }.count == 4)
  }

  @Test func aCircularListIsRefused() throws {
    let session = server.session("page=0")
    let error = #expect(throws: CheckpointError.self) {
      try RemoteDirectory("hf://owner/model", options: session.options())
    }
    #expect(error?.code == .unsupported && error?.message.contains("does not end") == true)
  }

  @Test func aMirrorWithoutSizesIsRead() throws {
    let session = server.session("tree=0")
    let directory = try RemoteDirectory("hf://owner/model", options: session.options())
    #expect(directory.files.allSatisfy { $0.byteCount == nil })
    let source = try directory.open(HubServer.second)
    #expect(source.byteCount == 700_001)
    #expect(
      try source.readBytes(650_000..<700_001).elementsEqual(server.files[HubServer.second]![650_000...]))
  }

  @Test(arguments: ["hf://owner/model@main/sub%20dir", "/owner/model/tree/main/sub%20dir"])
  func directoriesAndNamesArePercentEncoded(_ address: String) throws {
    let session = server.session()
    let directory = try RemoteDirectory(
      address.hasPrefix("/") ? session.endpoint + address : address, options: session.options())
    #expect(try directory.names() == ["ä 100%.json"])
    #expect(try directory.read("ä 100%.json", limit: 64 << 20) == Array(#"{"a":1}"#.utf8))
    #expect(directory.path == "hf://owner/model@\(server.commit)/sub dir")
  }

  @Test func aPastedFileAddressOpensItsModel() throws {
    let session = server.session()
    for verb in ["blob", "resolve", "raw"] {
      let directory = try RemoteDirectory(
        "\(session.endpoint)/owner/model/\(verb)/main/weights.gguf?download=true", options: session.options())
      #expect(directory.file == "weights.gguf")
      #expect(try directory.read("weights.gguf", limit: 64 << 20) == server.files["weights.gguf"])
      #expect(try directory.read("config.json", limit: 64 << 20) == server.files["config.json"])
    }
  }

  @Test func missingModelsAndFilesAreReported() throws {
    let session = server.session()
    for address in ["hf://owner/nothing", "hf://owner/model@no-such-branch", "hf://owner/model@main/nowhere"]
    {
      let error = #expect(throws: CheckpointError.self) {
        _ = try RemoteDirectory(address, options: session.options())
      }
      #expect(error?.code == .notFound, "\(address)")
    }
    let directory = try RemoteDirectory("hf://owner/model", options: session.options())
    for name in ["nothing", "../config.json", "sub dir/ä 100%.json", ""] {
      #expect(throws: CheckpointError.self) { try directory.open(name) }
    }
  }

  @Test func headersOfManyShardsAreFetchedConcurrently() throws {
    let session = server.session()
    let directory = try RemoteDirectory("hf://owner/model", options: session.options())
    let names = [HubServer.large, HubServer.second, "weights.gguf"]
    let sources = try directory.openAll(names)
    let before = try session.log().count
    for (name, source) in zip(names, sources) {
      #expect(try source.readBytes(0..<8).elementsEqual(server.files[name]![..<8]))
      #expect(try source.readBytes(8..<4000).elementsEqual(server.files[name]![8..<4000]))
    }
    #expect(try session.log().count == before)
    #expect(try session.log().filter { $0[0] == "cdn" }.count == 3)
  }

  @Test func theHubsCacheIsUsed() throws {
    let session = server.session()
    let home = try TemporaryDirectory()
    let root = home.path("hub/models--owner--model")
    let snapshot = "\(root)/snapshots/\(server.commit)"
    for directory in ["\(root)/blobs", snapshot, "\(root)/refs"] {
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }
    let digest = server.digest(of: HubServer.large)
    try Data(server.files[HubServer.large]!).write(to: URL(filePath: "\(root)/blobs/\(digest)"))
    try FileManager.default.createSymbolicLink(
      atPath: "\(snapshot)/\(HubServer.large)", withDestinationPath: "../../blobs/\(digest)")
    // One file that is too short, and one that links to another blob.
    try Data([1, 2]).write(to: URL(filePath: "\(snapshot)/\(HubServer.second)"))
    try Data(count: 5000).write(to: URL(filePath: "\(root)/blobs/other"))
    try FileManager.default.createSymbolicLink(
      atPath: "\(snapshot)/weights.gguf", withDestinationPath: "../../blobs/other")
    let options = session.options(["HF_HOME": home.path])
    let directory = try RemoteDirectory("hf://owner/model", options: options)
    for name in [HubServer.large, HubServer.second, "weights.gguf"] {
      let source = try directory.open(name)
      #expect(source is InputFile == (name == HubServer.large))
      #expect(try source.readBytes(0..<source.byteCount) == server.files[name])
    }
    #expect(try !session.log().contains { $0[2].contains(HubServer.large) })

    let offline = session.options(["HF_HOME": home.path, "HF_HUB_OFFLINE": "1"])
    #expect(throws: CheckpointError.self) { try RemoteDirectory("hf://owner/model", options: offline) }
    try Data(server.commit.utf8).write(to: URL(filePath: "\(root)/refs/main"))
    let before = try session.log().count
    let local = try RemoteDirectory("hf://owner/model", options: offline)
    #expect(
      try local.open(HubServer.large).readBytes(0..<9).elementsEqual(server.files[HubServer.large]![..<9]))
    #expect(throws: CheckpointError.self) { try RemoteDirectory(session.plain + "/", options: offline) }
    #expect(try session.log().count == before)
  }

  @Test func modelScopeIsListedAndRead() throws {
    let session = server.session("uses=2~faults=drop:100000,drop:9,drop:9")
    let directory = try RemoteDirectory("ms://owner/model", options: session.options())
    #expect(directory.path == "ms://owner/model@master")
    #expect(try directory.names().contains(HubServer.large))
    #expect(
      directory.files.first { $0.name == HubServer.large }?.sha256 == server.digest(of: HubServer.large))
    for name in try directory.names() {
      let source = try directory.open(name)
      #expect(try source.readBytes(0..<source.byteCount) == server.files[name], "\(name)")
    }
    #expect(
      try RemoteDirectory("\(session.endpoint)/models/owner/model/files", options: session.options()).files
        == directory.files)
    let error = #expect(throws: CheckpointError.self) {
      try RemoteDirectory("ms://owner/nothing", options: session.options())
    }
    #expect(error?.code == .notFound && error?.message.contains("no such model") == true)
  }

  @Test func aPublicHubMayNotRedirectToAPrivateAddress() throws {
    let session = server.session()
    var options = session.options()
    options.takesEveryOriginForPublic = true
    let source = try RemoteDirectory("hf://owner/model", options: options).open(HubServer.large)
    let error = #expect(throws: CheckpointError.self) { try source.readBytes(0..<10) }
    #expect(error?.message.contains("private network") == true)
    #expect(error?.description.contains("Signature") == false)
    #expect(try !session.log().contains { $0[0] == "cdn" })
    options.allowsPrivateRedirections = true
    let allowed = try RemoteDirectory("hf://owner/model", options: options).open(HubServer.large)
    #expect(try allowed.readBytes(0..<10).elementsEqual(server.files[HubServer.large]![..<10]))
  }

  @Test func temporaryHubErrorsAreRetriedAndOthersReported() throws {
    let passing = server.session("hub=close,status:503,quota:0,ok,status:502,close,status:429")
    let directory = try RemoteDirectory("hf://owner/model", options: passing.options())
    #expect(try directory.read("weights.gguf", limit: 64 << 20) == server.files["weights.gguf"])
    for (fault, words) in [
      ("page", "HTML"), ("status:500", "is temporarily unavailable"), ("quota:4000", "pause of 4000 s"),
    ] {
      let session = server.session("hub=" + Array(repeating: fault, count: 9).joined(separator: ","))
      let error = #expect(throws: CheckpointError.self) {
        try RemoteDirectory("hf://owner/model", options: session.options())
      }
      #expect(error?.message.contains(words) == true, "\(error?.description ?? "")")
    }
  }
}
