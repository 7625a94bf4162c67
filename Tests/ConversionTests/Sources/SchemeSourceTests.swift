import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import GGUF
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// Checkpoints in schemes as sources: decoded, kept, converted to another scheme, to GGUF and back.
@Suite struct SchemeSourceTests {
  private let harness: ConversionHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try ConversionHarness() }

  private func make(_ recipe: String, linear: Bool = true, into name: String = "source") async throws
    -> Checkpoint
  {
    try await harness.convert(
      tiny, .init(recipe: recipe, scope: linear && recipe != "MXFP4" ? .linear : .experts), into: name)
    return try Checkpoint.open(harness.directory.path(name))
  }

  /// A weight's values by its published name, whether it is stored fused or not.
  private func values(
    _ module: String, _ stored: StoredScheme, in checkpoint: Checkpoint
  ) throws -> [Float] {
    let names = ["q_proj": 0..<256, "k_proj": 256..<320, "v_proj": 320..<384]
    let parts = module.split(separator: ".")
    let fused = parts.dropLast().joined(separator: ".") + ".qkv_proj"
    if let rows = names[String(parts.last ?? "")], checkpoint["\(fused).\(stored.codesSuffix)"] != nil {
      let all = try StoredModule(fused, stored, in: checkpoint).values
      return Array(all[rows.lowerBound * 256..<rows.upperBound * 256])
    }
    return try StoredModule(module, stored, in: checkpoint).values
  }

  private let modules = [
    "model.layers.1.moe.gate_proj", "model.layers.2.moe.down_proj", "model.layers.1.self_attn.q_proj",
    "model.layers.1.self_attn.k_proj", "model.layers.1.self_attn.v_proj", "model.layers.0.mlp.down_proj",
    "model.layers.2.share_expert.up_proj",
  ]

  @Test("codes are decoded to F32 and BF16", arguments: SchemeOutputTests.names)
  func decoding(recipe: String) async throws {
    let stored = try SchemeOutputTests.scheme(recipe)
    let source = try await make(recipe)
    let manifest = try await harness.convert(source.path, .init(recipe: "F32"), into: "f32")
    try await harness.convert(source.path, .init(recipe: "BF16"), into: "bf16")
    let (f32, bf16) = (
      try Checkpoint.open(harness.directory.path("f32")), try Checkpoint.open(harness.directory.path("bf16"))
    )
    let published = try Checkpoint.open(tiny)
    #expect(Set(bf16.tensors.map(\.name)) == Set(published.tensors.map(\.name)))
    for tensor in published.tensors { #expect(bf16[tensor.name]?.shape == tensor.shape, "\(tensor.name)") }
    for module in modules where recipe != "MXFP4" || module.contains(".moe.") {
      let expected = try values(module, stored, in: source)
      let found = try tensorValues(of: module + ".weight", in: f32)
      #expect(same(found, expected), "\(module)")
      let rounded = try tensorValues(of: module + ".weight", in: bf16)
      #expect(relativeError(rounded, of: expected) < 0.004, "\(module)")
    }
    #expect(manifest.tensors.allSatisfy { $0.error == nil })
    #expect(!manifest.plan.absorbed.isEmpty)
    let text = String(decoding: try #require(bf16.configuration), as: UTF8.self)
    #expect(!text.contains("quantization_config"))
  }

  @Test("a kept scheme keeps every byte", arguments: SchemeOutputTests.names) func keeping(recipe: String)
    async throws
  {
    let source = try await make(recipe)
    try await harness.convert(source.path, .init(maximumShardBytes: 200_000))
    let output = try Checkpoint.open(harness.directory.path("output"))
    #expect(output.files.count > 3)
    #expect(Set(output.tensors.map(\.name)) == Set(source.tensors.map(\.name)))
    for tensor in source.tensors {
      let found = try #require(output[tensor.name])
      #expect(found.elementType == tensor.elementType && found.shape == tensor.shape, "\(tensor.name)")
      #expect(
        try TensorBytes(tensor.name, in: output).bytes == TensorBytes(tensor.name, in: source).bytes,
        "\(tensor.name)"
      )
    }
    #expect(output.configuration == source.configuration)
  }

  @Test(
    "the same scheme is copied, and another is encoded from the values",
    arguments: [
      ("NVFP4A16", "W4A16"), ("W4A16", "MXFP4A16"), ("FP8_BLOCK", "NVFP4A16"), ("FP8_DYNAMIC", "W8A8_INT8"),
    ])
  func onward(first: String, second: String) async throws {
    let (stored, target) = (try SchemeOutputTests.scheme(first), try SchemeOutputTests.scheme(second))
    let source = try await make(first)
    let again = try harness.plan(source.path, .init(recipe: first, scope: .linear)).plan
    #expect(again.files.flatMap(\.tensors).allSatisfy { $0.isCopy || $0.operation.part == .shape })
    try await harness.convert(
      source.path, .init(recipe: second, scope: .experts, scaleSearch: .absmax), into: "output")
    let output = try Checkpoint.open(harness.directory.path("output"))
    let module = "model.layers.1.moe.up_proj"
    let found = StoredModule(module, target, in: output)
    let expected = try EncodedModule(
      values(module, stored, in: source), target, matrices: 8, columns: 256, matrixScales: found.matrixScales,
      search: .absmax)
    #expect(try found.bytes(found.codesName) == expected.codes)
    #expect(try found.bytes(found.scalesName) == expected.scales)
    // Attention was quantised and no longer is.
    #expect(output["model.layers.1.self_attn.q_proj.weight"]?.elementType == .bf16)
  }

  @Test("NVFP4 in the other convention keeps codes and scales, with the reciprocal matrix scale")
  func conventions()
    async throws
  {
    let source = try await make("NVFP4A16")
    let manifest = try await harness.convert(source.path, .init(recipe: "NVFP4A16_MODELOPT", scope: .linear))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let (from, to) = (StoredScheme(.nvfp4, .compressedTensors), StoredScheme(.nvfp4, .modelOpt))
    for module in ["model.layers.1.moe.up_proj", "model.layers.1.self_attn.qkv_proj"] {
      let (before, after) = (StoredModule(module, from, in: source), StoredModule(module, to, in: output))
      #expect(try before.bytes(before.codesName) == after.bytes(after.codesName))
      #expect(try before.bytes(before.scalesName) == after.bytes(after.scalesName))
      #expect(try before.matrixScales?.map { 1 / $0 } == after.matrixScales)
      let error = try #require(manifest.tensors.first { $0.name == after.codesName }?.error)
      #expect(error.relativeRMSE < 1e-7)
    }
  }

  // MARK: - GGUF

  /// GGUF's four-bit formats have no -0.
  private func same(_ a: [Float], _ b: [Float]) -> Bool { a.elementsEqual(b) { $0 == $1 } }

  @Test(
    "four-bit formats go to GGUF and back without loss",
    arguments: [
      ("MXFP4", "MXFP4"), ("MXFP4A16", "MXFP4"), ("NVFP4A16_MODELOPT", "NVFP4"), ("NVFP4A16", "NVFP4"),
    ])
  func toGGUFAndBack(recipe: String, format: String) async throws {
    let stored = try SchemeOutputTests.scheme(recipe)
    let source = try await make(recipe, linear: false)
    let pattern = try harness.plan(source.path, .init(format: .gguf, recipe: format)).plan
    let experts = pattern.files.flatMap(\.tensors).filter { $0.name.contains("_exps.weight") }
    #expect(experts.count == 6 && experts.allSatisfy { $0.operation == .pack })
    try await harness.convert(source.path, .init(format: .gguf, recipe: format), into: "gguf")
    let gguf = try Checkpoint.open(harness.directory.path("gguf"))
    let isNVFP4 = format == "NVFP4"
    #expect((gguf["blk.1.ffn_up_exps.scale"] != nil) == isNVFP4)
    for (name, module) in [("ffn_up_exps", "up_proj"), ("ffn_down_exps", "down_proj")] {
      let expected = try StoredModule("model.layers.1.moe.\(module)", stored, in: source).values
      var found = try tensorValues(of: "blk.1.\(name).weight", in: gguf)
      if isNVFP4 {
        let scales = try TensorBytes("blk.1.\(name).scale", in: gguf).bytes.withUnsafeBytes {
          Array($0.bindMemory(to: Float.self))
        }
        #expect(scales.count == 8)
        for index in found.indices { found[index] *= scales[index / (found.count / 8)] }
        #expect(relativeError(found, of: expected) < 2e-7)
      } else {
        #expect(same(found, expected))
      }
    }
    // When decoded from GGUF, matrix scales are multiplied in.
    try await harness.convert(gguf.path, .init(recipe: "F32"), into: "f32")
    let f32 = try Checkpoint.open(harness.directory.path("f32"))
    let module = "model.layers.2.moe.gate_proj"
    #expect(
      try relativeError(
        tensorValues(of: module + ".weight", in: f32),
        of: StoredModule(module, stored, in: source).values)
        < 2e-7)
    #expect(Set(f32.tensors.map(\.name)) == Set(try Checkpoint.open(tiny).tensors.map(\.name)))
    // And back into the same scheme.
    try await harness.convert(gguf.path, .init(recipe: recipe, scope: .experts), into: "back")
    let back = try Checkpoint.open(harness.directory.path("back"))
    for tensor in source.tensors where tensor.name.contains(".moe.") && !tensor.name.contains(".gate.") {
      let isReciprocal = tensor.name.hasSuffix("global_scale")
      let (before, after) = (
        try TensorBytes(tensor.name, in: source).bytes, try TensorBytes(tensor.name, in: back).bytes
      )
      #expect(isReciprocal || before == after, "\(tensor.name)")
    }
  }

  @Test("GGUF's four-bit blocks are repacked into schemes losslessly", arguments: ["MXFP4", "NVFP4"])
  func fromGGUF(format: String) async throws {
    try await harness.convert(tiny, .init(format: .gguf, recipe: format), into: "gguf")
    let gguf = try Checkpoint.open(harness.directory.path("gguf"))
    let recipe = format == "MXFP4" ? "MXFP4A16" : "NVFP4A16"
    let stored = try SchemeOutputTests.scheme(recipe)
    let manifest = try await harness.convert(gguf.path, .init(recipe: recipe), into: "output")
    let output = try Checkpoint.open(harness.directory.path("output"))
    for module in ["gate_proj", "down_proj"] {
      let name = "model.layers.1.moe.\(module)"
      let found = StoredModule(name, stored, in: output)
      let expected = try tensorValues(of: "blk.1.ffn_\(module.dropLast(5))_exps.weight", in: gguf)
      #expect(try same(found.values, expected), "\(name)")
      #expect(manifest.tensors.first { $0.name == found.codesName }?.error == nil)
      if let scales = try found.matrixScales { #expect(scales.allSatisfy { $0 == 1 }) }
    }
  }
}
