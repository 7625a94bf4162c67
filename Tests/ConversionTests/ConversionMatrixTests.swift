import PlanTesting
import Checkpoint
import CheckpointTesting
import Conversion
import Quantization
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

/// Every fixture through every kind of output and partition: the values read back are the source's, within what the
/// stored formats can represent.
@Suite struct ConversionMatrixTests {
  private let harness: ConversionHarness

  init() throws { harness = try ConversionHarness() }

  struct Case: CustomTestStringConvertible, Sendable {
    let fixture: String
    let format: Checkpoint.Format
    let recipe: String
    let partition: ShardPlan.Partition

    var testDescription: String {
      switch partition {
      case .none: "\(fixture) to \(format.rawValue) \(recipe)"
      case .afd(let layout): "\(fixture) to \(format.rawValue) \(recipe), ep\(layout.ffnEP) tp\(layout.ffnTP)"
      }
    }
  }

  static let cases: [Case] = {
    let outputs: [(Checkpoint.Format, String)] = [
      (.safetensors, "keep"), (.safetensors, "BF16"), (.safetensors, "FP8_BLOCK"), (.gguf, "keep"),
      (.gguf, "BF16"), (.gguf, "Q8_0"), (.gguf, "Q4_K_M"), (.gguf, "IQ4_XS"),
    ]
    let partitions: [ShardPlan.Partition] = [
      .none, .afd(.init(ffnEP: 2)), .afd(.init(ffnTP: 2)),
      .afd(.init(ffnEP: 2, ffnTP: 2, router: .ffn)),
    ]
    return ["tiny", "odd", "tiny-fp8", "odd-fp8"].flatMap { fixture in
      outputs.flatMap { format, recipe in
        partitions.map { Case(fixture: fixture, format: format, recipe: recipe, partition: $0) }
      }
    }
  }()

  /// The relative error that each format may have on normally distributed weights: twice the usual,
  /// so that only faults exceed it.
  static let bounds: [ElementType: Double] = [
    .f32: 0, .bf16: 0.004, .f8E4M3: 0.05, .q8_0: 0.012, .q6K: 0.04, .q5K: 0.08, .q5_0: 0.1, .q5_1: 0.08,
    .q4K: 0.16, .iq4XS: 0.16, .iq4NL: 0.16,
  ]

  @Test("values survive every kind of output and partition", arguments: cases) func values(_ test: Case)
    async throws
  {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/\(test.fixture)"))
    let request = ConversionHarness.Request(
      format: test.format, recipe: test.recipe, partition: test.partition)
    guard Self.fits(test) else {
      // FP8 tiles are kept or decoded, never cut.
      let error = #expect(throws: CheckpointError.self) { try harness.plan(source.path, request) }
      #expect(error?.message.contains("falls inside an FP8 tile") == true, "\(error?.message ?? "")")
      return
    }
    let manifest = try await harness.convert(source.path, request)
    let merged = try MergedPartition(
      manifest.plan, at: harness.directory.path("output"), asValues: true)
    #expect(merged.isExact)
    var seen: Set<String> = []
    for tensor in manifest.plan.files.flatMap(\.tensors) where tensor.role != .scale {
      guard seen.insert(tensor.name).inserted else { continue }
      let original = try sourceValues(of: tensor.source.tensor, in: source)
      let restored = try merged.floats(of: tensor.name)
      let sums = ErrorSums.reference(original: original.span, restored: restored.span)
      // A BF16 source is exact in BF16; decoded FP8 is not.
      let isExact =
        tensor.elementType == .bf16 && tensor.source.scaling == nil
        || tensor.elementType == .f8E4M3 && tensor.isCopy
      let bound = isExact ? 0 : try #require(Self.bounds[tensor.elementType], "\(tensor.elementType)")
      #expect(sums.relativeRMSE <= bound, "\(tensor.name) as \(tensor.elementType)")
    }
    let absorbed = Set(manifest.plan.absorbed.map(\.tensor))
    let tensors = manifest.plan.files.flatMap(\.tensors)
    let sources = Set(tensors.map(\.source.tensor))
    let carried = Set(tensors.filter { !$0.operation.decodes }.compactMap(\.source.scaling?.scales?.tensor))
    #expect(sources.union(absorbed).union(carried) == Set(source.tensors.map(\.name)))
  }

  /// Whether the slices of weights that stay FP8 begin and end on tiles. The odd model's never do; the tiny one's
  /// intermediate dimensions of 256 and 512 do between two ranks.
  private static func fits(_ test: Case) -> Bool {
    guard case .afd(let layout) = test.partition, test.fixture.hasSuffix("-fp8"), test.recipe == "keep",
      test.format == .safetensors
    else { return true }
    return test.fixture == "tiny-fp8" ? layout.ffnRanks <= 2 : layout.ffnRanks == 1
  }
}

/// The function `values(of:in:)` of the harness, which a method of the suite hides.
private func sourceValues(of name: String, in checkpoint: Checkpoint) throws -> [Float] {
  try values(of: name, in: checkpoint)
}
