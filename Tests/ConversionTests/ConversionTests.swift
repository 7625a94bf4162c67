import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Quantization
import Safetensors
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

/// Fixtures through every output format, element type and partition: values go through unchanged.
@Suite struct ConversionTests {
  private let harness: ConversionHarness

  init() throws { harness = try ConversionHarness() }

  static let fixtures = ["tiny", "odd", "tiny-fp8", "odd-fp8"]
  static let requests: [(Checkpoint.Format, String)] = [
    (.safetensors, "keep"), (.safetensors, "BF16"), (.safetensors, "F16"), (.safetensors, "F32"),
    (.gguf, "BF16"), (.gguf, "F16"), (.gguf, "F32"), (.gguf, "Q8_0"),
  ]

  @Test("values survive, up to the type's own rounding", arguments: fixtures, requests)
  func values(fixture: String, request: (format: Checkpoint.Format, recipe: String)) async throws {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    let manifest = try await harness.convert(
      source.path, ConversionHarness.Request(format: request.format, recipe: request.recipe))
    let output = try Checkpoint.open(harness.directory.path("output"))
    #expect(output.format == request.format)
    for tensor in manifest.plan.files.flatMap(\.tensors) {
      let expected = try rounded(ConversionTests.source(of: tensor, in: source), to: tensor)
      let found = try ConversionTests.decoded(tensor.name, output)
      #expect(found.count == expected.count)
      let firstDifference = zip(found, expected).enumerated().first { $1.0.bitPattern != $1.1.bitPattern }
      #expect(firstDifference == nil, "\(tensor.name) as \(tensor.elementType)")
    }
  }

