import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ShardPlanning
import TensorFormats
import Testing
import Verification

/// A flipped bit anywhere in an output is found and located.
@Suite struct ChecksumTests {
  private let directory: TemporaryDirectory
  private let output: String

  init() throws {
    directory = try TemporaryDirectory()
    output = directory.path("output")
  }

  private func check() async throws -> ChecksumReport {
    try await ChecksumVerification(DirectoryStore(output), .init(threads: 2)).run()
  }

  /// Flips one bit while `body` runs.
  private func flip(
    _ file: String, at place: Int, bit: Int, _ body: () async throws -> Void
  ) async throws {
    let handle = try FileHandle(forUpdating: URL(filePath: "\(output)/\(file)"))
    defer { try? handle.close() }
    func turn() throws {
      try handle.seek(toOffset: UInt64(place))
      let byte = try #require(try handle.read(upToCount: 1)?.first, "\(file) has no byte \(place)")
      try handle.seek(toOffset: UInt64(place))
      try handle.write(contentsOf: [byte ^ (1 << bit)])
    }
    try turn()
    try await body()
    try turn()
  }

  private static let stored: [(Checkpoint.Format, String, ShardPlan.Partition)] = [
    (.safetensors, "FP8_BLOCK", .afd(ShardPlan.AFDLayout(ffnEP: 2))), (.gguf, "Q8_0", .none),
  ]

  @Test("a flipped bit in any file is found and located", arguments: [0, 1])
  func everyFile(index: Int) async throws {
    let (format, recipe, partition) = Self.stored[index]
    try await convert("tiny", format, recipe, partition, into: output)
    #expect(try await check().ok)
    let manifest = try Manifest.read(from: output)
    var generator = SeededGenerator(seed: 5)
    for record in manifest.files {
      let planned = manifest.plan.files.first { $0.path == record.path }
      // The first and last byte of the file and of its header, and bytes in between.
      var places: [(Int, String?)] = [(0, nil), (record.bytes / 2, nil), (record.bytes - 1, nil)]
      if let planned {
        places = [(0, nil), (9, nil), (planned.dataOffset / 2, nil), (planned.dataOffset - 1, nil)]
        var end = planned.dataOffset
        for tensor in planned.tensors {
          if tensor.offset > end { places.append((end, nil)) }
          end = tensor.offset + tensor.bytes
          places.append((tensor.offset + Int(generator.next() % UInt64(tensor.bytes)), tensor.name))
        }
        places.append((end - 1, planned.tensors.last?.name))
        if record.bytes > end { places.append((record.bytes - 1, nil)) }
      }
      for (place, tensor) in places {
        try await flip(record.path, at: place, bit: Int(generator.next() % 8)) {
          let report = try await check()
          #expect(!report.ok && report.findings.count == 1, "\(record.path) at \(place)")
          let finding = try #require(report.findings.first)
          #expect(finding.file == record.path && finding.tensor == tensor && finding.kind == .changed)
          #expect(finding.start ?? .max <= place && place < finding.end ?? 0)
        }
      }
    }
    // The bit has been flipped back.
    #expect(try await check().ok)
  }

