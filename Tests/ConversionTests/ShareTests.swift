import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Quantization
import ShardPlanning
import Synchronization
import TensorFormats
import Testing

/// One conversion by several processes: the bytes of one run, and no mix-up goes unnoticed.
@Suite struct ShareTests {
  private let harness: ConversionHarness
  /// `tiny` in many files, so that there is work to share.
  private let source: String
  private var output: String { harness.directory.path("output") }

  init() async throws {
    harness = try ConversionHarness()
    source = harness.directory.path("source")
    try await harness.convert(
      Fixtures.path("checkpoints/tiny"), .init(maximumShardBytes: 200_000), into: "source")
    try #require(Checkpoint.open(source).files.count > 6)
  }

  private func conversion(
    _ request: ConversionHarness.Request, resume: Bool = false, syncEvery: Int = 1 << 30
  ) throws -> Conversion {
    try Conversion(
      harness.plan(source, request),
      options: ConversionOptions(threads: 2, resume: resume, syncEvery: syncEvery))
  }

  private func share(_ number: Int, _ count: Int) throws -> ConversionShare {
    try #require(ConversionShare(number, of: count))
  }

  /// All names and bytes below a directory.
  private func contents(_ name: String) throws -> [String: Data] {
    let root = harness.directory.path(name)
    var files: [String: Data] = [:]
    for case let file as String in try #require(FileManager.default.enumerator(atPath: root)) {
      guard try FileSystem.kind(of: "\(root)/\(file)") == .file else { continue }
      files[file] = try Data(contentsOf: URL(filePath: "\(root)/\(file)"))
    }
    return files
  }

  private static let requests: [ConversionHarness.Request] = [
    .init(),
    .init(format: .gguf, recipe: "Q4_K"),
    .init(recipe: "NVFP4A16", partition: .afd(.init(ffnEP: 2, attentionTP: 2, router: .ffn))),
    .init(recipe: "FP8_BLOCK", maximumShardBytes: 300_000),
  ]

  @Test("concurrent shares, once sealed, equal one run", arguments: requests.indices)
  func sameBytes(index: Int) async throws {
    let request = Self.requests[index]
    try await harness.convert(source, request, into: "whole")
    let count = 4
    let outcomes = try await withThrowingTaskGroup(of: ShareOutcome.self) { group in
      for number in 1...count {
        let (conversion, share) = (try conversion(request), try share(number, count))
        group.addTask { try await conversion.run(share, into: output) }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(Set(outcomes.flatMap(\.files)) == Set(try Checkpoint.open(source).files.map(\.name)))
    #expect(outcomes.reduce(0) { $0 + $1.files.count } == (try Checkpoint.open(source).files.count))
    #expect(throws: CheckpointError.self) { try Checkpoint.open(output) }
    let outcome = try await conversion(request).seal(output)
    #expect(outcome.units == outcome.reusedUnits && outcome.units > count)
    #expect(try contents("output") == contents("whole"))
    // And again: it is complete.
    #expect(try await conversion(request).seal(output).wasComplete)
    let late = try await conversion(request).run(share(1, count), into: output)
    #expect(late.wasComplete && late.isSealed && late.left.isEmpty)
    #expect(try contents("output") == contents("whole"))
  }

  @Test("an interrupted share can be resumed, and only with --resume")
  func interrupted() async throws {
    let request = ConversionHarness.Request(recipe: "F32")
    try await harness.convert(source, request, into: "whole")
    let seen = Atomic<Int>(0)
    let running = try conversion(request, syncEvery: 1)
    let (first, second) = (try share(1, 2), try share(2, 2))
    let task = Task {
      try await running.run(first, into: output) { _ in
        // Late enough for some units to be in the journal.
        Thread.sleep(forTimeInterval: 0.03)
        if seen.add(1, ordering: .relaxed).newValue > 4 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect(throws: CancellationError.self) { try await task.value }

    #expect(try await conversion(request).run(second, into: output).left == [1])
    let unfinished = await #expect(throws: CheckpointError.self) {
      try await conversion(request).seal(output)
    }
    #expect(
      unfinished?.code == .unfinished && unfinished?.message.contains("1 of 2 shares is not done: 1") == true)
    let refused = await #expect(throws: CheckpointError.self) {
      try await conversion(request).run(first, into: output)
    }
    #expect(refused?.remedy?.contains("--resume") == true)
    let resumed = try await conversion(request, resume: true).run(first, into: output)
    #expect(resumed.left.isEmpty && !resumed.wasComplete)
    #expect(try await conversion(request).run(first, into: output).wasComplete)
    _ = try await conversion(request).seal(output)
    #expect(try contents("output") == contents("whole"))
  }

  @Test("while a share runs it cannot be run again, nor the output sealed or replaced")
  func busy() async throws {
    let request = ConversionHarness.Request(recipe: "F32")
    let only = try share(1, 1)
    let refusals = Mutex<[String]>([])
    let (again, whole) = (
      try conversion(request, resume: true),
      Conversion(try harness.plan(source, request), options: ConversionOptions(threads: 1, overwrite: true))
    )
    let tried = Atomic<Bool>(false)
    // Called from within the share, so that it is certainly running.
    let inner: @Sendable () async -> Void = {
      for attempt in [
        { _ = try await again.run(only, into: output) }, { _ = try await again.seal(output) },
        { _ = try await whole.run(into: output) },
      ] as [@Sendable () async throws -> Void] {
        do { try await attempt() } catch let error as CheckpointError {
          refusals.withLock { $0.append(error.message) }
        } catch { refusals.withLock { $0.append("\(error)") } }
      }
    }
    let (started, done) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    // All threads of the pool may be blocked behind the share.
    let probe = Task(executorPreference: OwnThreads()) {
      await withCheckedContinuation { continuation in
        DispatchQueue.global().async {
          started.wait()
          continuation.resume()
        }
      }
      await inner()
      done.signal()
    }
    // The blocked pipeline has a thread of its own.
    let running = try conversion(request)
    _ = try await running.run(only, into: output) { _ in
      guard !tried.exchange(true, ordering: .relaxed) else { return }
      started.signal()
      _ = done.wait(timeout: .now() + 60)
    }
    await probe.value
    #expect(refusals.withLock { $0 } == [String](repeating: "another process is writing here", count: 3))
    _ = try await conversion(request).seal(output)
    #expect(try Checkpoint.open(output).format == .safetensors)
  }

  @Test("another plan, another number of shares or a whole run is refused, and nothing changes")
  func strangers() async throws {
    let request = ConversionHarness.Request(recipe: "F32")
    _ = try await conversion(request).run(share(1, 3), into: output)
    let before = try contents("output")
    func refused(_ words: String, _ body: () async throws -> Void) async {
      let error = await #expect(throws: CheckpointError.self) { try await body() }
      #expect(
        error?.message.contains(words) == true || error?.remedy?.contains(words) == true, "\(error as Any)")
    }
    await refused("--quantize") {
      _ = try await conversion(.init(recipe: "BF16")).run(share(2, 3), into: output)
    }
    await refused("3 shares") { _ = try await conversion(request).run(share(2, 4), into: output) }
    await refused("--share K/3") { _ = try await conversion(request, resume: true).run(into: output) }
    await refused("shares are not done: 2, 3") { _ = try await conversion(request).seal(output) }
    await refused("with other options") {
      try await harness.convert(source, .init(), into: "other")
      _ = try await conversion(request).run(share(1, 3), into: harness.directory.path("other"))
    }
    #expect(try contents("output") == before)
    await refused("there is no output") {
      _ = try await conversion(request).seal(harness.directory.path("none"))
    }
    // An unfinished whole run does not accept shares.
    let task = Task {
      try await conversion(request).run(into: harness.directory.path("whole")) { _ in
        withUnsafeCurrentTask { $0?.cancel() }
      }
    }
    await #expect(throws: CancellationError.self) { try await task.value }
    await refused("as a whole") {
      _ = try await conversion(request).run(share(1, 3), into: harness.directory.path("whole"))
    }
    await refused("as a whole") { _ = try await conversion(request).seal(harness.directory.path("whole")) }
    // But it may be replaced.
    _ = try await Conversion(
      harness.plan(source, request), options: ConversionOptions(threads: 2, overwrite: true)
    ).run(into: output)
    #expect(try contents("output").keys.allSatisfy { !$0.contains("share") })
  }

  @Test("changes to a share's output are found when sealing, and repaired by a whole run with --resume")
  func damaged() async throws {
    let request = ConversionHarness.Request(recipe: "F32")
    try await harness.convert(source, request, into: "whole")
    for number in 1...2 { _ = try await conversion(request).run(share(number, 2), into: output) }
    let file = "\(output)/model.safetensors.unfinished"
    var bytes = try Data(contentsOf: URL(filePath: file))
    bytes[bytes.count - 100] ^= 1
    try bytes.write(to: URL(filePath: file))
    let error = await #expect(throws: CheckpointError.self) { try await conversion(request).seal(output) }
    #expect(error?.code == .digestMismatch && error?.tensor != nil)
    let outcome = try await conversion(request, resume: true).run(into: output)
    #expect(outcome.reusedUnits == outcome.units - 1)
    #expect(try contents("output") == contents("whole"))
  }

  @Test("with more shares than files some have nothing to do")
  func manyShares() async throws {
    let request = ConversionHarness.Request(recipe: "F32")
    try await harness.convert(source, request, into: "whole")
    let count = try Checkpoint.open(source).files.count + 2
    for number in 1...count {
      let outcome = try await conversion(request).run(share(number, count), into: output)
      #expect(outcome.files.count == (number <= count - 2 ? 1 : 0))
      #expect(outcome.left == Array(number + 1..<count + 1))
    }
    _ = try await conversion(request).seal(output)
    #expect(try contents("output") == contents("whole"))
  }

  @Test("shares are balanced and cover every file once", arguments: 1...9)
  func balance(count: Int) throws {
    let plan = try conversion(.init()).byteCount(of: share(1, 1))
    let loads = try (1...count).map { try conversion(.init()).byteCount(of: share($0, count)) }
    #expect(loads.reduce(0, +) == plan)
    let largest = try Checkpoint.open(source).files.map(\.source.byteCount).max() ?? 0
    #expect(loads.allSatisfy { $0 <= plan / count + largest })
  }

  @Test(
    "shares are parsed and printed",
    arguments: [
      ("1/1", true), ("3/16", true), ("16/16", true), ("0/4", false), ("5/4", false),
      ("1/0", false), ("1/4097", false), ("a/4", false), ("-1/4", false), ("1/4/2", false), ("", false),
      ("1", false), ("+1/2", false),
    ])
  func text(text: String, isShare: Bool) {
    #expect(ConversionShare(text)?.description == (isShare ? text : nil))
  }
}

/// Runs tasks on threads outside the pool.
private final class OwnThreads: TaskExecutor {
  private let queue = DispatchQueue(label: "tests.own-threads", attributes: .concurrent)

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
