import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ShardPlanning
import TensorFormats
import Testing

/// Nothing is written through a link in OUTPUT, symbolic or hard, and no file that somebody
/// else put there is overwritten.
@Suite struct OutputLinksTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")
  private let request = ConversionHarness.Request(
    partition: .afd(ShardPlan.AFDLayout(ffnEP: 2)), maximumShardBytes: 2_000_000)
  private let files = FileManager.default

  init() throws { harness = try ConversionHarness() }

  private func path(_ name: String) -> String { harness.directory.path(name) }

  private func interrupt() async throws {
    let conversion = Conversion(try harness.plan(tiny, request), options: ConversionOptions(threads: 1))
    let output = path("output")
    let task = Task {
      try await conversion.run(into: output) { _ in withUnsafeCurrentTask { $0?.cancel() } }
    }
    await #expect(throws: CancellationError.self) { try await task.value }
  }

  private static let planted = [
    "attention/model-00001-of-00002.safetensors.unfinished", "attention/config.json",
    "attention/config.json.writing", "manifest.json", "manifest.json.writing", "step3-convert.journal",
    "attention/step3-convert.journal", "attention/manifest.json", "ffn-ep1",
    "attention/model-00001-of-00002.safetensors",
  ]

  @Test("a symbolic link in a resumed output is not followed", arguments: planted) func symbolic(name: String)
    async throws
  {
    try await interrupt()
    let isDirectory = try FileSystem.kind(of: path("output/\(name)")) == .directory
    let target = path("elsewhere")
    if try FileSystem.isTaken(path("output/\(name)")) {
      try files.moveItem(atPath: path("output/\(name)"), toPath: target)
    } else {
      try FileSystem.writeAtomically(Array("precious".utf8), to: target)
    }
    try files.createSymbolicLink(atPath: path("output/\(name)"), withDestinationPath: target)
    let before = isDirectory ? try contents(of: target) : ["": try Data(contentsOf: URL(filePath: target))]
    for options in [
      ConversionOptions(threads: 2, resume: true), ConversionOptions(threads: 2, overwrite: true),
    ] {
      let error = await #expect(throws: CheckpointError.self) {
        try await harness.convert(tiny, request, options: options)
      }
      #expect(error?.code == .cannotCreate, "\(error?.description ?? "")")
      #expect(error?.description.contains("link") == true, "\(error?.description ?? "")")
    }
    let after = isDirectory ? try contents(of: target) : ["": try Data(contentsOf: URL(filePath: target))]
    #expect(after == before)
    #expect(try files.destinationOfSymbolicLink(atPath: path("output/\(name)")) == target)
  }

  @Test("a file with a second hard link is not continued") func hard() async throws {
    try await interrupt()
    let name = "attention/model-00001-of-00002.safetensors.unfinished"
    try files.removeItem(atPath: path("output/\(name)"))
    try FileSystem.writeAtomically(Array("precious".utf8), to: path("elsewhere"))
    try files.linkItem(atPath: path("elsewhere"), toPath: path("output/\(name)"))
    let error = await #expect(throws: CheckpointError.self) {
      try await harness.convert(tiny, request, options: ConversionOptions(threads: 2, resume: true))
    }
    #expect(error?.code == .cannotCreate && error?.path?.hasSuffix(name) == true)
    #expect(try Data(contentsOf: URL(filePath: path("elsewhere"))) == Data("precious".utf8))
    // Starting afresh removes that name and makes a new file.
    try await harness.convert(tiny, request, options: ConversionOptions(threads: 2, overwrite: true))
    #expect(try Data(contentsOf: URL(filePath: path("elsewhere"))) == Data("precious".utf8))
  }

  @Test(
    "a foreign file in an unfinished output is refused",
    arguments: [
      "attention/config.json", "attention/model-00001-of-00002.safetensors", "ffn-ep0/manifest.json",
    ])
  func foreign(name: String) async throws {
    try await interrupt()
    try FileSystem.writeAtomically(Array("precious".utf8), to: path("output/\(name)"))
    for options in [
      ConversionOptions(threads: 2, resume: true), ConversionOptions(threads: 2, overwrite: true),
    ] {
      let error = await #expect(throws: CheckpointError.self) {
        try await harness.convert(tiny, request, options: options)
      }
      #expect(
        error?.code == .cannotCreate && error?.path?.hasSuffix(name) == true, "\(error?.description ?? "")")
    }
    #expect(try Data(contentsOf: URL(filePath: path("output/\(name)"))) == Data("precious".utf8))
    try files.removeItem(atPath: path("output/\(name)"))
    try await harness.convert(tiny, request, options: ConversionOptions(threads: 2, resume: true))
  }

  @Test("OUTPUT itself may be a symbolic link") func linkedOutput() async throws {
    try files.createDirectory(atPath: path("disk"), withIntermediateDirectories: false)
    try files.createSymbolicLink(atPath: path("output"), withDestinationPath: path("disk"))
    try await harness.convert(tiny, request, options: ConversionOptions(threads: 2, resume: true))
    #expect(try Manifest.read(from: path("disk")).plan.parts.count > 1)
    try await harness.convert(tiny, .init(), options: ConversionOptions(threads: 2, overwrite: true))
    #expect(try files.destinationOfSymbolicLink(atPath: path("output")) == path("disk"))
    try files.removeItem(atPath: path("disk"))
    let error = await #expect(throws: CheckpointError.self) { try await harness.convert(tiny, request) }
    #expect(error?.code == .cannotCreate && error?.message.contains("is a dangling symbolic link") == true)
    // A trailing slash changes nothing.
    try await harness.convert(tiny, .init(), into: "plain/")
    #expect(try Checkpoint.open(path("plain")).format == .safetensors)
  }
}