  @Test func aChangedManifestIsFound() async throws {
    let (format, recipe, partition) = Self.stored[0]
    try await convert("tiny", format, recipe, partition, into: output)
    func place(_ file: String, of text: String) throws -> Int {
      try #require(
        Data(contentsOf: URL(filePath: "\(output)/\(file)")).firstRange(of: Data(text.utf8)), "\(text)"
      ).upperBound
    }
    // A digit of a digest, a size, a tensor's name.
    for text in [#""xxh3" : ""#, #""bytes" : "#, #""name" : "model."#] {
      try await flip("manifest.json", at: place("manifest.json", of: text), bit: 0) {
        // A manifest that contradicts itself is refused.
        let report = try? await check()
        #expect(report?.ok != true, "\(text)")
      }
    }
    // A part's manifest must agree with the whole's in every value.
    let file = "ffn-ep1/manifest.json"
    for text in [#""rmse" : 0."#, #""sha256" : ""#, #""xxh3" : ""#, "\"tool\" : \"", "{"] {
      try await flip(file, at: place(file, of: text), bit: 1) {
        let report = try await check()
        #expect(!report.ok && report.findings.map(\.file) == [file], "\(text)")
      }
    }
    try FileManager.default.removeItem(atPath: "\(output)/\(file)")
    let report = try await check()
    #expect(report.findings.map(\.kind) == [.missing] && report.findings.map(\.file) == [file])
  }

  @Test func shortLongAndExtraFilesAreFound() async throws {
    try await convert("tiny", .gguf, "Q8_0", into: output)
    let file = try #require(Manifest.read(from: output).plan.files.first?.path)
    let url = URL(filePath: "\(output)/\(file)")
    let data = try Data(contentsOf: url)
    try data.dropLast().write(to: url)
    #expect(try await check().findings.contains { $0.kind == .size && $0.file == file })
    try (data + [0]).write(to: url)
    #expect(try await check().findings.contains { $0.kind == .size && $0.file == file })
    try data.write(to: url)
    try Data("x".utf8).write(to: URL(filePath: "\(output)/notes.txt"))
    #expect(try await check().ok)
    try data.write(to: URL(filePath: "\(output)/more.gguf"))
    #expect(try await check().findings.contains { $0.kind == .extra && $0.fatal })
  }

  // MARK: The manifest and the files

  /// Changes the manifest and seals it again, as a knowing attacker would.
  private func rewrite(_ change: (inout [String: Any]) throws -> Void) throws {
    let url = URL(filePath: "\(output)/manifest.json")
    var root = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
    try change(&root)
    let text = try JSONSerialization.data(
      withJSONObject: root, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n", maxSplits: 2)
    var digester = SHA256Digester()
    digester.update(Array((lines[2] + "\n").utf8))
    try Data("{\n  \"digest\" : \"\(digester.finalize())\",\n\(lines[2])\n".utf8).write(to: url)
  }

  @Test("both digests of every file are computed, and without SHA-256 one of them")
  func digestsOfFiles() async throws {
    try await convert("tiny", .gguf, "Q8_0", into: output)
    let intact = try Data(contentsOf: URL(filePath: "\(output)/manifest.json"))
    let manifest = try Manifest.read(from: output)
    for (index, record) in manifest.files.enumerated() {
      for field in ["sha256", "xxh3"] {
        try intact.write(to: URL(filePath: "\(output)/manifest.json"))
        try rewrite { root in
          var files = try #require(root["files"] as? [[String: Any]])
          let digest = try #require(files[index][field] as? String)
          files[index][field] = (digest.hasPrefix("0") ? "1" : "0") + digest.dropFirst()
          root["files"] = files
        }
        let report = try? await check()
        let fast = try? await ChecksumVerification(
          DirectoryStore(output), .init(threads: 2, withSHA256: false)
        ).run()
        // The plan has the text of documents, so the manifest contradicts itself.
        if manifest.plan.parts[0].documents.contains(where: { $0.path == record.path }) {
          #expect(report == nil && fast == nil, "\(record.path)")
          continue
        }
        #expect(
          report?.findings.map(\.file) == [record.path] && report?.ok == false, "\(record.path) \(field)")
        #expect(fast?.ok == (field == "sha256") && fast?.sha256 == false, "\(record.path) \(field)")
      }
    }
    try intact.write(to: URL(filePath: "\(output)/manifest.json"))
    #expect(try await check().sha256)
  }

  @Test("a pinned root digest exposes a rewritten manifest")
  func pinnedDigest() async throws {
    try await convert("tiny", .gguf, "Q8_0", into: output)
    let pin = try Digest(hexadecimal: Manifest.read(from: output).digest)
    func pinned() async throws -> ChecksumReport {
      try await ChecksumVerification(DirectoryStore(output), .init(threads: 2, pin: pin)).run()
    }
    #expect(try await pinned().ok)
    // Everything is consistent again, but it is another output.
    try rewrite { root in
      var sources = try #require(root["sources"] as? [[String: Any]])
      sources[0]["sha256"] = String(repeating: "0", count: 64)
      root["sources"] = sources
    }
    #expect(try await check().ok)
    let report = try await pinned()
    #expect(!report.ok && report.findings.map(\.file) == ["manifest.json"])
    #expect(report.rootDigest == (try Manifest.read(from: output).digest))
    try FileManager.default.removeItem(atPath: "\(output)/manifest.json")
    #expect(try await !pinned().ok)
  }

  @Test("a missing manifest is a failure where there must be one") func missingManifest() async throws {
    let (format, recipe, partition) = Self.stored[0]
    try await convert("tiny", format, recipe, partition, into: output)
    let part = "\(output)/ffn-ep1"
    func check(_ directory: String, requiring: Bool) async throws -> ChecksumReport {
      try await ChecksumVerification(
        DirectoryStore(directory), .init(threads: 2, requiresManifest: requiring)
      ).run()
    }
    #expect(try await check(part, requiring: true).ok)
    try FileManager.default.removeItem(atPath: "\(part)/manifest.json")
    // Only conversions create parts, so the manifest must have been there.
    let report = try await check(part, requiring: false)
    #expect(!report.ok && !report.manifest && report.findings.map(\.kind) == [.missing])
    let foreign = Fixtures.path("checkpoints/tiny")
    #expect(try await check(foreign, requiring: false).ok)
    #expect(try await !check(foreign, requiring: true).ok)
  }

  @Test("an extra file that engines would load is a difference, any other is noted")
  func extraFiles() async throws {
    try await convert("tiny", .safetensors, "BF16", into: output)
    for (name, isFatal) in [
      ("README.md", false), ("notes.txt", false), ("picture.png", false), ("modeling_step3.py", true),
      ("pytorch_model.bin", true), ("adapter_config.json", true), ("tokenizer.model", true),
      ("chat_template.jinja", true), ("merges.txt", true), ("Model.GGUF", true),
    ] {
      try Data("x".utf8).write(to: URL(filePath: "\(output)/\(name)"))
      let report = try await check()
      #expect(report.ok == !isFatal && report.findings.map(\.file) == [name], "\(name)")
      try FileManager.default.removeItem(atPath: "\(output)/\(name)")
    }
  }

  @Test("an unreadable file does not keep the others from being checked", arguments: [true, false])
  func unreadableFile(whenOpened: Bool) async throws {
    let (format, recipe, partition) = Self.stored[0]
    try await convert("tiny", format, recipe, partition, into: output)
    let manifest = try Manifest.read(from: output)
    let victim = try #require(manifest.plan.files.first { $0.bytes > 100_000 })
    let other = try #require(manifest.files.last { $0.path.hasSuffix("config.json") }?.path)
    try await flip(other, at: 3, bit: 1) {
      let store = FailingStore(
        base: DirectoryStore(output), name: victim.path, failsAt: whenOpened ? nil : victim.bytes / 2)
      let report = try await ChecksumVerification(store, .init(threads: 2)).run()
      #expect(!report.ok && report.isIncomplete)
      #expect(report.findings.map(\.file).sorted() == [victim.path, other].sorted())
      let finding = try #require(report.findings.first { $0.file == victim.path })
      #expect(finding.kind == .unreadable && finding.start == (whenOpened ? nil : 0))
    }
  }
}
