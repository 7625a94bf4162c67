import Checkpoint
import CheckpointTesting
import Comparison
import Conversion
import StoredWeights
import Quantization
import ParallelWork
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// Which weights are paired, and which elements of them.
@Suite("pairing weights") struct WeightPairingTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func weights(_ path: String) throws -> ModelWeights { try ModelWeights(Checkpoint.open(path)) }

  private func source(_ fixture: String) throws -> ModelWeights {
    try weights(Fixtures.path("checkpoints/\(fixture)"))
  }

  private func convert(
    _ fixture: String, to format: Checkpoint.Format = .safetensors, recipe: String = "keep",
    ep: Int? = nil, as name: String
  ) async throws -> ModelWeights {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    let partition = ep.map { ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnEP: $0)) } ?? .none
    let plan = try ShardPlanner.plan(
      source, request: ShardPlan.Request(format: format, recipe: recipe, partition: partition),
      recipe: Recipe.named(recipe, for: format == .gguf ? .gguf : .safetensors))
    _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(into: directory.path(name))
    return try weights(directory.path(name))
  }

  private func pairing(
    _ a: ModelWeights, _ b: ModelWeights, _ counterpart: WeightPairing.Counterpart = .pieces
  ) throws -> [WeightPairing.Match] {
    try WeightPairing([.init(a)], b, with: counterpart).matches
  }

  @Test(arguments: [WeightPairing.Counterpart.pieces, .weight])
  func ggufNamesArePairedWithPublishedOnes(_ counterpart: WeightPairing.Counterpart) async throws {
    let original = try source("tiny")
    let matches = try pairing(
      await convert("tiny", to: .gguf, recipe: "Q8_0", as: "q8"), original, counterpart)
    #expect(Set(matches.map(\.name)) == Set(original.names))
    for match in matches {
      #expect(match.hasSameShape && match.pairs.count == 1 && match.unmatched.isEmpty, "\(match.name)")
      #expect(match.pairs.allSatisfy { $0.box.isWhole })
    }
  }

  @Test func weightsOfOneSideOnlyAreUnpaired() throws {
    for (name, tensors) in [
      ("a", [("both", 4), ("shape", 2), ("a", 1)]), ("b", [("both", 4), ("shape", 3), ("b", 1)]),
    ] {
      var file = WeightFile()
      for (name, count) in tensors { file.add(name, "F32", [Float](repeating: 1, count: count)) }
      try file.write(to: directory.path("\(name).safetensors"))
    }
    let matches = try pairing(
      weights(directory.path("a.safetensors")), weights(directory.path("b.safetensors")))
    #expect(matches.map(\.name) == ["both", "shape", "a", "b"])
    #expect(matches.map { $0.a != nil } == [true, true, true, false])
    #expect(matches.map { $0.b != nil } == [true, true, false, true])
    #expect(matches.map(\.hasSameShape) == [true, false, false, false])
    #expect(matches.map(\.pairs.count) == [1, 0, 0, 0])
    let filtered = try WeightPairing(
      [.init(weights(directory.path("a.safetensors")))], weights(directory.path("b.safetensors")),
      with: .pieces,
      isWanted: { $0.count == 1 })
    #expect(filtered.matches.map(\.name) == ["a", "b"])
  }

  @Test(
    "each part's slices are paired with the whole weight, and every element is covered",
    arguments: ["tiny", "odd"])
  func partsAndTheWhole(_ fixture: String) async throws {
    let original = try source(fixture)
    let set = try await convert(fixture, ep: 2, as: "set")
    for (a, b) in [(set, original), (original, set)] {
      for match in try pairing(a, b) {
        let boxes = Set(match.pairs.map(\.box))
        #expect(WeightPairing.elementCount(boxes) == match.a?.shape.elementCount, "\(match.name)")
        #expect(match.pairs.count == set[match.name]?.everyPiece.count)
      }
    }
    // By weight, a set is merged to be compared in one piece.
    for match in try pairing(original, set, .weight) {
      #expect(match.pairs.count == 1 && match.pairs[0].b.isWhole && match.pairs[0].b.box.isWhole)
    }
  }

  @Test func setsCutInDifferentWaysArePaired() async throws {
    let (two, four) = (
      try await convert("tiny", ep: 2, as: "two"), try await convert("tiny", ep: 4, as: "four")
    )
    let matches = try pairing(two, four)
    let experts = try #require(matches.first { $0.name == "model.layers.1.moe.up_proj.weight" })
    #expect(experts.pairs.count == 4)
    #expect(WeightPairing.elementCount(Set(experts.pairs.map(\.box))) == experts.a?.shape.elementCount)
    // Replicated on both sides: each copy is paired once.
    for match in try pairing(two, two) { #expect(match.pairs.count == two[match.name]?.everyPiece.count) }
  }

  @Test func aPartIsComparedWithItsSliceOnly() async throws {
    _ = try await convert("tiny", ep: 2, as: "set")
    let part = try weights(directory.path("set/ffn-ep1"))
    let original = try source("tiny")
    let name = "model.layers.1.moe.up_proj.weight"
    let held = try #require(try pairing(part, original, .weight).first { $0.name == name })
    #expect(held.pairs.count == 1 && held.unmatched.isEmpty && !held.pairs[0].box.isWhole)
    let lacking = try #require(try pairing(original, part, .weight).first { $0.name == name })
    #expect(lacking.pairs.isEmpty && lacking.unmatched.count == 1)
  }

  // MARK: Results

  @Test(
    "comparing by pieces and by weights gives the same result", arguments: ["tiny", "odd-fp8"],
    ["W4A16_G32", "NVFP4A16", "FP8_BLOCK", "keep"])
  func bothWaysAgree(_ fixture: String, _ recipe: String) async throws {
    let original = try source(fixture)
    let other = try await convert(fixture, recipe: recipe, as: "other")
    let elements = try pairing(other, original).flatMap(\.pairs).map { ElementComparison($0) }
    let errors = try pairing(other, original, .weight).flatMap(\.pairs).compactMap {
      ErrorComparison($0, areValues: { _ in true })
    }
    #expect(elements.count == errors.count && !errors.isEmpty)
    let differences = try await elements.run(threads: 2, monitor: WorkMonitor())
    let sums = try await errors.run(threads: 2, monitor: WorkMonitor())
    for (index, (differences, errors)) in zip(differences, sums).enumerated() {
      let name = elements[index].pair.name
      let rmse = errors.sums.rmse
      #expect(abs(differences.rmse - rmse) <= 1e-5 * rmse, "\(name)")
      #expect(Float(differences.maxAbs) == errors.sums.maximumAbsoluteError, "\(name)")
    }
    if recipe == "keep" { #expect(differences.allSatisfy { $0.count == 0 && !$0.bytesDiffer }) }
  }

  @Test("results do not depend on the number of threads", arguments: [1, 3, 8])
  func threads(_ threads: Int) async throws {
    let pairs = try pairing(
      await convert("tiny", recipe: "NVFP4A16", ep: 2, as: "set"), source("tiny")
    ).flatMap(\.pairs).map { ElementComparison($0) }
    let one = try await pairs.run(threads: 1, monitor: WorkMonitor())
    let many = try await pairs.run(threads: threads, monitor: WorkMonitor())
    #expect(one.map(\.sumOfSquares) == many.map(\.sumOfSquares))
    #expect(one.map(\.firstIndex) == many.map(\.firstIndex) && one.map(\.count) == many.map(\.count))
  }
}
