import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ShardPlanning
import TensorFormats
import Testing

/// Interrupted conversions can be resumed from any state, and never with another source or other options.
@Suite struct ResumeTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")
  private let afd = ConversionHarness.Request(
    partition: .afd(ShardPlan.AFDLayout(ffnEP: 2)), maximumShardBytes: 2_000_000)
  private let quantized = ConversionHarness.Request(
    format: .gguf, recipe: "Q8_0", maximumShardBytes: 3_000_000)

  init() throws { harness = try ConversionHarness() }

  private var output: String { harness.directory.path("output") }
  private var journal: String { "\(output)/step3-convert.journal" }

  private func run(
    _ request: ConversionHarness.Request, source: String? = nil, into name: String = "output",
    options: ConversionOptions = ConversionOptions(threads: 2, resume: true),
    progress: @escaping @Sendable (ConversionProgress) -> Void = { _ in }
  ) async throws -> ConversionOutcome {
    let source = source ?? tiny
    return try await Conversion(
      harness.plan(source, request), options: options
    ).run(into: harness.directory.path(name), progress: progress)
  }

  /// Starts a conversion and cancels it after some steps.
  private func interrupt(_ request: ConversionHarness.Request, source: String? = nil, after steps: Int)
    async throws
  {
    let counter = Counter()
    let task = Task {
      try await run(request, source: source) { _ in
        if counter.next() == steps { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    _ = try? await task.value
  }

  private final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var value = 0
    func next() -> Int {
      lock.withLock {
        value += 1
        return value
      }
    }
  }

  private func resumeFails(
    _ request: ConversionHarness.Request, source: String? = nil,
    options: ConversionOptions = ConversionOptions(threads: 2, resume: true)
  ) async -> CheckpointError? {
    await #expect(throws: CheckpointError.self) { try await run(request, source: source, options: options) }
  }

  @Test(
    "a run cancelled at any step keeps what is done and resumes to the same bytes",
    arguments: [1, 17, 60, 85])
  func cancelled(steps: Int) async throws {
    for request in [afd, quantized] {
      let reference = try await run(request, into: "reference-\(request.recipe)")
      try await interrupt(request, after: steps)
      let outcome = try await run(request)
      #expect(outcome.reusedUnits >= steps - 1)
      #expect(outcome.reusedUnits < outcome.units || steps == 85)
      #expect(outcome.manifest == reference.manifest)
      #expect(
        try contents(of: output) == contents(of: harness.directory.path("reference-\(request.recipe)")))
      try FileManager.default.removeItem(atPath: output)
    }
  }

  @Test func workThatDisagreesWithTheJournalIsRedone() async throws {
    let reference = try await run(quantized, into: "reference")
    try await interrupt(quantized, after: 60)
    // All written data is lost, as after a power cut on a disk that lies about syncing.
    for name in try FileSystem.names(in: output) where name.hasSuffix(".unfinished") {
      let size = try #require(try FileSystem.size(of: "\(output)/\(name)"))
      try FileSystem.writeAtomically([UInt8](repeating: 0xA5, count: size), to: "\(output)/\(name)")
    }
    let outcome = try await run(quantized)
    #expect(outcome.reusedUnits < 60)
    #expect(outcome.manifest == reference.manifest)
    #expect(try contents(of: output) == contents(of: harness.directory.path("reference")))
  }

  @Test(
    "a run that stopped at any point of finishing can be resumed",
    arguments: [
      // A directory in place of the file stops the run at exactly this point.
      "attention/model-00001-of-00002.safetensors", "ffn-ep1/config.json.writing",
      "ffn-ep0/manifest.json.writing",
      "ffn-ep1/manifest.json.writing", "manifest.json.writing",
    ])
  func stoppedAtTheEnd(obstacle: String) async throws {
    let reference = try await run(afd, into: "reference")
    let place = "\(output)/\(obstacle)"
    let error = await #expect(throws: CheckpointError.self) {
      try await run(afd) { _ in
        try? FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: false)
      }
    }
    #expect(error?.code == .inputOutput)
    #expect(error?.remedy?.contains("--resume") == true)
    let opened = #expect(throws: CheckpointError.self) { try Checkpoint.open(output) }
    #expect(opened?.code == .unfinished)
    try FileManager.default.removeItem(atPath: place)
    let outcome = try await run(afd)
    #expect(outcome.reusedUnits == outcome.units)
    #expect(outcome.manifest == reference.manifest)
    #expect(try contents(of: output) == contents(of: harness.directory.path("reference")))
  }

  @Test func aFinishedOutputIsLeftAlone() async throws {
    try #expect(await run(quantized).wasComplete == false)
    let before = try contents(of: output)
    // As after a crash right before the journal was removed.
    try FileSystem.writeAtomically([1, 2, 3], to: journal)
    let outcome = try await run(quantized)
    #expect(outcome.wasComplete && outcome.units == 0)
    #expect(try contents(of: output) == before)
    #expect(await resumeFails(afd)?.code == .cannotCreate)
  }

  @Test func anotherConversionIsRefused() async throws {
    let copy = harness.directory.path("source")
    try FileManager.default.copyItem(atPath: tiny, toPath: copy)
    try await interrupt(quantized, source: copy, after: 40)
    let state = try contents(of: output)
    var other = quantized
    other.recipe = "F16"
    let recipe = await resumeFails(other, source: copy)
    #expect(recipe?.code == .invalidRequest && recipe?.message.contains("--quantize") == true)
    other = quantized
    other.maximumShardBytes = nil
    #expect(await resumeFails(other, source: copy)?.message.contains("--max-shard-size") == true)
    try await whileHeld(copy)
    #expect(try contents(of: output) == state)

    // One byte of a weight that has already been read.
    let shard = "\(copy)/model-00001-of-00004.safetensors"
    let handle = try FileHandle(forUpdating: URL(filePath: shard))
    try handle.seek(toOffset: 30_000)
    let byte = try #require(try handle.read(upToCount: 1)?.first)
    try handle.seek(toOffset: 30_000)
    try handle.write(contentsOf: [byte ^ 1])
    try handle.close()
    let changed = await resumeFails(quantized, source: copy)
    #expect(changed?.code == .sourceChanged && changed?.path == shard)
  }

  @Test("a refused run may be resumed with --allow-nonfinite, but not the reverse")
  func nonFiniteOnTheWay() async throws {
    let copy = harness.directory.path("source")
    try FileManager.default.copyItem(atPath: tiny, toPath: copy)
    let tensor = try #require(Checkpoint.open(copy)["model.layers.2.input_layernorm.weight"])
    let shard = try Checkpoint.open(copy).files[tensor.file].source.path
    let handle = try FileHandle(forUpdating: URL(filePath: shard))
    try handle.seek(toOffset: UInt64(tensor.byteRange.lowerBound))
    try handle.write(contentsOf: [0xC0, 0x7F])
    try handle.close()
    var strict = ConversionHarness.Request(recipe: "F32")
    #expect(await resumeFails(strict, source: copy)?.code == .nonFinite)
    var lax = strict
    lax.allowNonFinite = true
    let outcome = try await run(lax, source: copy)
    #expect(outcome.manifest.plan.request.allowNonFinite)
    let refused = await resumeFails(strict, source: copy)
    #expect(refused?.code == .cannotCreate && refused?.message.contains("other options") == true)
    try #expect(await run(lax, source: copy).wasComplete)

    // An output begun with --allow-nonfinite is not continued without it.
    try FileManager.default.removeItem(atPath: output)
    try await interrupt(lax, source: copy, after: 3)
    let back = await resumeFails(strict, source: copy)
    #expect(back?.code == .invalidRequest && back?.message.contains("--allow-nonfinite") == true)
    // Nor is it started afresh, only to stop at the same weight: the output stays as it is.
    let before = try fingerprints(of: output)
    let afresh = await resumeFails(
      strict, source: copy, options: ConversionOptions(threads: 2, overwrite: true))
    #expect(afresh?.code == .invalidRequest && afresh?.message.contains("--allow-nonfinite") == true)
    #expect(try fingerprints(of: output) == before)
    var other = strict
    other.recipe = "F16"
    // What one conversion allowed does not bind another.
    try #expect(
      await !run(other, source: copy, options: ConversionOptions(threads: 2, overwrite: true)).wasComplete)
    (strict, lax) = (quantized, quantized)
    lax.allowNonFinite = true
    try FileManager.default.removeItem(atPath: output)
    try #expect(await !run(strict).wasComplete)
    try #expect(await run(lax).wasComplete)
  }

  /// As if another process had the journal open.
  private func whileHeld(_ source: String) async throws {
    let held = try AppendFile(journal)
    #expect(await resumeFails(quantized, source: source)?.message == "another process is writing here")
    withExtendedLifetime(held) {}
  }

  @Test func anotherVersionIsRefused() async throws {
    try await interrupt(quantized, after: 40)
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: journal)))
    let title = try #require(bytes.firstIndex(of: UInt8(ascii: "\n"))) + 1
    let length = Int(bytes[title]) | Int(bytes[title + 1]) << 8 | Int(bytes[title + 2]) << 16
    let identity = String(decoding: bytes[(title + 13)..<(title + 12 + length)], as: UTF8.self)
    let old = identity.replacing("\"tool\":\"\(toolkitVersion)\"", with: "\"tool\":\"0.0.9\"")
    #expect(old != identity)
    try FileSystem.writeAtomically(Array(bytes[..<title]) + frame([1] + Array(old.utf8)), to: journal)
    let error = await resumeFails(quantized)
    #expect(error?.code == .unsupported && error?.message.contains("0.0.9") == true)
    // Well-formed frames with nonsensical contents.
    for payload: [UInt8] in [[9], [2, 1, 2, 3], [3, 0], [1]] {
      try FileSystem.writeAtomically(
        Array(bytes[..<title]) + frame([1] + Array(identity.utf8)) + frame(payload), to: journal)
      #expect(await resumeFails(quantized)?.code == .malformed)
    }
  }

  /// A frame in the documented format: length, the first half of XXH3-128 as a number, payload.
  private func frame(_ payload: [UInt8]) -> [UInt8] {
    var digester = XXH3Digester()
    digester.update(payload)
    let length = (0..<4).map { UInt8(truncatingIfNeeded: payload.count >> ($0 * 8)) }
    return length + digester.finalize().bytes.prefix(8).reversed() + payload
  }

  @Test("a damaged journal costs work, never correctness") func damagedJournal() async throws {
    let reference = try await run(quantized, into: "reference")
    let expected = try contents(of: harness.directory.path("reference"))
    try await interrupt(quantized, after: 70)
    let state = harness.directory.path("state")
    try FileManager.default.copyItem(atPath: output, toPath: state)
    let intact = [UInt8](try Data(contentsOf: URL(filePath: journal)))
    var generator = SeededGenerator(seed: 4)
    var refused = 0
    for round in 0..<40 {
      try FileManager.default.removeItem(atPath: output)
      try FileManager.default.copyItem(atPath: state, toPath: output)
      var bytes = intact
      if round % 2 == 0 { bytes.removeLast(Int.random(in: 1...bytes.count, using: &generator)) }
      for _ in 0..<(round % 3) where !bytes.isEmpty {
        bytes[Int.random(in: bytes.indices, using: &generator)] ^=
          1 << UInt8.random(in: 0...7, using: &generator)
      }
      try FileSystem.writeAtomically(bytes, to: journal)
      do {
        #expect(try await run(quantized).manifest == reference.manifest)
        #expect(try contents(of: output) == expected)
      } catch let error as CheckpointError {
        #expect(error.code == .malformed && error.remedy?.contains("start afresh") == true, "\(error)")
        refused += 1
      }
    }
    #expect(refused > 0 && refused < 40)
  }

  @Test("a source changed while it is read ends the conversion without spoiling what is kept")
  func sourceChangedMeanwhile() async throws {
    let source = harness.directory.path("source")
    try FileManager.default.copyItem(atPath: tiny, toPath: source)
    let reference = try await run(quantized, into: "reference")
    let shard = try #require(try Checkpoint.open(source).files.last?.source.path)
    let attributes = try FileManager.default.attributesOfItem(atPath: shard)
    let date = try #require(attributes[.modificationDate] as? Date)
    // The same bytes: only the time of change shows the write.
    let error = await #expect(throws: CheckpointError.self) {
      try await run(quantized, source: source) { _ in
        try? FileManager.default.setAttributes(
          [.modificationDate: date.addingTimeInterval(-3600)], ofItemAtPath: shard)
      }
    }
    #expect(error?.code == .sourceChanged && error?.path == shard)
    try #expect(!FileSystem.isTaken("\(output)/manifest.json"))
    let outcome = try await run(quantized, source: source)
    #expect(outcome.reusedUnits > 0 && outcome.manifest == reference.manifest)
    #expect(try contents(of: output) == contents(of: harness.directory.path("reference")))
  }

  @Test("a side file that has grown meanwhile is not truncated to its old size")
  func copyChangedMeanwhile() async throws {
    let source = harness.directory.path("source")
    try FileManager.default.copyItem(atPath: tiny, toPath: source)
    let planned = try harness.plan(source, afd)
    let copy = try #require(planned.plan.parts.flatMap(\.copies).first)
    let handle = try #require(FileHandle(forUpdatingAtPath: "\(source)/\(copy.from)"))
    try handle.seekToEnd()
    try handle.write(contentsOf: Data("\n".utf8))
    let error = await #expect(throws: CheckpointError.self) {
      try await Conversion(planned, options: ConversionOptions(threads: 2)).run(into: output)
    }
    #expect(error?.code == .sourceChanged && error?.path?.hasSuffix(copy.from) == true)
  }

  @Test("a damaged finished output is not called complete", arguments: [0, 1, 2, 3])
  func damagedFinishedOutput(kind: Int) async throws {
    let manifest = try await run(afd).manifest
    #expect(try await run(afd).wasComplete)
    let file = try #require(manifest.plan.files.first { $0.bytes > 100_000 })
    let path = "\(output)/\(file.path)"
    switch kind {
    case 0: try FileManager.default.removeItem(atPath: path)
    case 1:
      // Its size and its header are unchanged.
      let handle = try #require(FileHandle(forUpdatingAtPath: path))
      try handle.seek(toOffset: UInt64(file.bytes / 2))
      try handle.write(contentsOf: Data(repeating: 0, count: 4096))
    case 2: try FileManager.default.removeItem(atPath: "\(output)/attention/manifest.json")
    default: try FileManager.default.removeItem(atPath: "\(output)/attention/config.json")
    }
    let error = await resumeFails(afd)
    #expect(error?.code == .digestMismatch && error?.remedy?.contains("--overwrite") == true, "\(kind)")
  }

  @Test("--resume starts in an empty directory and refuses one with other files") func nothingToResume()
    async throws
  {
    try FileSystem.createDirectory(output)
    try FileSystem.writeAtomically([], to: "\(journal).writing")
    try #expect(await run(quantized).reusedUnits == 0)
    try FileManager.default.removeItem(atPath: output)
    try FileSystem.createDirectory(output)
    try FileSystem.writeAtomically([1], to: "\(output)/thesis.txt")
    #expect(await resumeFails(quantized)?.code == .cannotCreate)
    try #expect(FileSystem.kind(of: "\(output)/thesis.txt") == .file)
  }
}
