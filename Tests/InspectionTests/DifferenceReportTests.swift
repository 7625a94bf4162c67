import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Inspection
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

@Suite("differences between checkpoints") struct DifferenceReportTests {
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

  @Test func everyOutcomeIsReported() async throws {
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
    // In the order of the first checkpoint.
    #expect(report.pairs.map(\.a.name) == ["other type", "values", "shape", "kinds", "flags"])
  }

  @Test func bytesAreComparedOnRequest() async throws {
    let a = try checkpoint("a") { $0.add("w", "F32", [Float(1), 2]) }
    let b = try checkpoint("b") { $0.add("w", "BF16", WeightFile.bfloat16([1, 2])) }
    let lenient = try await DifferenceReport(a, b, threads: 1)
    let exact = try await DifferenceReport(a, b, request: .init(exact: true), threads: 1)
    #expect(lenient.equal && !exact.equal)
  }

  @Test func aPartIsReportedAsIncomplete() async throws {
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

  @Test func pairsCanBeSortedByError() async throws {
    let base: [Float] = (0..<1000).map { Float($0) + 1 }
    func changed(_ position: Int, by difference: Float) -> [Float] {
      var values = base
      values[position] += difference
      return values
    }
    let a = try checkpoint("a") { file in
      for name in ["same type", "little", "tie", "much", "infinite", "bent", "zero"] {
        file.add(name, "F32", name == "zero" ? [Float](repeating: 0, count: 1000) : base)
      }
    }
    let b = try checkpoint("b") { file in
      file.add("same type", "F64", base.map(Double.init))
      file.add("little", "F32", changed(3, by: 1))
      file.add("tie", "F32", changed(30, by: -1))
      file.add("much", "F32", changed(7, by: 100))
      file.add("infinite", "F32", changed(9, by: .infinity))
      file.add("bent", "F32", [10, 100], base)
      file.add("zero", "F32", changed(0, by: 0))
    }
    let worst = try await DifferenceReport(a, b, request: .init(order: .worst), threads: 2)
    #expect(
      worst.pairs.map(\.a.name) == ["bent", "infinite", "zero", "much", "little", "tie", "same type"])
    let stored = try await DifferenceReport(a, b, threads: 2)
    #expect(stored.pairs.map(\.a.name) == ["same type", "little", "tie", "much", "infinite", "bent", "zero"])
    let norm = base.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    for (index, difference) in [(3, 100.0), (4, 1.0), (5, 1.0)] {
      #expect(abs(try #require(worst.pairs[index].errors?.relative) - difference / norm) < 1e-15)
    }
    // Relative to zeros there is no relative error.
    #expect(worst.pairs[2].errors?.relative == nil && worst.pairs[2].errors?.maxAbs == 1000)
  }

  /// Most units of the pair are equal byte for byte, and still count.
  @Test func theRelativeErrorIsThatOfTheWholeTensor() async throws {
    let base: [Float] = (0..<300_000).map { Float($0 % 97) - 40 }
    var other = base
    other[200_000] += 3
    let a = try checkpoint("a") { $0.add("w", "F32", base) }
    let b = try checkpoint("b") { $0.add("w", "F32", other) }
    let norm = base.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    let errors = try #require(try await DifferenceReport(a, b, threads: 2).pairs.first?.errors)
    #expect(abs(try #require(errors.relative) - 3 / norm) < 1e-15)
    #expect(errors.count == 1 && errors.firstIndex == 200_000 && errors.rmse == (9.0 / 300_000).squareRoot())
  }

  @Test func headersAloneReadNothing() async throws {
    let a = try checkpoint("a") { file in
      file.add("same", "F32", [Float(1), 2])
      file.add("other type", "F32", [Float(1), 2])
      file.add("shape", "F32", [Float(1), 2])
    }
    let b = try checkpoint("b") { file in
      file.add("same", "F32", [Float(5), 6])
      file.add("other type", "BF16", WeightFile.bfloat16([1, 2]))
      file.add("shape", "F32", [Float(1), 2, 3])
    }
    let request = DifferenceReport.Request(headersOnly: true, order: .worst)
    // The data is truncated, so any read would fail.
    for name in ["a", "b"] {
      let handle = try #require(FileHandle(forWritingAtPath: directory.path("\(name).safetensors")))
      try handle.truncate(atOffset: try handle.seekToEnd() - 8)
    }
    let report = try await DifferenceReport(a, b, request: request, threads: 2)
    #expect(report.headersOnly && !report.equal)
    #expect(report.pairs.map(\.a.name) == ["shape", "other type"])
    #expect(report.summary.sameHeader == 1 && report.summary.otherType == 1 && report.summary.shape == 1)
    #expect(try await DifferenceReport(a, a, request: request, threads: 2).equal)
  }

  @Test func tensorsAreSelectedByName() async throws {
    let a = try checkpoint("a") { file in
      file.add("model.layers.0.x", "F32", [Float(1)])
      file.add("other", "F32", [Float(1)])
    }
    let b = try checkpoint("b") { $0.add("model.layers.0.x", "F32", [Float(1)]) }
    func report(_ prefix: String) async throws -> DifferenceReport {
      try await DifferenceReport(a, b, request: .init(matches: { $0.hasPrefix(prefix) }), threads: 1)
    }
    #expect(try await report("model").equal)
    #expect(try await report("oth").onlyInA == ["other"])
    // Comparing nothing does not mean that nothing differs.
    let error = await #expect(throws: CheckpointError.self) { try await report("nothing") }
    #expect(error?.code == .invalidRequest)
  }
}
