import PlanTesting
import Checkpoint
import CheckpointTesting
import Foundation
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// A tensor's operation follows from how source and output store it, and is the least work possible.
@Suite struct OperationTests {
  private let harness: PlanningHarness

  init() throws { harness = try PlanningHarness() }

  private static let nvfp4 = StoredScheme(.nvfp4, .compressedTensors)
  private static let modelOpt = StoredScheme(.nvfp4, .modelOpt)
  private static let mxfp4 = StoredScheme(.mxfp4, .compressedTensors)
  private static let int4 = StoredScheme(.int4Group(32), .compressedTensors)
  private static let blockFP8 = StoredScheme(.fp8Tiles, .fp8)

  private static func encode(
    _ part: StoredScheme.Part, _ scheme: StoredScheme, _ search: ScaleSearch = .mse, group: Int? = nil
  ) -> ShardPlan.Operation {
    .encode(part, of: scheme, ShardPlan.Encoding(search: search, scaleGroup: group, importance: nil))
  }

  /// The operations of one expert's tensors by their suffixes, in safetensors; of its blocks and scales, in GGUF.
  struct Case: CustomTestStringConvertible, Sendable {
    /// The recipe by which tiny was converted to the source; `nil` for tiny itself.
    let source: (format: Checkpoint.Format, recipe: String)?
    let target: (format: Checkpoint.Format, recipe: String)
    let expected: [String: ShardPlan.Operation]

    var testDescription: String {
      "\(source.map { "\($0.format.rawValue) \($0.recipe)" } ?? "tiny") to \(target.format.rawValue) \(target.recipe)"
    }
  }

  static let cases: [Case] = [
    Case(source: nil, target: (.safetensors, "keep"), expected: ["weight": .copy]),
    Case(source: nil, target: (.safetensors, "BF16"), expected: ["weight": .copy]),
    Case(source: nil, target: (.safetensors, "F32"), expected: ["weight": .convert(importance: nil)]),
    Case(source: nil, target: (.gguf, "Q4_K"), expected: ["weight": .convert(importance: nil)]),
    Case(
      source: nil, target: (.safetensors, "FP8_BLOCK"),
      expected: [
        "weight": encode(.codes, blockFP8, .absmax), "weight_scale_inv": encode(.scales, blockFP8, .absmax),
      ]),
    Case(
      source: nil, target: (.safetensors, "W4A16_G32"),
      expected: [
        "weight_packed": encode(.codes, int4), "weight_scale": encode(.scales, int4),
        "weight_shape": .shape(of: int4),
      ]),
    Case(
      source: nil, target: (.safetensors, "NVFP4A16"),
      expected: [
        "weight_packed": encode(.codes, nvfp4, group: 0), "weight_scale": encode(.scales, nvfp4, group: 0),
        "weight_global_scale": encode(.matrixScales, nvfp4, group: 0),
      ]),
    Case(
      source: (.safetensors, "FP8_BLOCK"), target: (.safetensors, "keep"),
      expected: [
        "weight": .copy, "weight_scale_inv": .copy,
      ]),
    Case(
      source: (.safetensors, "FP8_BLOCK"), target: (.safetensors, "FP8_BLOCK"),
      expected: [
        "weight": .carry(.codes, of: blockFP8, scaleGroup: nil),
        "weight_scale_inv": .carry(.scales, of: blockFP8, scaleGroup: nil),
      ]),
    Case(
      source: (.safetensors, "FP8_BLOCK"), target: (.safetensors, "BF16"),
      expected: ["weight": .convert(importance: nil)]),
    Case(
      source: (.safetensors, "FP8_BLOCK"), target: (.gguf, "Q8_0"),
      expected: ["weight": .convert(importance: nil)]),
    Case(
      source: (.safetensors, "FP8_BLOCK"), target: (.safetensors, "W4A16_G32"),
      expected: [
        "weight_packed": encode(.codes, int4), "weight_scale": encode(.scales, int4),
        "weight_shape": .shape(of: int4),
      ]),
    Case(
      source: (.safetensors, "W4A16_G32"), target: (.safetensors, "W4A16_G32"),
      expected: [
        "weight_packed": .carry(.codes, of: int4, scaleGroup: nil),
        "weight_scale": .carry(.scales, of: int4, scaleGroup: nil), "weight_shape": .shape(of: int4),
      ]),
    Case(
      source: (.safetensors, "NVFP4A16"), target: (.safetensors, "NVFP4A16_MODELOPT"),
      expected: [
        "weight": .carry(.codes, of: modelOpt, scaleGroup: nil),
        "weight_scale": .carry(.scales, of: modelOpt, scaleGroup: nil),
        "weight_scale_2": .carry(.matrixScales, of: modelOpt, scaleGroup: 0),
      ]),
    Case(
      source: (.safetensors, "NVFP4A16"), target: (.gguf, "NVFP4"),
      expected: ["weight": .pack, "scale": .carry(.matrixScales, of: nil, scaleGroup: nil)]),
    Case(source: (.safetensors, "MXFP4A16"), target: (.gguf, "MXFP4"), expected: ["weight": .pack]),
    Case(
      source: (.gguf, "NVFP4"), target: (.safetensors, "NVFP4A16"),
      expected: [
        "weight_packed": .unpack(.codes, of: nvfp4), "weight_scale": .unpack(.scales, of: nvfp4),
        "weight_global_scale": .carry(.matrixScales, of: nvfp4, scaleGroup: 0),
      ]),
    Case(
      source: (.gguf, "MXFP4"), target: (.safetensors, "MXFP4A16"),
      expected: ["weight_packed": .unpack(.codes, of: mxfp4), "weight_scale": .unpack(.scales, of: mxfp4)]),
    Case(source: (.gguf, "Q8_0"), target: (.gguf, "Q8_0"), expected: ["weight": .copy]),
    Case(source: (.gguf, "Q8_0"), target: (.gguf, "keep"), expected: ["weight": .copy]),
    Case(
      source: (.gguf, "Q8_0"), target: (.safetensors, "NVFP4A16"),
      expected: [
        "weight_packed": encode(.codes, nvfp4, group: 0), "weight_scale": encode(.scales, nvfp4, group: 0),
        "weight_global_scale": encode(.matrixScales, nvfp4, group: 0),
      ]),
  ]

