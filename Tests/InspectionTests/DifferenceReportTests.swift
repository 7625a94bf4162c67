import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Inspection
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

@Suite("differences of checkpoints") struct DifferenceReportTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func checkpoint(_ name: String, _ add: (inout WeightFile) -> Void) throws -> Checkpoint {
    var file = WeightFile()
    add(&file)
    try file.write(to: directory.path("\(name).safetensors"))
    return try Checkpoint.open(directory.path("\(name).safetensors"))
  }

  private func convert(_ recipe: String, _ partition: ShardPlan.Partition = .none) async throws -> Checkpoint
  {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/tiny"))
    let plan = try ShardPlanner.plan(
      source, request: ShardPlan.Request(format: .safetensors, recipe: recipe, partition: partition),
      recipe: Recipe.named(recipe))
    _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(into: directory.path("out"))
    return try Checkpoint.open(directory.path("out"))
  }

  @Test func everyOutcome() async throws {
    let a = try checkpoint("a") { file in
      file.add("same", "F32", [Float(1), 2])
      file.add("other type", "F32", [Float(1), 2])
      file.add("values", "F32", [Float(1), 2, 3])
      file.add("shape", "F32", [Float(1), 2])
      file.add("kinds", "F32", [Float(1), 2])
      file.add("codes", "F8_E8M0", [UInt8(127), 128])
      file.add("flags", "BOOL", [UInt8(0), 1])
      file.add("gone", "F32", [Float(1)])
    }
    let b = try checkpoint("b") { file in
      file.add("new", "F32", [Float(1)])
      file.add("same", "F32", [Float(1), 2])
      file.add("other type", "BF16", WeightFile.bfloat16([1, 2]))
      file.add("values", "F32", [Float(1), 2, 5])
      file.add("shape", "F32", [Float(1), 2, 3])
      file.add("kinds", "I32", [Int32(1), 2])
      file.add("codes", "F8_E8M0", [UInt8(127), 128])
      file.add("flags", "U8", [UInt8(0), 1])
    }
    let report = try await DifferenceReport(a, b, threads: 2)
    #expect(report.onlyInA == ["gone"] && report.onlyInB == ["new"] && !report.equal)
    let outcomes = Dictionary(uniqueKeysWithValues: report.pairs.map { ($0.a.name, $0) })
    #expect(outcomes["same"] == nil && outcomes["codes"] == nil && report.summary.identical == 2)
    #expect(outcomes["other type"]?.outcome == .sameValues && outcomes["flags"]?.outcome == .sameValues)
    #expect(outcomes["values"]?.outcome == .different)
    #expect(outcomes["values"]?.errors?.firstIndex == 2 && outcomes["values"]?.errors?.maxAbs == 2)
    #expect(outcomes["shape"]?.outcome == .shape && outcomes["shape"]?.errors == nil)
    #expect(outcomes["shape"]?.b.shape.dimensions == [3])
    #expect(outcomes["kinds"]?.outcome == .notCompared)
    #expect(outcomes["kinds"]?.note == "values of F32 and I32 cannot be compared")
    // In the order of the first.
    #expect(report.pairs.map(\.a.name) == ["other type", "values", "shape", "kinds", "flags"])
  }

  @Test func exactnessIsAskedFor() async throws {
    let a = try checkpoint("a") { $0.add("w", "F32", [Float(1), 2]) }
    let b = try checkpoint("b") { $0.add("w", "BF16", WeightFile.bfloat16([1, 2])) }
    let lenient = try await DifferenceReport(a, b, threads: 1)
    let exact = try await DifferenceReport(a, b, exact: true, threads: 1)
    #expect(lenient.equal && !exact.equal)
  }

  @Test func aPartHasSomeElementsOnly() async throws {
    let set = try await convert("keep", .afd(ShardPlan.AFDLayout(ffnEP: 2)))
    let source = try Checkpoint.open(Fixtures.path("checkpoints/tiny"))
    #expect(try await DifferenceReport(set, source, threads: 2).equal)
    let part = try Checkpoint.open(directory.path("out/ffn-ep1"))
    let report = try await DifferenceReport(part, source, threads: 2)
    #expect(!report.equal && report.summary.different == 0)
    let experts = try #require(report.incomplete.first { $0.name == "model.layers.1.moe.up_proj.weight" })
    #expect(experts.inA * 2 == experts.elements && experts.inB == experts.elements)
    #expect(experts.inBoth == experts.inA)
    let reversed = try await DifferenceReport(source, part, threads: 2)
    #expect(reversed.onlyInA == report.onlyInB && reversed.onlyInB == report.onlyInA)
    #expect(reversed.incomplete.map(\.inBoth) == report.incomplete.map(\.inBoth))
  }

  @Test("reports do not depend on the number of threads", arguments: ["NVFP4A16", "W4A16_G32"])
  func threads(_ recipe: String) async throws {
    let made = try await convert(recipe)
    let source = try Checkpoint.open(Fixtures.path("checkpoints/tiny"))
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    var texts: Set<Data> = []
    for threads in [1, 2, 7] {
      texts.insert(try encoder.encode(try await DifferenceReport(made, source, threads: threads)))
    }
    #expect(texts.count == 1)
  }
}
