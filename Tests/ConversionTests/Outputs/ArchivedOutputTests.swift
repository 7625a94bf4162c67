import Archives
import Archiving
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Locations
import PlanTesting
import ShardPlanning
import Synchronization
import TensorFormats
import Testing

/// Outputs that are archived while they are written, as archiving the plain output afterwards would.
@Suite struct ArchivedOutputTests {
  private let harness: ConversionHarness
  private let source = Fixtures.path("checkpoints/tiny")
  private var output: String { harness.directory.path("output") }

  init() throws { harness = try ConversionHarness() }

  private static let requests: [ConversionHarness.Request] = [
    .init(maximumShardBytes: 200_000),
    .init(format: .gguf, recipe: "Q4_K"),
    .init(format: .gguf, recipe: "F32", maximumShardBytes: 300_000),
    .init(recipe: "NVFP4A16", partition: .afd(.init(ffnEP: 2, attentionTP: 2, router: .ffn))),
  ]

  private func options(
    resume: Bool = false, overwrite: Bool = false, archive: Bool = true, syncEvery: Int = 1 << 30
  ) -> ConversionOptions {
    ConversionOptions(
      threads: 2, overwrite: overwrite, resume: resume, syncEvery: syncEvery, archive: archive)
  }

  private func archive(_ plain: String, into name: String) async throws {
    _ = try await Archiver(harness.directory.path(plain), options: ArchivingOptions(threads: 2))
      .run(into: harness.directory.path(name))
  }

  private func written(_ name: String) throws -> [String: Data] {
    try contents(of: harness.directory.path(name))
  }

  private func refused(
    _ code: CheckpointError.Code, _ words: String, _ body: () async throws -> Void
  ) async {
    let error = await #expect(throws: CheckpointError.self) { try await body() }
    #expect(error?.code == code && error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  @Test("an archived output has the bytes of archiving the plain output", arguments: requests.indices)
  func sameBytes(index: Int) async throws {
    let request = Self.requests[index]
    try await harness.convert(source, request, into: "plain")
    try await archive("plain", into: "archived")
    let outcome = try await Conversion(harness.plan(source, request), options: options()).run(into: output)
    #expect(try written("output") == written("archived"))
    let archive = try #require(outcome.archive)
    #expect(archive.storedBytes < archive.bytes)
    // It reads as the plain output, and there is nothing left to do.
    let (opened, plain) = (try Location(output).open(), try Checkpoint.open(harness.directory.path("plain")))
    #expect(opened.tensors.map(\.name) == plain.tensors.map(\.name))
    for (mine, other) in zip(opened.tensors, plain.tensors) {
      #expect(try bytes(of: mine, in: opened) == bytes(of: other, in: plain))
    }
    let again = try await Conversion(harness.plan(source, request), options: options(resume: true))
      .run(into: output)
    #expect(again.wasComplete && again.archive == archive)
    #expect(try written("output") == written("archived"))
  }

  @Test("a run interrupted at any point and resumed gives the bytes of one run", arguments: 0..<8)
  func resumed(part: Int) async throws {
    let request = Self.requests[part % 2 == 0 ? 0 : 2]
    try await harness.convert(source, request, into: "whole", options: options())
    let planned = try harness.plan(source, request)
    let all = planned.plan.workBytes + planned.plan.outputBytes
    var archivedBefore = 0
    for stop in [part, part + 3] {
      let done = Atomic(0)
      let task = Mutex<Task<Void, any Error>?>(nil)
      let begun = Task {
        _ = try await Conversion(planned, options: options(resume: true, syncEvery: 1)).run(
          into: output,
          progress: { step in
            if done.add(step.bytes, ordering: .relaxed).newValue > all * stop / 12 {
              task.withLock { $0?.cancel() }
            }
          })
      }
      task.withLock { $0 = begun }
      _ = try? await begun.value
      let names = try Set(written("output").keys)
      if !names.contains("manifest.json") {
        #expect(throws: CheckpointError.self) { try Location(output).open() }
      }
      let archived = names.filter { $0.hasSuffix(".zst") }.count
      #expect(archived >= archivedBefore)
      archivedBefore = archived
    }
    _ = try await Conversion(planned, options: options(resume: true)).run(into: output)
    #expect(try written("output") == written("whole"))
  }

  @Test("damage to an archived file is reported by name and can be repaired") func damaged()
    async throws
  {
    let request = Self.requests[0]
    try await harness.convert(source, request, into: "whole", options: options())
    let planned = try harness.plan(source, request)
    // Stops when half of the output has been archived.
    let done = Atomic(0)
    let task = Mutex<Task<Void, any Error>?>(nil)
    let begun = Task {
      _ = try await Conversion(planned, options: options(syncEvery: 1)).run(
        into: output,
        progress: { step in
          guard step.tensor == nil else { return }
          if done.add(step.bytes, ordering: .relaxed).newValue > planned.plan.outputBytes / 2 {
            task.withLock { $0?.cancel() }
          }
        })
    }
    task.withLock { $0 = begun }
    await #expect(throws: CancellationError.self) { try await begun.value }
    let name = try #require(try written("output").keys.filter { $0.hasSuffix(".zst") }.min())
    let file = URL(filePath: "\(output)/\(name)")
    var bytes = try Data(contentsOf: file)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: file)
    await refused(.malformed, name) {
      _ = try await Conversion(planned, options: options(resume: true)).run(into: output)
    }
    try FileManager.default.removeItem(at: file)
    _ = try await Conversion(planned, options: options(resume: true)).run(into: output)
    #expect(try written("output") == written("whole"))
  }