  @Test(arguments: cases) func theLeastOperationIsChosen(_ test: Case) throws {
    var source = Fixtures.path("checkpoints/tiny")
    if let made = test.source {
      source = try harness.source("source", .init(format: made.format, recipe: made.recipe))
    }
    let plan = try harness.plan(source, .init(format: test.target.format, recipe: test.target.recipe)).plan
    // For experts, the first of the first group.
    let module = test.target.format == .gguf ? "blk.1.ffn_gate_exps" : "model.layers.1.moe.gate_proj"
    var found: [String: ShardPlan.Operation] = [:]
    for tensor in plan.files.flatMap(\.tensors) where tensor.name.hasPrefix(module + ".") {
      found[String(tensor.name.dropFirst(module.count + 1))] = tensor.operation
    }
    #expect(found.mapValues(Self.named(0)) == test.expected)
    for tensor in plan.files.flatMap(\.tensors) {
      let decoded = try JSONDecoder().decode(
        ShardPlan.Operation.self, from: JSONEncoder().encode(tensor.operation))
      #expect(decoded == tensor.operation)
    }
  }

  /// The operation with another scale group number, if it has one: the number depends on the order of the layers.
  private static func named(_ group: Int) -> (ShardPlan.Operation) -> ShardPlan.Operation {
    { operation in
      switch operation {
      case .encode(let part, let scheme, var encoding):
        if encoding.scaleGroup != nil { encoding.scaleGroup = group }
        return .encode(part, of: scheme, encoding)
      case .carry(let part, let scheme, let old):
        return .carry(part, of: scheme, scaleGroup: old.map { _ in group })
      default: return operation
      }
    }
  }

  @Test("fused attention is carried over whole, with its shared scale") func neighbours() throws {
    // Unfused NVFP4 attention has a matrix scale for each of queries, keys and values; engines want a shared one.
    let source = try harness.source("source", .init(recipe: "NVFP4A16_MODELOPT", scope: .linear))
    let plan = try harness.plan(source, .init(recipe: "NVFP4A16", scope: .linear)).plan
    let fused = try #require(plan.tensor("model.layers.0.self_attn.qkv_proj.weight_packed"))
    #expect(fused.operation == .carry(.codes, of: Self.nvfp4, scaleGroup: nil))
    #expect(fused.sources.count == 1 && fused.sources[0].isWhole)
  }

  @Test("copies and lossless operations are identified") func asking() throws {
    let source = try harness.source("source", .init(recipe: "NVFP4A16"))
    func tensor(_ name: String, _ request: PlanningHarness.Request) throws -> ShardPlan.Tensor {
      try #require(harness.plan(source, request).plan.tensor(name))
    }
    let module = "model.layers.1.moe.up_proj"
    let same = PlanningHarness.Request(recipe: "NVFP4A16")
    for suffix in ["weight_packed", "weight_scale", "weight_global_scale"] {
      let kept = try tensor("\(module).\(suffix)", same)
      #expect(kept.isCopy && kept.isLossless)
    }
    // The reciprocal is rounded, and that counts as the codes' error.
    let moved = PlanningHarness.Request(recipe: "NVFP4A16_MODELOPT")
    let codes = try tensor("\(module).weight", moved)
    #expect(codes.isCopy && !codes.isLossless && codes.parameters == 8 * 256 * 256)
    let scale = try tensor("\(module).weight_scale_2", moved)
    #expect(!scale.isCopy && scale.isLossless && scale.parameters == 0)
    let blocks = try tensor("blk.1.ffn_up_exps.weight", .init(format: .gguf, recipe: "NVFP4"))
    #expect(!blocks.isCopy && !blocks.isLossless)
    let f32 = try tensor("\(module).weight", .init(recipe: "F32"))
    #expect(!f32.isCopy && f32.isLossless)
    let bf16 = try tensor("\(module).weight", .init(recipe: "BF16"))
    #expect(!bf16.isCopy && !bf16.isLossless)
  }

  @Test(
    "invalid operations are not decoded",
    arguments: [
      #"{"kind": "dance"}"#, #"{"kind": "encode", "part": "codes", "search": "mse"}"#,
      #"{"kind": "encode", "part": "codes", "scheme": {"scheme": "nvfp4", "method": "modelopt"}}"#,
      #"{"kind": "encode", "part": "shape", "search": "mse", "scheme": {"scheme": "nvfp4", "method": "modelopt"}}"#,
      #"{"kind": "unpack", "part": "matrixScales", "scheme": {"scheme": "nvfp4", "method": "modelopt"}}"#,
      #"{"kind": "carry"}"#, #"{"kind": "shape"}"#, #"{}"#, #""copy""#,
      #"{"kind": "unpack", "part": "codes", "scheme": {"scheme": "int4_group_9223372036854775807", "method": "fp8"}}"#,
    ])
  func notRead(text: String) {
    #expect(throws: DecodingError.self) {
      try JSONDecoder().decode(ShardPlan.Operation.self, from: Data(text.utf8))
    }
  }
}
