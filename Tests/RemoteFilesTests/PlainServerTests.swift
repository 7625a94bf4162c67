import ByteStreams
import Foundation
import RemoteFiles
import TensorFormats
import Testing

@Suite(
  .enabled(if: HubServer.isThere, "build it: swift build -c release --package-path Tests/HubServer"),
  .timeLimit(.minutes(5)))
struct PlainServerTests {
  let server: HubServer

  init() throws { server = try HubServer.shared }

  private func read(_ settings: String, _ name: String = HubServer.second) throws -> [UInt8] {
    let session = server.session(settings)
    let directory = try RemoteDirectory("\(session.plain)/\(name)", options: session.options())
    let source = try directory.open(name)
    // Not from the start, so that the range matters.
    let start = min(1000, source.byteCount)
    let rest = try source.readBytes(start..<source.byteCount)
    return try source.readBytes(0..<start) + rest
  }

  @Test func aDirectoryIsListedByItsIndex() throws {
    let session = server.session()
    let directory = try RemoteDirectory("\(session.plain)/", options: session.options())
    #expect(
      try directory.names() == [
        "config.json", HubServer.large, HubServer.second, "model.safetensors.index.json",
      ])
    #expect(try directory.read("config.json", limit: 64 << 20) == server.files["config.json"])
    #expect(try directory.open(HubServer.large).readBytes(0..<3_000_000) == server.files[HubServer.large])
    let error = #expect(throws: CheckpointError.self) {
      try RemoteDirectory("\(session.plain)/sub%20dir/", options: session.options())
    }
    #expect(error?.code == .notFound && error?.remedy?.contains("name one file") == true)
  }

  @Test(arguments: [
    "", "faults=drop:100,drop:70000,drop:300000", "faults=stall:0,ok,stall:1000", "faults=close,close",
    "faults=status:503,status:500,status:429,status:408,status:502", "faults=ok,trim:50000,trim:0",
    "faults=ok,chunked", "faults=ok,shorter:100000,shorter:5", "faults=ok,whole",
    "faults=ok,later:0,quota:0,laterDate:-9000",
    "head=0", "head=0~faults=drop:0,whole",
  ])
  func temporaryFaultsAreRetried(_ settings: String) throws {
    #expect(try read(settings) == server.files[HubServer.second])
  }

  @Test(arguments: [
    ("faults=ok,wrongRange", "instead of"), ("faults=ok,wrongLabel", "instead of"),
    ("faults=ok,noLabel", "Content-Range"), ("faults=ok,longer", "more bytes than"),
    ("faults=ok,page", "HTML"),
    ("faults=page", "HTML"), ("faults=ok,gzip", "compressed"), ("faults=ok,status:404", "no such file"),
    ("faults=ok,status:403", "refuses"), ("faults=ok,status:418", "unexpected response"),
    ("faults=loop", "redirections"),
    ("faults=ok,loop", "redirections"), ("faults=ok,toFile", "http"), ("faults=ok,toFTP", "http"),
    ("faults=ok,longHead", "too large"), ("faults=ok,later:10000", "pause"),
    ("faults=ok,quota:10000", "pause"), ("faults=ok,laterDate:90000", "pause"),
    (
      "faults=ok,shorter:690000,shorter:690000,shorter:600000,shorter:500000,shorter:400000,shorter:300000",
      "in a row"
    ),
    ("faults=ok,status:503,status:503,status:503,status:503,status:503,status:503,status:503", "in a row"),
    ("faults=ok,stall:9,stall:9,stall:9,stall:9,stall:9,stall:9,stall:9", "in a row"),
  ])
  func permanentFaultsAreErrors(_ settings: String, _ words: String) throws {
    let error = #expect(throws: CheckpointError.self) { try read(settings) }
    #expect(error?.message.contains(words) == true, "\(settings): \(error?.description ?? "")")
    #expect(error?.path?.hasSuffix(HubServer.second) == true)
  }

  @Test(arguments: [
    "faults=ok,changed", "faults=ok,ok,changed", "faults=ok,grown:5", "faults=ok,grown:1",
    "faults=ok,pointer",
  ])
  func aFileThatChangesIsNoticed(_ settings: String) throws {
    let error = #expect(throws: CheckpointError.self) { try read(settings) }
    #expect(error?.code == .sourceChanged, "\(error?.description ?? "")")
  }

  @Test func aPointerOfGitLFSIsNamed() throws {
    let session = server.session("faults=pointer,pointer,pointer")
    let directory = try RemoteDirectory("\(session.plain)/\(HubServer.second)", options: session.options())
    let error = #expect(throws: CheckpointError.self) {
      try directory.read(HubServer.second, limit: 64 << 20)
    }
    #expect(error?.code == .malformed)
    #expect(error?.message.contains("Git LFS pointer, not the file of 700001 bytes") == true)
  }

  @Test func ignoredRangesAreRefusedWhereSkippingIsExpensive() throws {
    let session = server.session("faults=ok,whole")
    var options = session.options()
    options.largestSkip = 500_000
    let source = try RemoteDirectory("\(session.plain)/\(HubServer.large)", options: options).open(
      HubServer.large)
    let error = #expect(throws: CheckpointError.self) { try source.readBytes(600_000..<600_100) }
    #expect(error?.code == .unsupported && error?.message.contains("ignores ranges") == true)
    #expect(
      try source.readBytes(600_000..<600_100).elementsEqual(server.files[HubServer.large]![600_000..<600_100])
    )
  }

  @Test func readsBeyondTheEndAreRefused() throws {
    #expect(try read("", "empty.bin") == [])
    #expect(try read("head=0", "empty.bin") == [])
    let session = server.session()
    let source = try RemoteDirectory("\(session.plain)/weights.gguf", options: session.options()).open(
      "weights.gguf")
    #expect(try source.readBytes(5000..<5000) == [])
    for (offset, count) in [(5000, 1), (4999, 2), (Int.max - 1, 1), (-1, 1)] {
      let error = #expect(throws: CheckpointError.self) {
        var bytes = [UInt8](repeating: 0, count: count)
        try bytes.withUnsafeMutableBytes { pointer in
          var span = MutableRawSpan(_unsafeBytes: pointer)
          try source.read(into: &span, at: offset)
        }
      }
      #expect(error?.code == .truncated)
    }
  }

  @Test func signedAddressesAreNotPrinted() throws {
    let session = server.session("faults=expired")
    // The body host takes signatures that the hub handed out.
    let address =
      "http://127.0.0.1:\(server.bodies)/s/\(session.name)/owner/model/weights.gguf?X-Amz-Signature=7secret7"
    let directory = try RemoteDirectory(address, options: session.options())
    let error = #expect(throws: CheckpointError.self) { try directory.open("weights.gguf") }
    #expect(error?.description.contains("secret") == false)
    #expect(error?.description.contains("Request has expired") == true)
    #expect(error?.remedy?.contains("expired") == true)
    // A signature is valid for GET only.
    #expect(try session.log().allSatisfy { $0[1] == "GET" })
    #expect(throws: CheckpointError.self) { try directory.open("config.json") }
  }

  @Test func aSignedAddressIsRead() throws {
    let session = server.session()
    _ = try RemoteDirectory("hf://owner/model", options: session.options()).open("weights.gguf").readBytes(
      0..<1)
    let address =
      "http://127.0.0.1:\(server.bodies)/s/\(session.name)/owner/model/weights.gguf?X-Amz-Signature=1"
    let directory = try RemoteDirectory(address, options: session.options())
    #expect(directory.file == "weights.gguf")
    #expect(try directory.read("weights.gguf", limit: 64 << 20) == server.files["weights.gguf"])
  }

  @Test func manyThreadsReadOneFile() throws {
    let session = server.session("faults=ok,drop:5000,ok,status:503,ok,stall:100,shorter:30,close")
    let source = try RemoteDirectory("\(session.plain)/\(HubServer.large)", options: session.options())
      .open(HubServer.large)
    let expected = server.files[HubServer.large]!
    DispatchQueue.concurrentPerform(iterations: 24) { number in
      let start = 300_000 + number * 100_000
      let bytes = try? source.readBytes(start..<start + 100_000)
      #expect(bytes.map { $0.elementsEqual(expected[start..<start + 100_000]) } == true)
    }
  }

  @Test(arguments: ["http://127.0.0.1:1/x/", "http://no-such-host.invalid/x/"])
  func aRefusedConnectionIsReportedSoon(_ address: String) throws {
    let session = server.session()
    var options = session.options()
    options.stallLimit = .seconds(20)
    let error = #expect(throws: CheckpointError.self) { try RemoteDirectory(address, options: options) }
    #expect(error?.code == .inputOutput)
    #expect(error?.message.contains("2 times in a row") == true, "\(error?.description ?? "")")
  }

  @Test(arguments: ["faults=ok,stall:10", "faults=ok,later:300"])
  func aCancelledTaskStopsReading(_ settings: String) async throws {
    let session = server.session(settings)
    var options = session.options()
    options.stallLimit = .seconds(600)
    let source = try RemoteDirectory("\(session.plain)/\(HubServer.second)", options: options)
      .open(HubServer.second)
    let task = Task { try source.readBytes(1000..<700_000) }
    task.cancel()
    let error = await #expect(throws: CheckpointError.self) { try await task.value }
    #expect(error?.message.contains("cancelled") == true)
  }
}
