import ByteStreams
import CheckpointTesting
import Dispatch
import Foundation
import RemoteFiles
import TensorFormats
import Testing

@Suite(
  .enabled(if: HubServer.isThere, "build it: swift build -c release --package-path Tests/HubServer"),
  .timeLimit(.minutes(5)))
struct KeepingTests {
  let server: HubServer
  let cache: TemporaryDirectory

  init() throws {
    server = try HubServer.shared
    cache = try TemporaryDirectory()
  }

  private var root: String { cache.path("models--owner--model") }

  @Test func readsAreCachedInTheHubsLayout() throws {
    let session = server.session("faults=drop:70000,stall:5000,ok,status:503,shorter:1000")
    let directory = try RemoteDirectory("hf://owner/model@main", options: session.options()).keeping(
      in: cache.path)
    let source = try directory.open(HubServer.large)
    let expected = server.files[HubServer.large]!
    DispatchQueue.concurrentPerform(iterations: 20) { number in
      let range = number * 140_000..<(number + 1) * 140_000
      #expect((try? source.readBytes(range))?.elementsEqual(expected[range]) == true)
    }
    let before = try session.log().filter { $0[0] == "cdn" }.count
    #expect(try source.readBytes(5000..<900_000).elementsEqual(expected[5000..<900_000]))
    #expect(try session.log().filter { $0[0] == "cdn" }.count >= before)
    try directory.completeKept()

    for (name, bytes) in server.files where !name.contains("/") {
      let path = "\(root)/snapshots/\(server.commit)/\(name)"
      #expect(FileSystem.linkDestination(of: path)?.hasPrefix("../../blobs/") == true)
      #expect(try Data(contentsOf: URL(filePath: path)) == Data(bytes), "\(name)")
    }
    #expect(
      FileSystem.linkDestination(of: "\(root)/snapshots/\(server.commit)/\(HubServer.large)")
        == "../../blobs/\(server.digest(of: HubServer.large))")
    #expect(try String(contentsOfFile: "\(root)/refs/main", encoding: .utf8) == server.commit)
    #expect(try FileSystem.names(in: "\(root)/blobs").allSatisfy { !$0.contains("step3") })

