import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import QuantizationRecipes
import ShardPlanning
import Step3Model
import TensorFormats
import Testing

import Verification

/// Weights are decoded a second time: sound ones with the same result, and misread ones are found.
@Suite struct CrossCheckTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func convert(
    _ recipe: String, _ fixture: String = "tiny", _ partition: ShardPlan.Partition = .none
  ) async throws -> String {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    let plan = try ShardPlanner.plan(
      source, request: ShardPlan.Request(format: .safetensors, recipe: recipe, partition: partition),
      recipe: Recipe.named(recipe))
    _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(
      into: directory.path("output"))
    return directory.path("output")
  }

  private func verify(_ output: String, _ fixture: String = "tiny") async throws -> TensorReport {
    try await TensorVerification(
      Checkpoint.open(output), source: Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    ).run(threads: 2)
  }

  /// Changes `config.json` of the output.
  private func configure(_ output: String, _ body: (inout [String: Any]) -> Void) throws {
    let url = URL(filePath: "\(output)/config.json")
    var root = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
    body(&root)
    try JSONSerialization.data(withJSONObject: root).write(to: url)
  }

  @Test(
    "every scheme is decoded twice with the same result",
    arguments: [
      "FP8_BLOCK", "FP8_DYNAMIC", "W8A8_INT8", "W8A8_INT8_SGLANG", "W4A16", "W4A16_G32", "NVFP4A16",
      "NVFP4A16_MODELOPT", "MXFP4A16",
    ])
  func schemes(recipe: String) async throws {
    let report = try await verify(try await convert(recipe))
    #expect(report.ok, "\(report.findings)")
    #expect(report.crossCheck.checked >= 6 && report.crossCheck.notChecked == 0)
    #expect(report.crossCheck.elements >= 4000 * report.crossCheck.checked)
    #expect(report.crossCheck.modules.allSatisfy { $0.outcome == .checked && $0.side == .output })
    #expect(report.crossCheck.modules.allSatisfy { $0.declared != "nothing" && !$0.companions.isEmpty })
  }

  @Test("both sides and every part are checked") func parts() async throws {
    let layout = ShardPlan.AFDLayout(ffnEP: 2)
    let report = try await verify(try await convert("keep", "tiny-fp8", .afd(layout)), "tiny-fp8")
    #expect(report.ok && report.crossCheck.notChecked == 0, "\(report.findings)")
    let modules = report.crossCheck.modules
    #expect(modules.count { $0.side == .source } == 38)
    #expect(Set(modules.compactMap(\.part)) == ["attention", "ffn-ep0", "ffn-ep1"])
  }

  @Test("a configuration that does not describe the stored codes, or misdescribes them, is found")
  func misdescribed() async throws {
    let output = try await convert("W4A16")
    var original: Any?
    try configure(output) { original = $0.removeValue(forKey: "quantization_config") }
    let silent = try await verify(output)
    #expect(silent.findings.count == 6 && silent.findings.allSatisfy { $0.kind == .undescribed })
    try configure(output) {
      var settings = original as? [String: Any] ?? [:]
      settings["ignore"] = ["re:.*moe.*"]
      $0["quantization_config"] = settings
    }
    #expect(try await verify(output).findings.count { $0.kind == .undescribed } == 6)
    for (key, value) in [("num_bits", 8), ("group_size", 64)] {
      try configure(output) { root in
        var settings = original as? [String: Any] ?? [:]
        var groups = settings["config_groups"] as? [String: Any] ?? [:]
        var group = groups["group_0"] as? [String: Any] ?? [:]
        var weights = group["weights"] as? [String: Any] ?? [:]
        weights[key] = value
        group["weights"] = weights
        groups["group_0"] = group
        settings["config_groups"] = groups
        root["quantization_config"] = settings
      }
      let report = try? await verify(output)
      // Refused by the first decoder, or found by the second.
      if let report {
        #expect(report.findings.count { $0.kind == .declaration } == 6, "\(key): \(report.findings)")
      }
    }
  }

  @Test("the filter applies to the cross-check as well") func filtered() async throws {
    let output = try await convert("FP8_BLOCK")
    let source = try Checkpoint.open(Fixtures.path("checkpoints/tiny"))
    let report = try await TensorVerification(
      Checkpoint.open(output), source: source, filter: { $0.hasSuffix("2.moe.up_proj.weight") }
    ).run(threads: 1)
    #expect(report.ok && report.crossCheck.modules.map(\.name) == ["model.layers.2.moe.up_proj"])
  }

  @Test(
    "unsupported codes: a complete copy passes, one without a companion fails",
    arguments: [true, false])
  func copies(isWhole: Bool) async throws {
    let settings = #"{"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}"#
    func write(_ name: String, _ suffixes: [String]) throws -> Checkpoint {
      let root = directory.path(name)
      try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
      try Data(settings.utf8).write(to: URL(filePath: "\(root)/config.json"))
      let entries = suffixes.enumerated().map { index, suffix in
        #""a.\#(suffix)":{"dtype":"F8_E4M3","shape":[8,8],"data_offsets":[\#(64 * index),\#(64 * index + 64)]}"#
      }
      let header = Array("{\(entries.joined(separator: ","))}".utf8)
      var bytes = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header
      bytes += [UInt8](repeating: 0x38, count: 64 * suffixes.count)
      try Data(bytes).write(to: URL(filePath: "\(root)/model.safetensors"))
      return try Checkpoint.open(root)
    }
    let source = try write("source", ["weight", "descale_table"])
    let output = try write("copy", isWhole ? ["weight", "descale_table"] : ["weight"])
    let report = try await TensorVerification(output, source: source).run(threads: 1)
    #expect(report.ok == isWhole, "\(report.findings)")
    #expect(report.crossCheck.checked == 0)
  }

  @Test("an invalid group order does not crash") func malformed() throws {
    let checkpoint = try Checkpoint.open(Fixtures.path("golden/definitions/forms.safetensors"))
    let settings =
      #"{"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bits": 4}}}}"#
    // The codes of a form under a configuration that fits no form.
    for name in checkpoint.tensors.map(\.name)
    where name.hasSuffix("weight_packed") || name.hasSuffix("qweight") {
      do {
        _ = try SecondReading.values(of: name, in: checkpoint, settings: Array(settings.utf8))
      } catch let error {
        #expect([.unsupported, .malformed].contains(error.code))
      }
    }
  }
}
