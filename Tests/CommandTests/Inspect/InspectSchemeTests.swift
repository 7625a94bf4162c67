import Checkpoint
import CheckpointTesting
import Foundation
import QuantizationRecipes
import ShardPlanning
import Testing

/// `step3-inspect` on the formats that engines load: codes with scales in separate tensors.
@Suite("step3-inspect on schemes") struct InspectSchemeTests {
  /// A recipe and how it stores a weight.
  struct Scheme: CustomTestStringConvertible, Sendable {
    let recipe: String
    var scope = SchemeRecipe.Scope.linear
    let codes: String
    /// The largest relative root mean square error that it may have.
    let error: ClosedRange<Double>
    let note: String
    var isFused = false
    var testDescription: String { recipe }
  }

  /// E4M3 rounds to 4 significant bits, INT8 to 254 steps across the range of a row, INT4 to 15 across that of a group, E2M1 to
  /// 15 uneven steps.
  static let schemes = [
    Scheme(
      recipe: "FP8_BLOCK", codes: "F8_E4M3", error: 0.01...0.04,
      note: "compared after multiplication by block scales"),
    Scheme(
      recipe: "FP8_DYNAMIC", codes: "F8_E4M3", error: 0.01...0.04, note: "compared after decoding FP8 by rows"
    ),
    Scheme(
      recipe: "W8A8_INT8", codes: "I8", error: 0.002...0.02, note: "compared after decoding INT8 by rows"),
    Scheme(
      recipe: "W8A8_INT8_SGLANG", codes: "I8", error: 0.002...0.02,
      note: "compared after decoding INT8 by rows"),
    Scheme(
      recipe: "W4A16", codes: "I32", error: 0.05...0.2,
      note: "compared after decoding INT4 in groups of 128", isFused: true),
    Scheme(
      recipe: "W4A16_G32", codes: "I32", error: 0.05...0.15,
      note: "compared after decoding INT4 in groups of 32", isFused: true),
    Scheme(
      recipe: "NVFP4A16", codes: "U8", error: 0.05...0.15, note: "compared after decoding NVFP4",
      isFused: true),
    Scheme(
      recipe: "NVFP4A16_MODELOPT", codes: "U8", error: 0.05...0.15, note: "compared after decoding NVFP4",
      isFused: true),
    Scheme(
      recipe: "MXFP4", scope: .experts, codes: "U8", error: 0.05...0.2, note: "compared after decoding MXFP4"),
    Scheme(recipe: "MXFP4A16", codes: "U8", error: 0.05...0.2, note: "compared after decoding MXFP4"),
  ]

  private static let source = Fixtures.path("checkpoints/tiny")

  private func inspect(_ arguments: [String]) throws -> (status: Int32, json: [String: Any]) {
    let result = try runTool("step3-inspect", arguments + ["--json"])
    #expect(result.error.isEmpty, "\(result.error)")
    return (result.status, try result.json())
  }

  private func summary(_ json: [String: Any]) throws -> [String: Int] {
    try #require(json["summary"] as? [String: Int])
  }

