import JSON
import ServingEngines
import Step3Model
import TensorFormats
import Testing

/// Codes whose scales, zero points or column order an engine would not load, or would misread.
@Suite("Codes taken for values")
struct EngineCodesTests {
  private static let experts = "1.moe.gate_proj."

  /// Expects both engines to report a fault of one of these kinds.
  private func expect(
    _ checkpoint: SyntheticCheckpoint, _ codes: Set<EngineFinding.Code>,
    at location: SourceLocation = #_sourceLocation
  ) throws {
    for engine in Engine.allCases {
      let report = try checkpoint.report(engine)
      #expect(!report.ok, "\(engine)", sourceLocation: location)
      #expect(
        !report.faults.isDisjoint(with: codes), "\(engine): \(report.findings)", sourceLocation: location)
    }
  }

  @Test(
    "Scales under a name that no engine knows are a fault",
    arguments: ["scale", "scales", "weight_scale", "scale_inv"])
  func scaleUnderAnotherName(name: String) throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    checkpoint.change(Self.experts + "weight_scale_inv") { tensor in
      tensor.name = tensor.name.replacing("weight_scale_inv", with: name)
    }
    try expect(checkpoint, [.missingScale])
    try expect(checkpoint, [.unknownScale])
  }

  @Test("So are they without a quantization_config", arguments: ["scale", "weight_scale_inv", "descale"])
  func scaleWithoutConfiguration(name: String) throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    checkpoint.config.set(["quantization_config"], to: nil)
    for layer in [1, 2] {
      for part in ["gate", "up", "down"] {
        checkpoint.change("\(layer).moe.\(part)_proj.weight_scale_inv") { tensor in
          tensor.name = tensor.name.replacing("weight_scale_inv", with: name)
        }
      }
    }
    try expect(checkpoint, [.moduleIgnored, .wrongType])
  }

  @Test(
    "Eight-bit floats other than E4M3 are a fault",
    arguments: ["F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8"])
  func otherCodes(type: String) throws {
    for scheme in [SyntheticScheme.fp8Block, .fp8Tensor, .fp8Dynamic] {
      var checkpoint = try SyntheticCheckpoint(scheme)
      let element = try #require(ElementType(rawValue: type))
      checkpoint.change(Self.experts + "weight") { $0.elementType = element }
      for engine in Engine.allCases {
        #expect(try checkpoint.report(engine).severity(.wrongType) == .silent)
      }
    }
  }

  @Test(
    "Zero points that the scheme does not have are a fault",
    arguments: [SyntheticScheme.int8CT, .int8SGLang, .w4a16])
  func zeroPoints(scheme: SyntheticScheme) throws {
    var checkpoint = try SyntheticCheckpoint(scheme)
    for layer in [1, 2] {
      checkpoint.add("model.layers.\(layer).moe.gate_proj.weight_zero_point", "I8", [48, 1024, 1])
    }
    try expect(checkpoint, [.unknownScale, .schemeUnsupported])
  }

  @Test("INT8 and FP8 declared as asymmetric are a fault", arguments: [SyntheticScheme.int8CT, .fp8Dynamic])
  func asymmetric(scheme: SyntheticScheme) throws {
    var checkpoint = try SyntheticCheckpoint(scheme)
    checkpoint.config.set(
      ["quantization_config", "config_groups", "group_0", "weights", "symmetric"], to: .bool(false))
    try expect(checkpoint, [.schemeUnsupported])
  }

  @Test("A column order that the configuration does not declare is a fault")
  func order() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16)
    checkpoint.add("model.layers.1.moe.gate_proj.weight_g_idx", "I32", [48, 512])
    try expect(checkpoint, [.unknownScale])
  }

  @Test("GPTQ's g_idx counts only with desc_act", arguments: [false, true])
  func gptqOrder(isReordered: Bool) throws {
    var checkpoint = try SyntheticCheckpoint(.gptq)
    checkpoint.config.set(["quantization_config", "desc_act"], to: .bool(isReordered))
    func indices(_ columns: Int, _ group: (Int) -> Int) -> [UInt8] {
      (0..<48).flatMap { _ in (0..<columns).flatMap { [UInt8(group($0)), 0, 0, 0] } }
    }
    #expect(try checkpoint.report(.sglang).ok)
    checkpoint.bytes["model.layers.2.moe.up_proj.g_idx"] = indices(512) { $0 % 4 }
    let report = try checkpoint.report(.sglang)
    #expect(report.severity(.orderIgnored) == (isReordered ? nil : .silent), "\(report.findings)")
    #expect(report.ok == isReordered)
    checkpoint.canRead = false
    #expect(try checkpoint.report(.sglang).checksSkipped.contains { $0.contains("g_idx") } == !isReordered)
  }

  @Test("A scheme with another width than declared is a fault")
  func otherWidth() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16)
    let bits = ["quantization_config", "config_groups", "group_0", "weights", "num_bits"]
    checkpoint.config.set(bits, to: .integer(8))
    try expect(checkpoint, [.wrongShape, .shortRows])
    var groups = try SyntheticCheckpoint(.w4a16)
    groups.config.set(bits.dropLast() + ["group_size"], to: .integer(64))
    try expect(groups, [.wrongShape, .shortRows])
    var tiles = try SyntheticCheckpoint(.fp8Block)
    tiles.config.set(["quantization_config", "weight_block_size"], to: .array([.integer(64), .integer(64)]))
    try expect(tiles, [.wrongShape, .shortRows])
    var absent = try SyntheticCheckpoint(.nvfp4A16)
    absent.remove(Self.experts + "weight_global_scale")
    try expect(absent, [.missingScale])
  }

  @Test("An unreadable tile size is a finding and does not end the check")
  func unreadableTile() throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    checkpoint.config.set(["quantization_config", "weight_block_size"], to: .string("128"))
    try expect(checkpoint, [.quantizationConfig])
  }
}