    // Another process finds everything in the cache.
    let offline = session.options(["HF_HUB_CACHE": cache.path, "HF_HUB_OFFLINE": "1"])
    let local = try RemoteDirectory("hf://owner/model", options: offline)
    #expect(try local.open(HubServer.large).readBytes(0..<3_000_000) == expected)
    // And so does this one, including files in subdirectories.
    let deep = try RemoteDirectory("hf://owner/model@main/sub%20dir", options: session.options())
    #expect(throws: CheckpointError.self) { try deep.keeping(in: cache.path) }
  }

  @Test func filesInSubdirectoriesAreLinkedToo() throws {
    let session = server.session()
    let directory = try RemoteDirectory("hf://owner/model@main/sub%20dir", options: session.options())
      .keeping(in: cache.path)
    try directory.completeKept()
    let path = "\(root)/snapshots/\(server.commit)/sub dir/ä 100%.json"
    #expect(try Data(contentsOf: URL(filePath: path)) == Data(#"{"a":1}"#.utf8))
  }

  @Test func anInterruptedDownloadIsContinued() throws {
    let first = server.session()
    do {
      let directory = try RemoteDirectory("hf://owner/model", options: first.options()).keeping(
        in: cache.path)
      let source = try directory.open(HubServer.large)
      _ = try source.readBytes(0..<1_200_000)
      _ = try source.readBytes(2_000_000..<2_500_000)
    }
    let second = server.session()
    let directory = try RemoteDirectory("hf://owner/model", options: second.options()).keeping(in: cache.path)
    let source = try directory.open(HubServer.large)
    #expect(
      try source.readBytes(1_000_000..<1_100_000).elementsEqual(
        server.files[HubServer.large]![1_000_000..<1_100_000]))
    try directory.completeKept(HubServer.large)
    let ranges = try second.log().filter { $0[0] == "cdn" }.map { $0[3] }
    #expect(Set(ranges) == ["bytes=1200000-1999999", "bytes=2500000-2999999"])
    let path = "\(root)/snapshots/\(server.commit)/\(HubServer.large)"
    #expect(try Data(contentsOf: URL(filePath: path)) == Data(server.files[HubServer.large]!))
  }

  @Test(arguments: [
    "step3-toolkit ranges 1\n3000000\n0-3000000\n", "step3-toolkit ranges 1\n2999999\n0-100\n", "0-100", "",
  ])
  func aListOfRangesThatDoesNotFitIsNotTrusted(_ text: String) throws {
    let session = server.session()
    let place = "\(root)/blobs/\(server.digest(of: HubServer.large))"
    try FileManager.default.createDirectory(atPath: "\(root)/blobs", withIntermediateDirectories: true)
    try Data(count: 3_000_000).write(to: URL(filePath: place + ".step3-partial"))
    try Data(text.utf8).write(to: URL(filePath: place + ".step3-ranges"))
    let directory = try RemoteDirectory("hf://owner/model", options: session.options()).keeping(
      in: cache.path)
    if text.contains("0-3000000") {
      // The list claims that the zeros are complete; the SHA-256 shows that they are not.
      let error = #expect(throws: CheckpointError.self) { try directory.completeKept(HubServer.large) }
      #expect(error?.code == .sourceChanged)
      #expect(throws: CheckpointError.self) { try directory.completeKept(HubServer.large) }
      #expect(try FileSystem.names(in: "\(root)/blobs").isEmpty)
    } else {
      try directory.completeKept(HubServer.large)
      #expect(try Data(contentsOf: URL(filePath: place)) == Data(server.files[HubServer.large]!))
    }
  }

  @Test func aDigestOtherThanThePublishedOneIsRefused() throws {
    let session = server.session()
    let directory = try RemoteDirectory("hf://owner/broken", options: session.options()).keeping(
      in: cache.path)
    let error = #expect(throws: CheckpointError.self) { try directory.completeKept() }
    #expect(error?.code == .sourceChanged && error?.message.contains("SHA-256") == true)
    let broken = cache.path("models--owner--broken")
    #expect(try FileSystem.names(in: "\(broken)/snapshots/\(server.commit)").isEmpty)
    #expect(try FileSystem.names(in: "\(broken)/blobs").isEmpty)
  }

  @Test func sourcesThatCannotBeCachedAreRefused() throws {
    let session = server.session("tree=0")
    for address in ["ms://owner/model", "\(session.plain)/weights.gguf", "hf://owner/model"] {
      let directory = try RemoteDirectory(address, options: session.options())
      #expect(throws: CheckpointError.self) { try directory.keeping(in: cache.path) }
    }
  }

  @Test(arguments: 0..<20) func rangesHoldExactlyWhatWasInserted(_ seed: Int) {
    var generator = SeededGenerator(seed: UInt64(seed))
    var ranges = ByteRanges()
    var there = [Bool](repeating: false, count: 200)
    for _ in 0..<40 {
      let start = Int.random(in: 0..<200, using: &generator)
      let range = start..<Int.random(in: start...min(200, start + 20), using: &generator)
      ranges.insert(range)
      for index in range { there[index] = true }
      #expect(ranges.count == there.count { $0 })
      let gaps = ranges.gaps(in: 200)
      #expect(gaps.reduce(0) { $0 + $1.count } == there.count { !$0 } && gaps.allSatisfy { !$0.isEmpty })
      #expect(ranges.ranges.allSatisfy { range in range.allSatisfy { there[$0] } })
      #expect(ByteRanges(ranges.text(of: 200), of: 200) == ranges)
      #expect(ByteRanges(ranges.text(of: 200), of: 201) == nil)
    }
  }
}
