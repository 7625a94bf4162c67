import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ShardPlanning
import Synchronization
import TensorFormats
import Testing
import Verification

/// An output is replaced at once by a complete one, and only files that a conversion wrote are removed.
@Suite struct OutputReplacementTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")
  private let files = FileManager.default
  private let overwrite = ConversionOptions(threads: 2, overwrite: true)
  private let resume = ConversionOptions(threads: 2, resume: true)

  private let set = ConversionHarness.Request(
    partition: .afd(ShardPlan.AFDLayout(ffnEP: 2)), maximumShardBytes: 2_000_000)
  private let otherSet = ConversionHarness.Request(
    recipe: "F32", partition: .afd(ShardPlan.AFDLayout(ffnEP: 1)), maximumShardBytes: 4_000_000)
  private let packed = ConversionHarness.Request(format: .gguf, recipe: "Q8_0", maximumShardBytes: 3_000_000)

  init() throws { harness = try ConversionHarness() }

  private func path(_ name: String) -> String { harness.directory.path(name) }

  /// The user's own files, at the top level and in a part.
  private func addStrangers(to output: String) throws -> [String: Data] {
    var strangers: [String: Data] = [:]
    for name in ["notes.txt", "papers/thesis.txt", "attention/mine.bin"] {
      let url = URL(filePath: path("\(output)/\(name)"))
      if name.hasPrefix("attention"), try FileSystem.kind(of: path("\(output)/attention")) == nil { continue }
      try files.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(name.utf8).write(to: url)
      strangers[name] = Data(name.utf8)
    }
    return strangers
  }

  private func identity(_ name: String) throws -> FileIdentity {
    try #require(try FileSystem.identity(of: path(name)))
  }

  @Test("foreign files stay in place and are named", arguments: [0, 1, 2]) func strangersStay(pair: Int)
    async throws
  {
    let (old, new) = [(set, packed), (packed, set), (set, otherSet)][pair]
    try await harness.convert(tiny, new, into: "reference")
    try await harness.convert(tiny, old)
    let strangers = try addStrangers(to: "output")
    let directory = try identity("output")
    let said = Mutex<[String]>([])
    _ = try await Conversion(harness.plan(tiny, new), options: overwrite)
      .run(into: path("output"), warn: { text in said.withLock { $0.append(text) } })
    let expected = try contents(of: path("reference")).merging(strangers) { $1 }
    #expect(try contents(of: path("output")) == expected)
    // The directory itself stays, so permissions, open shells and mounts do.
    #expect(try identity("output") == directory)
    let text = said.withLock { $0.joined() }
    #expect(text.contains("notes.txt") && text.contains("papers") && text.contains("left in place"))
    #expect(try FileSystem.names(in: path("output")).allSatisfy { !$0.hasPrefix(".") })
  }

  @Test("the old output stays complete until the new one is") func interruption() async throws {
    try await harness.convert(tiny, packed, into: "reference")
    try await harness.convert(tiny, set)
    let strangers = try addStrangers(to: "output")
    let before = try contents(of: path("output"))
    let directory = path("output")
    for (step, options) in [overwrite, overwrite, resume].enumerated() {
      let conversion = Conversion(try harness.plan(tiny, packed), options: options)
      let count = Mutex(0)
      let limit = 10 + step
      let task = Task {
        try await conversion.run(into: directory) { _ in
          if count.withLock({
            $0 += 1
            return $0
          }) == limit {
            withUnsafeCurrentTask { $0?.cancel() }
          }
        }
      }
      await #expect(throws: CancellationError.self) { try await task.value }
      let now = try contents(of: directory).filter { !$0.key.hasPrefix(".step3-convert.new/") }
      #expect(now == before)
      #expect(try Checkpoint.open(directory).parts.count > 1)
      #expect(try await ChecksumVerification(DirectoryStore(directory), .init(threads: 2)).run().ok)
    }
    let outcome = try await Conversion(harness.plan(tiny, packed), options: resume)
      .run(into: directory)
    #expect(outcome.reusedUnits > 0 && !outcome.wasComplete)
    let expected = try contents(of: path("reference")).merging(strangers) { $1 }
    #expect(try contents(of: directory) == expected)
  }

  @Test("another --overwrite discards what was begun; --resume of another conversion is refused")
  func anotherReplacement()
    async throws
  {
    try await harness.convert(tiny, set)
    let conversion = Conversion(try harness.plan(tiny, packed), options: overwrite)
    let directory = path("output")
    let task = Task {
      try await conversion.run(into: directory) { _ in withUnsafeCurrentTask { $0?.cancel() } }
    }
    await #expect(throws: CancellationError.self) { try await task.value }
    // The old output is what is asked for, so resuming succeeds.
    try await harness.convert(tiny, set, options: resume)
    let error = await #expect(throws: CheckpointError.self) {
      try await harness.convert(tiny, otherSet, options: resume)
    }
    #expect(error?.code == .invalidRequest)
    try await harness.convert(tiny, otherSet, options: overwrite)
    try await harness.convert(tiny, otherSet, into: "reference")
    #expect(try contents(of: directory) == contents(of: path("reference")))
  }

  @Test("a foreign file in the way is refused, and nothing changes") func inTheWay() async throws {
    try await harness.convert(tiny, set)
    try FileSystem.writeAtomically([1], to: path("output/config.json"))
    let before = try contents(of: path("output"))
    let error = await #expect(throws: CheckpointError.self) {
      try await harness.convert(tiny, packed, options: overwrite)
    }
    #expect(error?.code == .cannotCreate && error?.path?.hasSuffix("output/config.json") == true)
    #expect(try contents(of: path("output")) == before)
    try files.removeItem(atPath: path("output/config.json"))
    // A listed name that has become a link is no longer a file of ours.
    let listed = "attention/config.json"
    try files.moveItem(atPath: path("output/\(listed)"), toPath: path("elsewhere"))
    try files.createSymbolicLink(atPath: path("output/\(listed)"), withDestinationPath: path("elsewhere"))
    try await harness.convert(tiny, packed, options: overwrite)
    try #expect(FileSystem.kind(of: path("elsewhere")) == .file)
    #expect(try files.destinationOfSymbolicLink(atPath: path("output/\(listed)")) == path("elsewhere"))
  }

  @Test("a foreign or unsound manifest protects everything beside it")
  func foreignManifests() async throws {
    try await harness.convert(tiny, packed)
    let manifest = try String(contentsOfFile: path("output/manifest.json"), encoding: .utf8)
    let variants = [
      #"{"name": "a web app", "version": 3, "icons": [], "files": [{"path": "other.bin"}], "start_url": "/index.html"}"#,
      "{}", "[]", "", "null",
      manifest.replacing("\"version\" : \(Manifest.currentVersion)", with: "\"version\" : 99"),
      manifest.replacing("model-00001-of", with: "../model-00001-of"),
      manifest.replacing("model-00001-of", with: "/model-00001-of"),
      manifest.replacing("\"tool\" : ", with: "\"tool\" : \"0\", \"tool\" : "),
    ]
    for text in variants {
      #expect(text != manifest)
      try Data(text.utf8).write(to: URL(filePath: path("output/manifest.json")))
      let before = try contents(of: path("output"))
      let error = await #expect(throws: CheckpointError.self) {
        try await harness.convert(tiny, set, options: overwrite)
      }
      #expect(error?.code == .cannotCreate && error?.message.contains("was not written by") == true)
      #expect(try contents(of: path("output")) == before)
    }
  }
}

