import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ShardPlanning
import TensorFormats
import Testing

/// A conversion never writes where it reads, under whatever names.
@Suite struct SourceOverlapTests {
  private let harness: ConversionHarness
  private let files = FileManager.default
  private let afd = ConversionHarness.Request(partition: .afd(ShardPlan.AFDLayout(ffnEP: 2)))

  init() throws { harness = try ConversionHarness() }

  private func path(_ name: String) -> String { harness.directory.path(name) }

  private static let modes = [
    ConversionOptions(threads: 1), ConversionOptions(threads: 1, overwrite: true),
    ConversionOptions(threads: 1, resume: true),
  ]

  /// Expects every mode of converting to be refused, to name both paths, and to change nothing.
  private func expectRefusal(
    of source: String, into named: String, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let before = try contents(of: harness.directory.path)
    let output = named.hasSuffix("/") ? String(named.dropLast()) : named
    for options in Self.modes {
      let error = await #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
        try await harness.convert(path(source), .init(recipe: "BF16"), into: named, options: options)
      }
      #expect(error?.code == .cannotCreate, sourceLocation: sourceLocation)
      if options.overwrite {
        #expect(
          error?.message.contains("the output must not overlap the source") == true,
          "\(error?.description ?? "")", sourceLocation: sourceLocation)
        #expect(
          error?.description.contains(path(source)) == true && error?.description.contains(output) == true,
          "\(error?.description ?? "")", sourceLocation: sourceLocation)
      }
    }
    #expect(try contents(of: harness.directory.path) == before, sourceLocation: sourceLocation)
  }

  private func link(_ name: String, to target: String) throws {
    try files.createSymbolicLink(atPath: path(name), withDestinationPath: target)
  }

  @Test("the source directory as the output is refused under every name") func itself() async throws {
    try await harness.convert(Fixtures.path("checkpoints/tiny"), .init(), into: "work")
    try link("link", to: "work")
    try link("again", to: path("link"))
    for name in ["work", "work/", "link", "again", "work/.", "work/../link"] {
      try await expectRefusal(of: "work", into: name)
      try await expectRefusal(of: name, into: "work")
    }
  }

  @Test("an output inside the source, or around it, is refused") func nested() async throws {
    try await harness.convert(Fixtures.path("checkpoints/tiny"), .init(), into: "work")
    try await expectRefusal(of: "work", into: "work/output")
    try files.createDirectory(atPath: path("work/there/deep"), withIntermediateDirectories: true)
    try await expectRefusal(of: "work", into: "work/there/deep/output")
    try link("deep", to: "work/there/deep")
    try await expectRefusal(of: "work", into: "deep")
    try await expectRefusal(of: "work", into: "deep/output")
    // Around the source: a directory with an output of its own that contains the source.
    try await harness.convert(
      Fixtures.path("checkpoints/tiny"), .init(format: .gguf, recipe: "Q8_0"), into: "outer")
    try files.moveItem(atPath: path("work"), toPath: path("outer/inner"))
    try await expectRefusal(of: "outer/inner", into: "outer")
    let file = try #require(Manifest.read(from: path("outer/inner")).plan.files.first?.path)
    try await expectRefusal(of: "outer/inner/\(file)", into: "outer")
  }

  @Test("a source file inside the output, or linked with it, is refused") func singleFiles() async throws {
    let odd = Fixtures.path("checkpoints/odd-fp8")
    try await harness.convert(odd, .init(recipe: "F32"), into: "work")
    let file = try #require(Manifest.read(from: path("work")).plan.files.first?.path)
    try await expectRefusal(of: "work/\(file)", into: "work")
    try link("soft.safetensors", to: "work/\(file)")
    try await expectRefusal(of: "soft.safetensors", into: "work")
    try files.linkItem(atPath: path("work/\(file)"), toPath: path("hard.safetensors"))
    let error = await #expect(throws: CheckpointError.self) {
      try await harness.convert(
        path("hard.safetensors"), .init(recipe: "BF16"), into: "work", options: Self.modes[1])
    }
    #expect(error?.message.contains("under another name") == true && error?.code == .cannotCreate)
    // An output beside a source file, in the same directory, is allowed: the source is not inside it.
    try await harness.convert(path("hard.safetensors"), .init(recipe: "BF16"), into: "beside")
    // A link inside the output that leads out to the source.
    try files.createDirectory(atPath: path("store"), withIntermediateDirectories: false)
    try files.moveItem(atPath: path("hard.safetensors"), toPath: path("store/model.safetensors"))
    try files.removeItem(atPath: path("beside/\(file)"))
    try link("beside/\(file)", to: "../store/model.safetensors")
    try await expectRefusal(of: "beside/\(file)", into: "beside")
    let out = await #expect(throws: CheckpointError.self) {
      try await harness.convert(
        path("store/model.safetensors"), .init(recipe: "BF16"), into: "beside", options: Self.modes[1])
    }
    #expect(out?.message.contains("under another name") == true)
    try #expect(FileSystem.size(of: path("store/model.safetensors")) ?? 0 > 0)
  }

  @Test("a part of the source's set, and the set of a source part, are refused as outputs")
  func partitionSets() async throws {
    try await harness.convert(Fixtures.path("checkpoints/tiny"), afd, into: "set")
    try await expectRefusal(of: "set/ffn-ep0", into: "set")
    // A part that lies elsewhere still belongs to the set.
    try files.moveItem(atPath: path("set/attention"), toPath: path("elsewhere"))
    try link("set/attention", to: "../elsewhere")
    let planned = try harness.plan(path("set"), .init())
    for output in ["set", "set/ffn-ep0", "set/new", "elsewhere", "elsewhere/new", "set/attention/new"] {
      let before = try contents(of: harness.directory.path)
      for options in Self.modes {
        let error = await #expect(throws: CheckpointError.self) {
          try await Conversion(planned, options: options).run(into: path(output))
        }
        #expect(
          error?.code == .cannotCreate && error?.message.contains("must not overlap the source") == true,
          "\(output)")
      }
      #expect(try contents(of: harness.directory.path) == before)
    }
  }

  @Test("an output that holds the blobs of a linked snapshot is refused") func linkedSnapshot() async throws {
    // As in Hugging Face's cache: the weights are links to blobs.
    try await harness.convert(Fixtures.path("checkpoints/tiny"), .init(), into: "blobs")
    try files.createDirectory(atPath: path("snapshot"), withIntermediateDirectories: false)
    for name in try FileSystem.names(in: path("blobs")) where name != "manifest.json" {
      try link("snapshot/\(name)", to: "../blobs/\(name)")
    }
    let before = try contents(of: path("blobs"))
    for options in Self.modes {
      let error = await #expect(throws: CheckpointError.self) {
        try await harness.convert(path("snapshot"), .init(recipe: "BF16"), into: "blobs", options: options)
      }
      #expect(error?.code == .cannotCreate)
    }
    #expect(try contents(of: path("blobs")) == before)
  }
}
