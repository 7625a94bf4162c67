import Checkpoint
import CheckpointTesting
import Foundation
import ShardPlanning
import Step3Runtime
import Synchronization
import TensorFormats
import Testing

/// Faults of a partition set, before or during a run, are reported with the part's name and leave no process behind.
@Suite("Disaggregation faults", .serialized)
struct DisaggregationFaultTests {
  private let files = FileManager.default

  private func swap(_ first: String, _ second: String) throws {
    try files.moveItem(atPath: first, toPath: first + ".moved")
    try files.moveItem(atPath: second, toPath: first)
    try files.moveItem(atPath: first + ".moved", toPath: second)
  }

  private func edit(_ file: String, _ change: (String) -> String) throws {
    let text = try String(contentsOfFile: file, encoding: .utf8)
    let changed = change(text)
    try #require(changed != text)
    try changed.write(toFile: file, atomically: false, encoding: .utf8)
  }

  // MARK: The set

  @Test("a missing rank is refused")
  func missing() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2, attentionTP: 2))
    for name in ["ffn-ep1", "attention-tp0"] {
      try files.moveItem(atPath: parts.part(name), toPath: parts.directory.path("away"))
      let error = try parts.refusal()
      #expect(error.code == .notFound && error.message.contains("(\(name))"), "\(error)")
      try files.moveItem(atPath: parts.directory.path("away"), toPath: parts.part(name))
    }
    try parts.start().close()
  }

  @Test("a repeated rank is refused")
  func doubled() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    try files.copyItem(atPath: parts.part("ffn-ep0"), toPath: parts.part("spare"))
    var error = try parts.refusal()
    #expect(error.message == "ffn-ep0 and spare are both ffn rank 0")
    try files.removeItem(atPath: parts.part("ffn-ep1"))
    try files.moveItem(atPath: parts.part("spare"), toPath: parts.part("ffn-ep1"))
    error = try parts.refusal()
    #expect(error.message == "ffn-ep0 and ffn-ep1 are both ffn rank 0")
  }

  @Test("ranks with exchanged positions are refused")
  func swapped() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    try swap(parts.part("ffn-ep0"), parts.part("ffn-ep1"))
    let error = try parts.refusal()
    #expect(error.message == "the directory ffn-ep0 holds the part ffn-ep1")
    // Renamed directories do not matter: each part states its own position.
    try files.moveItem(atPath: parts.part("ffn-ep0"), toPath: parts.part("machine-b"))
    try files.moveItem(atPath: parts.part("ffn-ep1"), toPath: parts.part("machine-a"))
    let session = try parts.start()
    defer { session.close() }
    #expect(session.ranks.map(\.part) == ["machine-a", "machine-b"])
    #expect(try parts.difference(session.model) < 2e-4)
  }

  @Test("parts of two different partitions are refused")
  func mixed() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let other = try await PartitionFixture("tiny", .init(ffnEP: 4))
    try files.removeItem(atPath: parts.part("ffn-ep1"))
    try files.copyItem(atPath: other.part("ffn-ep1"), toPath: parts.part("ffn-ep1"))
    #expect(try parts.refusal().message.contains("different partitions"))
  }

  @Test("parts of another model are refused")
  func otherModel() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let other = try await PartitionFixture("odd", .init(ffnEP: 2))
    try files.removeItem(atPath: parts.part("ffn-ep1"))
    try files.copyItem(atPath: other.part("ffn-ep1"), toPath: parts.part("ffn-ep1"))
    let error = try parts.refusal()
    #expect(error.message == "FFN part ffn-ep1 belongs to a model of different dimensions")
  }

  @Test("a checkpoint that is not a partition set is refused")
  func none() throws {
    let error = #expect(throws: CheckpointError.self) {
      try AFDSession.start(Fixtures.path("checkpoints/tiny"))
    }
    #expect(error?.code == .invalidRequest)
  }

  // MARK: The slices

  @Test("expert ranges that overlap or leave a gap are refused")
  func statedExperts() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    // Experts 3 to 6 instead of 4 to 7.
    try edit(parts.part("ffn-ep1/config.json")) { $0.replacing("[4, 0, 0]", with: "[3, 0, 0]") }
    var error = try parts.refusal()
    #expect(error.code == .malformed && error.tensor == "model.layers.1.moe.gate_proj.weight")
    #expect(error.message == "expert 3, intermediate elements from 0 to 256 are in both ffn-ep0 and ffn-ep1")
    // Experts 1 to 4 in the other part: expert 0 is nowhere.
    try edit(parts.part("ffn-ep1/config.json")) { $0.replacing("[3, 0, 0]", with: "[4, 0, 0]") }
    try edit(parts.part("ffn-ep0/config.json")) { text in
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
      return lines.map { line in
        guard line.contains(".moe.") else { return line }
        return line.replacing("\"origin\": [0, 0, 0]", with: "\"origin\": [1, 0, 0]")
      }.joined(separator: "\n")
    }
    error = try parts.refusal()
    #expect(error.message.hasPrefix("expert 0, intermediate elements from 0 on are in no part"), "\(error)")
  }

  @Test("slices that do not tile the intermediate dimension are refused")
  func statedSlices() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnTP: 2))
    let file = parts.part("ffn-tp1/config.json")
    // Only one of the three matrices.
    try edit(file) {
      $0.replacing(
        "\"model.layers.0.mlp.up_proj.weight\": {\"shape\": [512, 256], \"origin\": [256, 0]",
        with: "\"model.layers.0.mlp.up_proj.weight\": {\"shape\": [512, 256], \"origin\": [128, 0]")
    }
    let error = try parts.refusal()
    #expect(
      error.message.hasPrefix("FFN part ffn-tp1: the part held differs from that of gate_proj"), "\(error)")
    #expect(error.tensor == "model.layers.0.mlp.up_proj.weight")
  }

  @Test("exchanged or shifted weights change the logits")
  func wrongWeights() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let (first, second) = (parts.part("ffn-ep0/model.safetensors"), parts.part("ffn-ep1/model.safetensors"))
    func difference() throws -> Float {
      let session = try parts.start()
      defer { session.close() }
      return try parts.difference(session.model)
    }
    #expect(try difference() < 2e-4)
    try swap(first, second)
    #expect(try difference() > 0.1)
    try swap(first, second)

    let tensor = try #require(Checkpoint.open(first)["model.layers.1.moe.down_proj.weight"])
    var bytes = Array(try Data(contentsOf: URL(filePath: first)))
    let matrix = tensor.byteRange.lowerBound..<tensor.byteRange.lowerBound + tensor.byteRange.count
    let row = tensor.shape.columns * 2
    let rolled = bytes[matrix].dropFirst(row) + bytes[matrix].prefix(row)
    bytes.replaceSubrange(matrix, with: rolled)
    try Data(bytes).write(to: URL(filePath: first))
    #expect(try difference() > 0.01)
  }

  // MARK: Processes

  @Test("a worker that cannot open its part says why")
  func workerFails() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    try files.removeItem(atPath: parts.part("ffn-ep1/model.safetensors"))
    let error = try parts.refusal()
    #expect(error.code == .notFound && error.message.hasPrefix("FFN part ffn-ep1: "), "\(error)")
  }

  @Test("a program that is missing or not a worker is an error")
  func noWorker() async throws {
    let parts = try await PartitionFixture("tiny", .init())
    var error = try parts.refusal { $0.workerExecutable = "/usr/bin/true" }
    #expect(error.code == .inputOutput && error.message.hasPrefix("FFN part ffn: the connection ended"))
    #expect(error.message.contains("exit code 0"), "\(error)")
    error = try parts.refusal { $0.workerExecutable = "/nowhere/at/all" }
    #expect(error.code == .notFound && error.path == "/nowhere/at/all")
  }

  private final class Processes: Sendable {
    let ids = Mutex<[Int32]>([])
    func signal(_ index: Int, _ signal: Int32) { ids.withLock { _ = kill($0[index], signal) } }
  }

  @Test("a worker killed during a run is an error with its part's name", arguments: [0, 1, 3])
  func killed(_ victim: Int) async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2, ffnTP: 2))
    let processes = Processes()
    let trigger = Trigger(stage: .feedForwardInput, layer: 2) { processes.signal(victim, SIGKILL) }
    let session = try parts.start(observer: trigger)
    let ids = session.ranks.compactMap(\.process)
    processes.ids.withLock { $0 = ids }
    let error = try #require(throws: CheckpointError.self) { try parts.logits(session.model) }
    #expect(error.code == .inputOutput)
    let message =
      "FFN part \(session.ranks[victim].part): the connection ended, and its process was ended by signal 9"
    #expect(error.message == message)
    for id in ids { #expect(!isThere(id)) }
    // A broken session stays broken.
    #expect(throws: error) { try parts.logits(session.model) }
    session.close()
  }

  @Test("a run can be cancelled while a worker does not answer")
  func cancelled() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let processes = Processes()
    let trigger = Trigger(stage: .feedForwardInput, layer: 3) {
      processes.signal(1, SIGSTOP)
      withUnsafeCurrentTask { $0?.cancel() }
    }
    let session = try parts.start(observer: trigger)
    let ids = session.ranks.compactMap(\.process)
    processes.ids.withLock { $0 = ids }
    await #expect(throws: CancellationError.self) { try await Task { try parts.logits(session.model) }.value }
    for id in ids { #expect(!isThere(id)) }
  }

  @Test(
    "a hanging worker ends the run after the timeout, with its part's name", arguments: [0, 1])
  func silent(_ victim: Int) async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let processes = Processes()
    let trigger = Trigger(stage: .feedForwardInput, layer: 2) { processes.signal(victim, SIGSTOP) }
    let session = try parts.start({ $0.silence = .seconds(5) }, observer: trigger)
    let ids = session.ranks.compactMap(\.process)
    processes.ids.withLock { $0 = ids }
    let error = try #require(throws: CheckpointError.self) { try parts.logits(session.model) }
    #expect(error.code == .unresponsive && error.remedy?.contains("--afd-timeout") == true)
    #expect(error.message.hasPrefix("FFN part \(session.ranks[victim].part): it has not responded"))
    for id in ids { #expect(!isThere(id)) }
  }

  @Test("a hanging worker does not keep a session from closing")
  func stopped() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let session = try parts.start()
    let ids = session.ranks.compactMap(\.process)
    kill(ids[0], SIGSTOP)
    session.close()
    for id in ids { #expect(!isThere(id)) }
  }

  @Test("releasing a session ends its processes, as does closing it, even twice")
  func abandoned() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    func ids() throws -> [Int32] { try parts.start().ranks.compactMap(\.process) }
    let abandoned = try ids()
    #expect(abandoned.count == 2)
    for id in abandoned { #expect(!isThere(id)) }
    let session = try parts.start()
    session.close()
    session.close()
    #expect(throws: CheckpointError.self) { try parts.logits(session.model) }
  }

  @Test("a worker ends when its parent dies, at any moment")
  func orphaned() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    for isGreeted in [false, true] {
      let (own, other) = try RawWire.pair()
      let process = Process()
      process.executableURL = URL(filePath: try workerExecutable())
      process.arguments = ["ffn-worker", "--part=\(parts.part("ffn-ep0"))"]
      process.standardInput = FileHandle(fileDescriptor: other.descriptor)
      try process.run()
      // Without shutdown, which would also close the worker's end.
      _ = Foundation.close(other.descriptor)
      if isGreeted { #expect(own.receive()?.kind == 1) }
      own.close()
      process.waitUntilExit()
      #expect(process.terminationReason == .exit)
      #expect([0, 74].contains(process.terminationStatus))
    }
  }

  @Test("a failing worker reports the error to its peer and exits with its code")
  func exitCode() async throws {
    let parts = try await PartitionFixture("tiny", .init())
    for (part, status) in [("nowhere", Int32(66)), ("attention", 64)] {
      let (own, other) = try RawWire.pair()
      let process = Process()
      process.executableURL = URL(filePath: try workerExecutable())
      process.arguments = ["ffn-worker", "--part=\(parts.part(part))"]
      process.standardInput = FileHandle(fileDescriptor: other.descriptor)
      let output = Pipe()
      (process.standardOutput, process.standardError) = (output, output)
      try process.run()
      _ = Foundation.close(other.descriptor)
      let failure = try #require(own.receive())
      #expect(failure.kind == 5 && String(decoding: failure.payload, as: UTF8.self).contains(part))
      // The error is reported once, by the other side.
      #expect(output.fileHandleForReading.readDataToEndOfFile().isEmpty)
      process.waitUntilExit()
      #expect(process.terminationStatus == status)
      own.close()
    }
  }
}