  private static func source(of tensor: ShardPlan.Tensor, in source: Checkpoint) throws -> [Float] {
    // A kept FP8 weight is a tensor of codes with a separate tensor of scales.
    if tensor.operation.part == .scales {
      return try decoded(try #require(tensor.source.scaling?.scales).tensor, source)
    }
    if tensor.elementType == .f8E4M3 { return try decoded(tensor.source.tensor, source) }
    return try ConversionTestsValues(of: tensor.source.tensor, in: source)
  }

  /// A tensor's bytes decoded by its codec, without scales.
  private static func decoded(_ name: String, _ checkpoint: Checkpoint) throws -> [Float] {
    let tensor = try #require(checkpoint[name])
    let codec = try #require(BlockCodec.codec(for: tensor.elementType))
    let raw = try bytes(of: tensor, in: checkpoint)
    var values = [Float](repeating: 0, count: tensor.shape.elementCount)
    var span = values.mutableSpan
    try codec.decodeReference(raw.span.bytes, into: &span)
    return values
  }

  /// `values` as the target type represents them, by the codec's definition.
  private func rounded(_ values: [Float], to tensor: ShardPlan.Tensor) throws -> [Float] {
    let codec = try #require(BlockCodec.codec(for: tensor.elementType))
    var encoded = [UInt8](repeating: 0, count: tensor.bytes)
    do {
      var elements = encoded.mutableSpan
      var span = elements.mutableBytes
      try codec.encodeReference(values.span, columns: max(1, tensor.shape.columns), into: &span)
    }
    var result = [Float](repeating: 0, count: values.count)
    var span = result.mutableSpan
    try codec.decodeReference(encoded.span.bytes, into: &span)
    return result
  }

  @Test("keeping everything keeps every byte and every name", arguments: fixtures)
  func keep(fixture: String) async throws {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    try await harness.convert(source.path, .init(maximumShardBytes: 1 << 20))
    let output = try Checkpoint.open(harness.directory.path("output"))
    #expect(output.files.count > 1)
    #expect(output.warnings.isEmpty)
    #expect(Set(output.tensors.map(\.name)) == Set(source.tensors.map(\.name)))
    for tensor in source.tensors {
      let copy = try #require(output[tensor.name])
      #expect(copy.elementType == tensor.elementType)
      #expect(copy.shape == tensor.shape)
      #expect(try bytes(of: copy, in: output) == bytes(of: tensor, in: source))
      // Aligned for engines that map files.
      #expect(copy.byteRange.lowerBound % (copy.elementType.safetensorsAlignment ?? 1) == 0)
    }
    #expect(output.configuration == source.configuration)
  }

  @Test("the parts together hold every element of the model exactly once", arguments: fixtures, [1, 2])
  func partitions(fixture: String, instances: Int) async throws {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    let partition = ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnEP: instances))
    // 2 instances cut dense layers in half, which falls inside FP8 tiles of the odd shapes.
    let request = ConversionHarness.Request(
      recipe: fixture == "odd-fp8" && instances == 2 ? "BF16" : "keep", partition: partition)
    let manifest = try await harness.convert(source.path, request)
    let set = try Checkpoint.open(harness.directory.path("output"))
    #expect(set.parts.count == instances + 2)
    let parts = Dictionary(uniqueKeysWithValues: set.parts.map { ($0.name, $0.checkpoint) })
    var merged: [String: [Float?]] = [:]
    for part in manifest.plan.parts {
      let checkpoint = try #require(parts[part.directory])
      for tensor in part.tensors {
        let found = try ConversionTests.decoded(tensor.name, checkpoint)
        // Scales are counted in tiles, in the last two dimensions.
        let rank = tensor.source.extent.count
        func scaled(_ numbers: [Int]) -> [Int] {
          guard tensor.operation.part == .scales else { return numbers }
          return numbers.enumerated().map { $0 >= rank - 2 ? ($1 + 127) / 128 : $1 }
        }
        let name =
          tensor.operation.part == .scales ? tensor.source.scaling?.scales?.tensor : tensor.source.tensor
        let sourceName = try #require(name)
        let shape = TensorShape(scaled(tensor.source.shape.dimensions))
        let (origin, extent) = (scaled(tensor.source.origin), scaled(tensor.source.extent))
        var whole = merged[sourceName] ?? Array(repeating: nil, count: shape.elementCount)
        var doubled = 0
        for (position, value) in found.enumerated() {
          // The box's coordinates, innermost last.
          var (rest, index, stride) = (position, 0, 1)
          for axis in shape.dimensions.indices.reversed() {
            let (quotient, coordinate) = rest.quotientAndRemainder(dividingBy: extent[axis])
            index += (coordinate + origin[axis]) * stride
            stride *= shape.dimensions[axis]
            rest = quotient
          }
          if whole[index] != nil { doubled += 1 }
          whole[index] = value
        }
        #expect(doubled == 0, "\(tensor.name) holds elements twice")
        merged[sourceName] = whole
      }
    }
    let absorbed = Set(manifest.plan.absorbed.map(\.tensor))
    for tensor in source.tensors where !absorbed.contains(tensor.name) {
      let whole = try #require(merged[tensor.name])
      let expected =
        request.recipe == "keep"
        ? try ConversionTests.decoded(tensor.name, source)
        : try ConversionTestsValues(of: tensor.name, in: source).map(bfloat16)
      #expect(whole.elementsEqual(expected.map(Optional.some)), "\(tensor.name)")
    }
  }

  @Test("attention, FFN and vision weights are placed as in the Step-3 report") func sides() async throws {
    let plan = try harness.plan(
      Fixtures.path("checkpoints/tiny"), .init(partition: .afd(ShardPlan.AFDLayout(ffnEP: 2, router: .ffn)))
    ).plan
    #expect(plan.parts.map(\.directory) == ["attention", "ffn-ep0", "ffn-ep1", "vision"])
    let roles = plan.parts.map { Set($0.tensors.map(\.role)) }
    #expect(roles[0] == [.embedding, .attention, .norm, .lmHead])
    #expect(roles[1] == [.denseFFN, .sharedExpert, .routedExperts, .router])
    #expect(roles[2] == roles[1])
    #expect(roles[3] == [.vision, .projector])
    #expect(
      plan.replicated.map(\.tensor) == ["model.layers.1.moe.gate.weight", "model.layers.2.moe.gate.weight"])
  }

  @Test("the manifest's digests are those of the files", arguments: [nil, 300_000])
  func digestsOfFiles(limit: Int?) async throws {
    let source = Fixtures.path("checkpoints/odd-fp8")
    let manifest = try await harness.convert(
      source, .init(recipe: "BF16", partition: .afd(ShardPlan.AFDLayout()), maximumShardBytes: limit))
    for record in manifest.sources {
      let found = try digests(ofFile: "\(source)/\(record.path)")
      #expect(found == (record.xxh3, record.sha256, record.bytes))
    }
    for record in manifest.files {
      let found = try digests(ofFile: harness.directory.path("output/\(record.path)"))
      #expect(found == (record.xxh3, record.sha256, record.bytes))
    }
    let set = try Checkpoint.open(harness.directory.path("output"))
    for record in manifest.tensors {
      let file = try #require(set.files.firstIndex { $0.name == record.file })
      let tensor = try #require(set.tensors.first { $0.file == file && $0.name == record.name })
      var digester = XXH3Digester()
      digester.update(try bytes(of: tensor, in: set))
      #expect("\(digester.finalize())" == record.xxh3, "\(record.name)")
    }
    #expect(try Manifest.read(from: harness.directory.path("output")) == manifest)
  }

  @Test("the bytes do not depend on the number of threads or the memory budget")
  func determinism() async throws {
    let request = ConversionHarness.Request(
      format: .gguf, recipe: "Q8_0", partition: .afd(ShardPlan.AFDLayout(ffnEP: 2)),
      maximumShardBytes: 1 << 20)
    let source = Fixtures.path("checkpoints/tiny")
    try await harness.convert(source, request, into: "a", options: ConversionOptions(threads: 1))
    try await harness.convert(
      source, request, into: "b",
      options: ConversionOptions(threads: 16, memory: ConversionOptions.minimumMemory))
    #expect(try contents(of: harness.directory.path("a")) == contents(of: harness.directory.path("b")))
  }

  @Test("the manifest's errors are those of the stored values") func quantizationErrors() async throws {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/tiny"))
    let manifest = try await harness.convert(source.path, .init(format: .gguf, recipe: "Q8_0"))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let record = try #require(manifest.tensors.first { $0.name == "blk.1.ffn_up_exps.weight" })
    let error = try #require(record.error)
    let original = try ConversionTestsValues(of: record.sources[0], in: source)
    let restored = try ConversionTests.decoded(record.name, output)
    let differences = zip(original, restored).map { Double($0) - Double($1) }
    let squares = differences.reduce(0) { $0 + $1 * $1 }
    let norm = original.reduce(0.0) { $0 + Double($1) * Double($1) }
    #expect(abs(error.rmse - (squares / Double(original.count)).squareRoot()) < 1e-9)
    #expect(abs(error.relativeRMSE - (squares / norm).squareRoot()) < 1e-9)
    #expect(Float(error.maximumAbsoluteError) == differences.map { Float(abs($0)) }.max())
    #expect(error.cosineSimilarity > 0.9999 && error.cosineSimilarity < 1)
    #expect(manifest.tensors.first { $0.name == "output_norm.weight" }?.error == nil)
  }
}

/// The function of the same name in the harness, which a method of the suite hides.
private func ConversionTestsValues(of name: String, in checkpoint: Checkpoint) throws -> [Float] {
  try values(of: name, in: checkpoint)
}

/// BF16 by definition: to nearest, ties to even.
private func bfloat16(_ value: Float) -> Float {
  let bits = value.bitPattern
  return Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000)
}
