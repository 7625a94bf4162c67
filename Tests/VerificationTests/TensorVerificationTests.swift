import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

import Verification

/// Whole checkpoints against their sources, sound ones and damaged ones.
@Suite struct TensorVerificationTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func convert(
    _ fixture: String, _ format: Checkpoint.Format, _ recipe: String,
    _ partition: ShardPlan.Partition = .none
  ) async throws -> String {
    let source = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    let plan = try ShardPlanner.plan(
      source, request: ShardPlan.Request(format: format, recipe: recipe, partition: partition),
      recipe: Recipe.named(recipe))
    _ = try await Conversion(plan, options: ConversionOptions(threads: 2)).run(
      into: directory.path("output"))
    return directory.path("output")
  }

  private func verify(
    _ output: String, _ source: String, threads: Int = 2, filter: (@Sendable (String) -> Bool)? = nil
  ) async throws -> TensorReport {
    try await TensorVerification(
      Checkpoint.open(output), source: Checkpoint.open(Fixtures.path("checkpoints/\(source)")), filter: filter
    ).run(threads: threads)
  }

  /// Changes bytes of a tensor in place.
  private func damage(
    _ checkpoint: String, _ name: String, file prefix: String = "", _ change: (inout [UInt8]) -> Void
  ) throws {
    let opened = try Checkpoint.open(checkpoint)
    let tensor = try #require(
      opened.tensors.first { $0.name == name && opened.files[$0.file].name.hasPrefix(prefix) })
    let url = URL(filePath: opened.files[tensor.file].source.path)
    var data = try Data(contentsOf: url)
    var bytes = [UInt8](data[tensor.byteRange])
    change(&bytes)
    data.replaceSubrange(tensor.byteRange, with: bytes)
    try data.write(to: url)
  }

  // MARK: Sound

  static let layouts: [ShardPlan.Partition] = [.none, .afd(ShardPlan.AFDLayout(ffnEP: 2))]

  @Test(
    "a GGUF conversion matches its source within its format's errors",
    arguments: ["tiny", "odd", "tiny-fp8"], ["Q8_0", "Q4_K", "Q2_K", "BF16", "F16", "IQ4_XS"])
  func gguf(fixture: String, recipe: String) async throws {
    let output = try await convert(fixture, .gguf, recipe, recipe == "Q4_K" ? Self.layouts[1] : .none)
    let report = try await verify(output, fixture)
    #expect(report.ok, "\(report.findings.first.map(\.message) ?? "")")
    #expect(report.tensors.allSatisfy { $0.ok })
    #expect(report.formats.reduce(0) { $0 + $1.tensors } == report.tensors.count)
  }

  @Test(
    "a safetensors conversion matches its source, whole and in parts",
    arguments: ["tiny", "odd", "tiny-fp8"], ["keep", "FP8_BLOCK"])
  func safetensors(fixture: String, recipe: String) async throws {
    let output = try await convert(fixture, .safetensors, recipe, Self.layouts[1])
    let report = try await verify(output, fixture)
    #expect(report.ok, "\(report.findings.first.map(\.message) ?? "")")
    if recipe == "keep" {
      #expect(report.tensors.allSatisfy { $0.maxAbs == 0 && $0.snr == nil && $0.relativeRMSE == 0 })
    }
    // A single part is checked as a part, with nothing missing.
    let part = try await verify(output + "/ffn-ep1", fixture)
    #expect(part.ok && part.partial)
    let experts = try #require(part.tensors.first { $0.name.hasSuffix(".moe.up_proj.weight") })
    #expect(experts.slices?.count == 1 && experts.slices?.first?.origin[0] ?? 0 > 0)
    #expect(experts.elements == experts.slices?.first?.extent.reduce(1, *))
    #expect(experts.elements < experts.shape.elementCount)
  }

  @Test func resultsDoNotDependOnThreads() async throws {
    let output = try await convert("odd", .gguf, "Q4_0")
    var reports: [Data] = []
    for threads in [1, 2, 5] {
      reports.append(try JSONEncoder.exact.encode(await verify(output, "odd", threads: threads)))
    }
    #expect(reports[0] == reports[1] && reports[0] == reports[2])
  }

  // MARK: Damaged

  @Test func swappedExpertsInAPartAreFound() async throws {
    let output = try await convert("tiny", .safetensors, "FP8_BLOCK", Self.layouts[1])
    let name = "model.layers.2.moe.down_proj.weight"
    try damage(output, name, file: "ffn-ep1/") { bytes in
      let half = bytes.count / 4
      for index in 0..<half { bytes.swapAt(index, half + index) }
    }
    let report = try await verify(output, "tiny")
    #expect(!report.ok)
    #expect(report.findings.map(\.tensor) == [name] && report.findings.map(\.part) == ["ffn-ep1"])
    let figures = try #require(report.tensors.first { $0.name == name && $0.part == "ffn-ep1" })
    // The part has the last four of eight experts; its first two are exchanged.
    #expect([4, 5].contains(figures.worstMatrix?.matrix ?? 0))
    #expect([4, 5].contains(figures.worstBlock?.matrix ?? 0))
    #expect(figures.rowsOutOfLine == 512)
  }

  @Test func swappedRowsOfQ8_0AreFound() async throws {
    let output = try await convert("tiny", .gguf, "Q8_0")
    try damage(output, "output.weight") { bytes in
      let row = 256 / 32 * 34
      for index in 0..<row { bytes.swapAt(17 * row + index, 400 * row + index) }
    }
    let report = try await verify(output, "tiny")
    let finding = try #require(report.findings.first)
    #expect(report.findings.count == 1 && finding.kind == .block && finding.tensor == "lm_head.weight")
    let figures = try #require(report.tensors.first { !$0.ok })
    #expect(figures.rowsOutOfLine == 2 && [17, 400].contains(figures.worstRow?.row ?? 0))
  }

  @Test func aDoubledTileScaleIsFound() async throws {
    let output = try await convert("tiny", .safetensors, "FP8_BLOCK")
    try damage(output, "model.layers.0.mlp.down_proj.weight_scale_inv") { bytes in
      // The exponent of the second scale.
      bytes.withUnsafeMutableBytes {
        $0.storeBytes(
          of: 2 * $0.loadUnaligned(fromByteOffset: 4, as: Float.self), toByteOffset: 4, as: Float.self)
      }
    }
    let report = try await verify(output, "tiny")
    #expect(report.findings.map(\.tensor) == ["model.layers.0.mlp.down_proj.weight"])
    let figures = try #require(report.tensors.first { !$0.ok })
    #expect(figures.worstBlock?.column == 128 && figures.rowsOutOfLine == 128)
    #expect(figures.blocksOutOfLine == 128)
  }

  @Test func aFlippedBitInAnExactTensorIsFound() async throws {
    let output = try await convert("tiny", .gguf, "keep")
    try damage(output, "blk.0.attn_norm.weight") { $0[8] ^= 1 }
    let report = try await verify(output, "tiny")
    #expect(report.findings.map(\.kind) == [.notExact])
    let figures = try #require(report.tensors.first { !$0.ok })
    #expect(figures.maxAbsAt?.row == 0 && figures.maxAbsAt?.column == 2 && figures.maxAbsAt?.matrix == nil)
    #expect(figures.limit == 0 && figures.maxAbs > 0)
  }

  @Test func nonFiniteValuesAreFound() async throws {
    let output = try await convert("tiny", .safetensors, "keep")
    try damage(output, "model.embed_tokens.weight") { bytes in
      (bytes[514], bytes[515]) = (0xC0, 0x7F)
    }
    let report = try await verify(output, "tiny")
    #expect(report.findings.map(\.kind) == [.nonFinite])
    #expect(report.findings.first?.message.contains("row 1, column 1") == true)
    // If both sides have the same values, nothing is wrong.
    let same = try await TensorVerification(Checkpoint.open(output), source: Checkpoint.open(output)).run(
      threads: 1)
    #expect(same.ok && same.tensors.contains { $0.sameNonFinite == 1 })
  }

  // MARK: Missing

  @Test func missingAndUnexpectedTensorsAreFound() async throws {
    let report = try await verify(Fixtures.path("checkpoints/tiny"), "odd")
    #expect(!report.ok)
    let kinds = Set(report.findings.map(\.kind))
    #expect(kinds.contains(.shape))
    let filtered = try await verify(Fixtures.path("checkpoints/tiny"), "odd") {
      $0.hasPrefix("model.layers.9")
    }
    #expect(filtered.ok && filtered.tensors.isEmpty)
  }

  @Test func aSetWithoutOneOfItsPartsIsRefused() async throws {
    let output = try await convert("tiny", .safetensors, "keep", Self.layouts[1])
    try FileManager.default.removeItem(atPath: output + "/ffn-ep0")
    let report = try await verify(output, "tiny")
    #expect(!report.ok)
    let missing = report.findings.filter { $0.kind == .incomplete }
    #expect(missing.contains { $0.tensor == "model.layers.1.moe.gate_proj.weight" })
    #expect(report.tensors.allSatisfy { $0.ok })
  }
}

extension JSONEncoder {
  /// All digits, and keys in a fixed order.
  fileprivate static var exact: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return encoder
  }
}
