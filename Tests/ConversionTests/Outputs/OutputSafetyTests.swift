import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Quantization
import QuantizationRecipes
import Safetensors
import ShardPlanning
import TensorFormats
import Testing

/// Outputs are complete or marked unfinished, and nothing that was there is lost.
@Suite struct OutputSafetyTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try ConversionHarness() }

  private func failure(
    _ request: ConversionHarness.Request = .init(), into name: String = "output",
    options: ConversionOptions = ConversionOptions(threads: 2), source: String? = nil
  ) async -> CheckpointError? {
    await #expect(throws: CheckpointError.self) {
      try await harness.convert(source ?? tiny, request, into: name, options: options)
    }
  }

  @Test func anExistingOutputIsLeftAlone() async throws {
    try await harness.convert(tiny, .init())
    let before = try contents(of: harness.directory.path("output"))
    #expect(await failure()?.code == .cannotCreate)
    #expect(try contents(of: harness.directory.path("output")) == before)
  }

  @Test func overwritingReplacesOnlyWhatAConversionWrote() async throws {
    let overwrite = ConversionOptions(threads: 2, overwrite: true)
    try await harness.convert(tiny, .init())
    try await harness.convert(tiny, .init(format: .gguf, recipe: "F16"), options: overwrite)
    #expect(try Checkpoint.open(harness.directory.path("output")).format == .gguf)
    try FileSystem.createDirectory(harness.directory.path("precious"))
    try FileSystem.writeAtomically([1], to: harness.directory.path("precious/thesis.txt"))
    let error = await failure(into: "precious", options: overwrite)
    #expect(error?.message.contains("was not written by step3-convert") == true)
    try #expect(FileSystem.kind(of: harness.directory.path("precious/thesis.txt")) == .file)
  }

  @Test("a cancelled run leaves a directory marked unfinished") func cancellation() async throws {
    let directory = harness.directory.path("output")
    _ = try Checkpoint.open(tiny)
    let conversion = Conversion(
      try harness.plan(tiny, .init(partition: .afd(ShardPlan.AFDLayout()))),
      options: ConversionOptions(threads: 1))
    let task = Task {
      try await conversion.run(into: directory) { _ in
        withUnsafeCurrentTask { $0?.cancel() }
      }
    }
    await #expect(throws: CancellationError.self) { try await task.value }
    let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(directory) }
    #expect(error?.code == .unfinished)
    let manifest = #expect(throws: CheckpointError.self) { try Manifest.read(from: directory) }
    #expect(manifest?.code == .unfinished)
    // Engines find no weights in it either.
    let names = try contents(of: directory).keys
    #expect(!names.contains { $0.hasSuffix(".safetensors") || $0.hasSuffix("config.json") })
    // And the conversion can be started afresh.
    #expect(await failure()?.message == "holds an unfinished conversion")
    try await harness.convert(tiny, .init(), options: ConversionOptions(threads: 2, overwrite: true))
  }

  @Test func nonFiniteWeightsAreRefused() async throws {
    let layout = try SafetensorsLayout([
      SafetensorsLayout.Item(name: "layer.weight", elementType: .f32, shape: TensorShape([40, 64]))
    ])
    var file =
      layout.headerBytes + [UInt8](repeating: 0, count: layout.fileByteCount - layout.headerBytes.count)
    let place = layout.headerBytes.count + (33 * 64 + 7) * 4
    file.replaceSubrange(place..<place + 4, with: [0, 0, 0xC0, 0x7F])
    let path = harness.directory.path("nan.safetensors")
    try FileSystem.writeAtomically(file, to: path)
    let error = await failure(.init(recipe: "BF16"), source: path)
    #expect(error?.code == .nonFinite)
    #expect(error?.tensor == "layer.weight")
    #expect(error?.path == path)
    #expect(error?.message.contains("33") == true && error?.message.contains("7") == true)
    let options = ConversionOptions(threads: 2, overwrite: true)
    try await harness.convert(path, .init(recipe: "BF16", allowNonFinite: true), options: options)
    let output = try Checkpoint.open(harness.directory.path("output"))
    #expect(try values(of: "layer.weight", in: output)[33 * 64 + 7].isNaN)
  }

  @Test("a source that shrinks while it is read is an error") func truncatedSource() async throws {
    let copy = harness.directory.path("source")
    try FileManager.default.copyItem(atPath: tiny, toPath: copy)
    _ = try Checkpoint.open(copy)
    let planned = try harness.plan(copy, .init())
    let shard = "\(copy)/model-00003-of-00004.safetensors"
    let handle = try #require(FileHandle(forWritingAtPath: shard))
    try handle.truncate(atOffset: 100_000)
    let error = await #expect(throws: CheckpointError.self) {
      try await Conversion(planned, options: ConversionOptions(threads: 2))
        .run(into: harness.directory.path("output"))
    }
    #expect(error?.code == .truncated)
    #expect(error?.path == shard)
  }

  @Test func impossibleRequestsAreRefusedBeforeAnythingIsWritten() async throws {
    let minimum = harness.directory.path("nowhere/output")
    let error = await #expect(throws: CheckpointError.self) {
      try await Conversion(harness.plan(tiny, .init()), options: .init(threads: 1))
        .run(into: minimum)
    }
    #expect(error?.code == .cannotCreate)
    let odd = Fixtures.path("checkpoints/odd-fp8")
    let cut = #expect(throws: CheckpointError.self) {
      try harness.plan(odd, .init(partition: .afd(ShardPlan.AFDLayout(ffnEP: 2))))
    }
    #expect(cut?.message.contains("falls inside an FP8 tile") == true)
    let many = #expect(throws: CheckpointError.self) {
      try harness.plan(tiny, .init(partition: .afd(ShardPlan.AFDLayout(ffnEP: 9))))
    }
    #expect(many?.code == .invalidRequest)
    let wrong = #expect(throws: CheckpointError.self) { try harness.plan(tiny, .init(recipe: "Q4_K")) }
    #expect(wrong?.code == .unsupported)
  }
}
