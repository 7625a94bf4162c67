import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ShardPlanning
import TensorFormats
import Testing
import Verification

/// One wrong bit anywhere in an output is found, and said to be where it is.
@Suite struct ChecksumTests {
  private let directory: TemporaryDirectory
  private let output: String

  init() throws {
    directory = try TemporaryDirectory()
    output = directory.path("output")
  }

  private func check() async throws -> ChecksumReport {
    try await ChecksumVerification(DirectoryStore(output), threads: 2).run()
  }

  /// Turns one bit round while `body` looks.
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

  @Test("a flipped bit in any file", arguments: [0, 1])
  func everyFile(index: Int) async throws {
    let (format, recipe, partition) = Self.stored[index]
    try await convert("tiny", format, recipe, partition, into: output)
    #expect(try await check().ok)
    let manifest = try Manifest.read(from: output)
    var generator = SeededGenerator(seed: 5)
    for record in manifest.files {
      let planned = manifest.plan.files.first { $0.path == record.path }
      // The first and last byte of the file, of its header, and what lies between.
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
    // Nothing of it was left behind.
    #expect(try await check().ok)
  }

  @Test func aManifestThatIsNotWhatWasWritten() async throws {
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
        // What contradicts itself is no manifest.
        let report = try? await check()
        #expect(report?.ok != true, "\(text)")
      }
    }
    // A part's own says the same as the whole, in every value.
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

  @Test func filesThatAreTooShortOrTooLongOrExtra() async throws {
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
}
