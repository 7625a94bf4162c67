import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// The bytes of schemes are those of their codecs' definitions applied to the source's values.
@Suite struct SchemeOutputTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try ConversionHarness() }

  static let schemes: [(recipe: String, scheme: StoredScheme, error: Double)] = [
    ("FP8_BLOCK", StoredScheme(.fp8Tiles, .fp8), 0.03),
    ("FP8_DYNAMIC", StoredScheme(.fp8Channel, .compressedTensors), 0.03),
    ("W8A8_INT8", StoredScheme(.int8Channel, .compressedTensors), 0.01),
    ("W8A8_INT8_SGLANG", StoredScheme(.int8Channel, .w8a8Int8), 0.01),
    ("W4A16", StoredScheme(.int4Group(128), .compressedTensors), 0.13),
    ("W4A16_G32", StoredScheme(.int4Group(32), .compressedTensors), 0.11),
    ("NVFP4A16", StoredScheme(.nvfp4, .compressedTensors), 0.11),
    ("NVFP4A16_MODELOPT", StoredScheme(.nvfp4, .modelOpt), 0.11),
    ("MXFP4", StoredScheme(.mxfp4, .mxfp4), 0.14),
    ("MXFP4A16", StoredScheme(.mxfp4, .compressedTensors), 0.14),
  ]

  static let names = schemes.map(\.recipe)

  static func scheme(_ recipe: String) throws -> StoredScheme {
    try #require(schemes.first { $0.recipe == recipe }).scheme
  }

  @Test("absmax output equals the codec's, bit for bit", arguments: names.filter { $0 != "FP8_BLOCK" })
  func absmax(recipe: String) async throws {
    let stored = try Self.scheme(recipe)
    try await harness.convert(tiny, .init(recipe: recipe, scope: .experts, scaleSearch: .absmax))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let source = try Checkpoint.open(tiny)
    for module in ["model.layers.1.moe.up_proj", "model.layers.2.moe.down_proj"] {
      let found = StoredModule(module, stored, in: output)
      let values = try values(of: module + ".weight", in: source)
      let matrixScales = try found.matrixScales
      let expected = try EncodedModule(
        values, stored, matrices: 8, columns: 256, matrixScales: matrixScales, search: .absmax)
      #expect(try found.bytes(found.codesName) == expected.codes, "\(module)")
      #expect(try found.bytes(found.scalesName) == expected.scales, "\(module)")
    }
  }

  @Test("the output decodes to the source within the error that the manifest states", arguments: names)
  func errors(recipe: String) async throws {
    let stored = try Self.scheme(recipe)
    let manifest = try await harness.convert(
      tiny, .init(recipe: recipe, scope: recipe == "MXFP4" ? .experts : .linear))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let source = try Checkpoint.open(tiny)
    let bound = try #require(Self.schemes.first { $0.recipe == recipe }).error
    var modules = ["model.layers.1.moe.gate_proj", "model.layers.2.moe.down_proj"]
    if recipe != "MXFP4" { modules += ["model.layers.0.mlp.up_proj", "model.layers.3.self_attn.wq"] }
    for module in modules {
      let found = StoredModule(module, stored, in: output)
      let original = try values(of: module + ".weight", in: source)
      let error = relativeError(try found.values, of: original)
      #expect(error > bound / 20 && error < bound, "\(module): \(error)")
      let record = try #require(manifest.tensors.first { $0.name == found.codesName }?.error)
      #expect(abs(record.relativeRMSE / error - 1) < 1e-6, "\(module)")
      #expect(manifest.tensors.first { $0.name == found.scalesName }?.error == nil)
      if stored.scheme.isFourBit {
        let search = try #require(record.search)
        #expect(search.after <= search.before && search.after > 0)
        #expect(abs(search.after / record.rmse - 1) < 1e-3)
      } else {
        #expect(record.search == nil)
      }
    }
    for record in manifest.files {
      #expect(
        try digests(ofFile: harness.directory.path("output/\(record.path)"))
          == (record.xxh3, record.sha256, record.bytes))
    }
    for record in manifest.tensors {
      let bytes = try TensorBytes(record.name, in: output).bytes
      #expect(try xxh3(of: bytes) == record.xxh3, "\(record.name)")
    }
  }

  @Test(
    "queries, keys and values are fused as rows of one tensor",
    arguments: ["W4A16", "NVFP4A16", "NVFP4A16_MODELOPT"])
  func fusedQueries(recipe: String) async throws {
    let stored = try Self.scheme(recipe)
    try await harness.convert(tiny, .init(recipe: recipe, scope: .linear, scaleSearch: .absmax))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let source = try Checkpoint.open(tiny)
    for layer in [0, 2] {
      let parent = "model.layers.\(layer).self_attn"
      let original = try ["q_proj", "k_proj", "v_proj"].flatMap {
        try values(of: "\(parent).\($0).weight", in: source)
      }
      let found = StoredModule("\(parent).qkv_proj", stored, in: output)
      let matrixScales = try found.matrixScales
      if let matrixScales {
        let largest = original.reduce(0) { max($0, $1.magnitude) }
        #expect(try matrixScales == [RowScheme(stored).matrixScale(amax: largest)])
      }
      let expected = try EncodedModule(
        original, stored, matrices: 1, columns: 256, matrixScales: matrixScales, search: .absmax)
      #expect(try found.bytes(found.codesName) == expected.codes)
      #expect(try found.bytes(found.scalesName) == expected.scales)
      guard recipe == "W4A16" else { continue }
      let shape = try found.bytes("\(parent).qkv_proj.weight_shape").withUnsafeBytes {
        Array($0.bindMemory(to: Int64.self))
      }
      #expect(shape == [384, 256])
    }
  }

  @Test(
    "an expert's gate and up share the larger of their scales",
    arguments: ["NVFP4A16", "NVFP4A16_MODELOPT"])
  func sharedScales(recipe: String) async throws {
    let stored = try Self.scheme(recipe)
    try await harness.convert(tiny, .init(recipe: recipe, scope: .linear))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let source = try Checkpoint.open(tiny)
    func amax(_ module: String) throws -> [Float] {
      let values = try values(of: module + ".weight", in: source)
      let count = try #require(source[module + ".weight"]).shape.rank == 3 ? 8 : 1
      let size = values.count / count
      return (0..<count).map { values[$0 * size..<($0 + 1) * size].reduce(0) { max($0, $1.magnitude) } }
    }
    var differ = 0
    for parent in [
      "model.layers.1.moe", "model.layers.2.moe", "model.layers.1.share_expert", "model.layers.0.mlp",
    ] {
      let (gate, up) = (try amax("\(parent).gate_proj"), try amax("\(parent).up_proj"))
      let codec = try RowScheme(stored)
      let expected = zip(gate, up).map { codec.matrixScale(amax: max($0, $1)).bitPattern }
      differ += zip(gate, up).count { $0 != $1 }
      for module in ["gate_proj", "up_proj"] {
        let found = try StoredModule("\(parent).\(module)", stored, in: output).matrixScales
        #expect(found?.map(\.bitPattern) == expected, "\(parent).\(module)")
      }
      let down = try amax("\(parent).down_proj").map { codec.matrixScale(amax: $0).bitPattern }
      #expect(
        try StoredModule("\(parent).down_proj", stored, in: output).matrixScales?.map(\.bitPattern) == down)
    }
    #expect(differ > 8)
  }

  @Test("rows that are not whole groups fall back to BF16, and the plan lists them") func misfits() throws {
    let recipe = try Recipe.named("W4A16", for: .safetensors)
    let plan = try ShardPlanner.plan(
      Checkpoint.open(Fixtures.path("checkpoints/odd")),
      request: .init(format: .safetensors, recipe: recipe.name),
      recipe: recipe
    ).plan
    // Experts have rows of 192 (gate and up) and 160 (down).
    #expect(!plan.fallbacks.isEmpty)
    #expect(plan.fallbacks.allSatisfy { $0.wanted == "W4A16" && $0.stored == "BF16" })
    #expect(plan.files.flatMap(\.tensors).allSatisfy { $0.operation.scheme == nil })
    let g32 = try harness.plan(Fixtures.path("checkpoints/odd"), .init(recipe: "W4A16_G32")).plan
    #expect(g32.fallbacks.isEmpty)
  }
}

/// XXH3-128 of bytes.
func xxh3(of bytes: [UInt8]) throws -> String {
  var digester = XXH3Digester()
  digester.update(bytes)
  return "\(digester.finalize())"
}