// MARK: - The exchange, interrupted at every step

extension OutputReplacementTests {
  /// The documented exchange as a list of single steps.
  private struct Exchange {
    let root: String
    let old: ShardPlan
    let new: ShardPlan
    static let title =
      "step3-convert journal 4: this directory is unfinished; the same command with --resume goes on.\n"

    private func names(_ plan: ShardPlan) -> [String] {
      plan.files.map(\.path) + plan.parts.flatMap { $0.documents.map(\.path) + $0.copies.map(\.path) }
    }
    private func parts(_ plan: ShardPlan) -> [String] { plan.parts.map(\.directory).filter { !$0.isEmpty } }

    var steps: [() throws -> Void] {
      let files = FileManager.default
      let (new, old) = (".step3-convert.new", ".step3-convert.old")
      func full(_ name: String) -> String { "\(root)/\(name)" }
      func move(_ from: String, _ to: String) -> () throws -> Void {
        { try files.moveItem(atPath: full(from), toPath: full(to)) }
      }
      func mark(_ directory: String) -> () throws -> Void {
        { try Data(Self.title.utf8).write(to: URL(filePath: full(directory + "step3-convert.journal"))) }
      }
      func make(_ name: String) -> () throws -> Void {
        { try files.createDirectory(atPath: full(name), withIntermediateDirectories: true) }
      }
      func remove(_ name: String) -> () throws -> Void { { try files.removeItem(atPath: full(name)) } }
      func dissolve(_ name: String) -> () throws -> Void {
        { FileSystem.removeDirectoryIfEmpty(full(name)) }
      }
      var steps = [mark(""), make(old)]
      for part in parts(self.old) { steps.append(mark(part + "/")) }
      steps.append(move("manifest.json", "\(old)/manifest.json"))
      for part in parts(self.old) { steps.append(make("\(old)/\(part)")) }
      for name in names(self.old) + parts(self.old).map({ $0 + "/manifest.json" }) {
        steps.append(move(name, "\(old)/\(name)"))
      }
      for part in parts(self.old) where !parts(self.new).contains(part) {
        steps += [remove(part + "/step3-convert.journal"), dissolve(part)]
      }
      for part in parts(self.new) { steps += [make(part), mark(part + "/")] }
      for name in names(self.new) { steps.append(move("\(new)/\(name)", name)) }
      for part in parts(self.new) {
        steps += [
          move("\(new)/\(part)/manifest.json", "\(part)/manifest.json"),
          remove(part + "/step3-convert.journal"),
        ]
      }
      return steps + [
        move("\(new)/manifest.json", "manifest.json"), remove("step3-convert.journal"), remove(old),
      ]
    }
  }