  @Test("codes count as the weights they encode, scales as no parameters", arguments: schemes)
  func list(_ scheme: Scheme) async throws {
    let directory = try TemporaryDirectory()
    let output = directory.path("out")
    try await convert("tiny", to: .safetensors, recipe: scheme.recipe, scope: scheme.scope, into: output)
    let (_, json) = try inspect([output])
    let (_, source) = try inspect([Self.source])
    #expect(json["parameters"] as? Int == 5_749_568)
    let roles = try #require(json["roles"] as? [String: [String: Int]])
    for (role, totals) in try #require(source["roles"] as? [String: [String: Int]]) {
      #expect(roles[role]?["parameters"] == totals["parameters"], "\(role)")
    }
    #expect(roles["scale"]?["parameters"] == 0)
    let tensors = try #require(json["tensors"] as? [[String: Any]])
    for tensor in tensors {
      let name = try #require(tensor["name"] as? String)
      let stored = try #require(tensor["shape"] as? [Int]).reduce(1, *)
      let dtype = try #require(tensor["dtype"] as? String)
      let isScale = name.contains(".weight_") && !name.hasSuffix(".weight_packed")
      #expect((tensor["role"] as? String == "scale") == isScale, "\(name)")
      // The shape is the stored one; a word holds eight codes, a byte two.
      let codesPerElement = isScale ? 1 : dtype == "I32" ? 8 : dtype == "U8" ? 2 : 1
      #expect(tensor["elements"] as? Int == stored * codesPerElement, "\(name)")
    }
    let codes = tensors.filter { $0["dtype"] as? String == scheme.codes && $0["role"] as? String != "scale" }
    #expect(codes.count == (scheme.scope == .experts ? 6 : scheme.isFused ? 30 : 38))
  }

  @Test("weights are compared by value with their source", arguments: schemes)
  func differsFromItsSourceByItsSteps(_ scheme: Scheme) async throws {
    let directory = try TemporaryDirectory()
    let output = directory.path("out")
    try await convert("tiny", to: .safetensors, recipe: scheme.recipe, scope: scheme.scope, into: output)
    let (_, figures) = try inspect(["stats", Self.source])
    var rms: [String: Double] = [:]
    for tensor in try #require(figures["tensors"] as? [[String: Any]]) {
      rms[try #require(tensor["name"] as? String)] = tensor["rms"] as? Double
    }
    for isReversed in [false, true] {
      let (status, json) = try inspect(
        ["diff"] + (isReversed ? [output, Self.source] : [Self.source, output]))
      #expect(status == 1)
      #expect(json["onlyInA"] as? [String] == [])
      #expect(json["onlyInB"] as? [String] == [])
      let quantised = scheme.scope == .experts ? 6 : 38
      #expect(
        try summary(json) == [
          "identical": 88 - quantised, "sameValues": 0, "different": quantised, "shape": 0, "notCompared": 0,
        ])
      for pair in try #require(json["pairs"] as? [[String: Any]]) {
        let sides = [pair["a"], pair["b"]].compactMap { $0 as? [String: Any] }
        let original = try #require(sides[isReversed ? 1 : 0]["name"] as? String)
        #expect(sides[isReversed ? 0 : 1]["dtype"] as? String == scheme.codes)
        #expect(pair["note"] as? String == scheme.note)
        let isFused = ["q_proj", "k_proj", "v_proj"].contains { original.contains($0) } && scheme.isFused
        #expect(pair["weight"] as? String == (isFused ? original : nil))
        let errors = try #require(pair["errors"] as? [String: Any], "\(original)")
        let error = try #require(errors["rmse"] as? Double) / (try #require(rms[original]))
        #expect(scheme.error.contains(error), "\(original): \(error)")
        #expect(errors["nonFinite"] as? Int == 0)
      }
    }
  }

  @Test("an output equals itself, its decoded form and its partition set", arguments: schemes)
  func equalsItsOtherForms(_ scheme: Scheme) async throws {
    let directory = try TemporaryDirectory()
    let (whole, plain, set) = (directory.path("whole"), directory.path("plain"), directory.path("set"))
    try await convert("tiny", to: .safetensors, recipe: scheme.recipe, scope: scheme.scope, into: whole)
    var (status, json) = try inspect(["diff", whole, whole, "--exact"])
    #expect(status == 0)
    #expect(try summary(json)["identical"] == 88)

    try await convert(path: whole, to: .safetensors, recipe: "F32", into: plain)
    (status, json) = try inspect(["diff", whole, plain])
    #expect(status == 0)
    #expect(try summary(json)["sameValues"] == 88)

    try await convert(
      "tiny", to: .safetensors, recipe: scheme.recipe, scope: scheme.scope,
      partition: InspectPartitionTests.layout, into: set)
    for paths in [[whole, set], [set, whole], [set, plain]] {
      (status, json) = try inspect(["diff"] + paths)
      #expect(status == 0)
      #expect((json["incomplete"] as? [Any])?.isEmpty == true)
      #expect(try summary(json)["different"] == 0)
    }
    #expect(try inspect([set]).json["parameters"] as? Int == 5_749_568)
  }

  @Test(
    "an expert's columns in one part equal those of the whole",
    arguments: ["W4A16", "NVFP4A16", "FP8_BLOCK"])
  func columnsOfAPart(recipe: String) async throws {
    let directory = try TemporaryDirectory()
    let (whole, set) = (directory.path("whole"), directory.path("set"))
    let layout = ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnTP: 2))
    try await convert("tiny", to: .safetensors, recipe: recipe, scope: .experts, into: whole)
    try await convert(
      "tiny", to: .safetensors, recipe: recipe, scope: .experts, partition: layout, into: set)
    let (status, json) = try inspect(["diff", whole, set])
    #expect(status == 0)
    #expect(try summary(json)["different"] == 0)
    #expect((json["incomplete"] as? [Any])?.isEmpty == true)
    #expect(try inspect([set]).json["parameters"] as? Int == 5_749_568)
  }

  @Test(
    "a four-bit format has equal values in safetensors and GGUF",
    arguments: ["MXFP4", "NVFP4A16_MODELOPT", "NVFP4A16"])
  func fourBitsInGGUF(recipe: String) async throws {
    let directory = try TemporaryDirectory()
    let (output, gguf) = (directory.path("out"), directory.path("gguf"))
    try await convert("tiny", to: .safetensors, recipe: recipe, scope: .experts, into: output)
    try await convert(path: output, to: .gguf, recipe: recipe == "MXFP4" ? "MXFP4_MOE" : "NVFP4", into: gguf)
    let (_, json) = try inspect(["diff", output, gguf])
    let experts = try #require(json["pairs"] as? [[String: Any]]).filter {
      ($0["a"] as? [String: Any])?["dtype"] as? String == "U8"
    }
    #expect(experts.count == 6)
    for pair in experts {
      // The scales of groups and matrices are multiplied in another order, and the reciprocal of a divisor is rounded: only the
      // last bits of F32 may differ.
      guard recipe != "MXFP4", let errors = pair["errors"] as? [String: Any] else {
        #expect(pair["outcome"] as? String == "sameValues")
        continue
      }
      #expect(try #require(errors["maxAbs"] as? Double) < 1e-6)
    }
    #expect(json["onlyInA"] as? [String] == [])
    #expect(json["onlyInB"] as? [String] == [])
  }
}