  @Test("a plain output replaces an archived one, and the reverse") func replaced() async throws {
    let (first, second) = (Self.requests[0], Self.requests[3])
    try await harness.convert(source, first, into: "plain")
    try await harness.convert(source, second, into: "archived", options: options())
    try Data("mine".utf8).write(to: URL(filePath: harness.directory.path("plain") + "/mine.txt"))
    let notes = try written("plain").filter { $0.key == "mine.txt" }

    try await harness.convert(source, first, into: "output")
    try Data("mine".utf8).write(to: URL(filePath: "\(output)/mine.txt"))
    await refused(.cannotCreate, "another source or with other options") {
      _ = try await Conversion(harness.plan(source, first), options: options(resume: true)).run(into: output)
    }
    for _ in 0..<2 {
      try await harness.convert(source, second, into: "output", options: options(overwrite: true))
      #expect(try written("output") == written("archived").merging(notes) { first, _ in first })
    }
    try await harness.convert(
      source, first, into: "output", options: options(overwrite: true, archive: false))
    #expect(try written("output") == written("plain"))
  }

  @Test("an archive that a manifest lists but does not describe is not overwritten") func foreign()
    async throws
  {
    try await harness.convert(source, Self.requests[0], into: "output", options: options())
    let name = try #require(try written("output").keys.filter { $0.hasSuffix(".zst") }.min())
    try Data("something else".utf8).write(to: URL(filePath: "\(output)/\(name)"))
    await refused(.cannotCreate, name) {
      try await harness.convert(source, Self.requests[1], into: "output", options: options(overwrite: true))
    }
    #expect(try written("output")[name] == Data("something else".utf8))
  }

  @Test("an output begun plain is not resumed as an archive") func otherForm() async throws {
    let planned = try harness.plan(source, Self.requests[0])
    let task = Mutex<Task<Void, any Error>?>(nil)
    let begun = Task {
      _ = try await Conversion(planned, options: options(archive: false)).run(
        into: output, progress: { _ in task.withLock { $0?.cancel() } })
    }
    task.withLock { $0 = begun }
    await #expect(throws: CancellationError.self) { try await begun.value }
    await refused(.invalidRequest, "--archive") {
      _ = try await Conversion(planned, options: options(resume: true)).run(into: output)
    }
  }

  @Test("shares are archived when the output is sealed") func shares() async throws {
    let request = Self.requests[2]
    try await harness.convert(source, request, into: "whole", options: options())
    let conversion = try Conversion(harness.plan(source, request), options: options())
    for number in 1...2 {
      _ = try await conversion.run(try #require(ConversionShare(number, of: 2)), into: output)
    }
    #expect(throws: CheckpointError.self) { try Location(output).open() }
    #expect(try await conversion.seal(output).archive != nil)
    #expect(try written("output") == written("whole"))
  }
}