  @Test("an exchange interrupted at any step can be continued", arguments: [0, 1, 2]) func everyPoint(
    pair: Int
  )
    async throws
  {
    let (old, new) = [(set, packed), (packed, set), (set, otherSet)][pair]
    let before = try await harness.convert(tiny, old, into: "old")
    let after = try await harness.convert(tiny, new, into: "new")
    let strangers = try addStrangers(to: "old")
    let expected = try contents(of: path("new")).merging(strangers) { $1 }
    let root = path("output")
    let exchange = Exchange(root: root, old: before.plan, new: after.plan)
    let planned = try harness.plan(tiny, new)
    for count in 0...exchange.steps.count {
      try files.copyItem(atPath: path("old"), toPath: root)
      try files.copyItem(atPath: path("new"), toPath: "\(root)/.step3-convert.new")
      for step in exchange.steps.prefix(count) { try step() }
      // Whatever is there is complete or marked unfinished.
      if try FileSystem.isTaken("\(root)/manifest.json") {
        #expect(try await ChecksumVerification(DirectoryStore(root), .init(threads: 2)).run().ok, "\(count)")
      } else {
        let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(root) }
        #expect(error?.code == .unfinished, "\(count)")
      }
      for part in before.plan.parts + after.plan.parts
      where try FileSystem.kind(of: "\(root)/\(part.directory)") == .directory {
        if let own = try? Checkpoint.open("\(root)/\(part.directory)") {
          try #expect(FileSystem.isTaken(own.store.path(of: "manifest.json")), "\(count) \(part.directory)")
        }
      }
      _ = try await Conversion(planned, options: count % 2 == 0 ? resume : overwrite).run(
        into: root)
      #expect(try contents(of: root) == expected, "\(count)")
      try files.removeItem(atPath: root)
    }
  }

  @Test("an interrupted removal of the old output can be continued", arguments: [0, 3, 1000])
  func removalInterrupted(count: Int) async throws {
    try await harness.convert(tiny, packed, into: "reference")
    let old = try await harness.convert(tiny, set)
    let strangers = try addStrangers(to: "output")
    for options in [resume, overwrite] {
      let root = path("copy-\(options.resume)")
      try files.copyItem(atPath: path("output"), toPath: root)
      try Data(Exchange.title.utf8).write(to: URL(filePath: "\(root)/step3-convert.journal"))
      try FileSystem.createDirectory("\(root)/.step3-convert.old")
      try files.moveItem(atPath: "\(root)/manifest.json", toPath: "\(root)/.step3-convert.old/manifest.json")
      for record in old.files.prefix(count) { try files.removeItem(atPath: "\(root)/\(record.path)") }
      _ = try await Conversion(harness.plan(tiny, packed), options: options).run(
        into: root)
      let expected = try contents(of: path("reference")).merging(strangers) { $1 }
      #expect(try contents(of: root) == expected)
    }
  }
}
