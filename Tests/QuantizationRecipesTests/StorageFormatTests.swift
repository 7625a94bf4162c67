import Checkpoint
import Foundation
import Quantization
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct StorageFormatTests {
  @Test(arguments: StorageFormat.all)
  func spellingsAreReadBack(format: StorageFormat) throws {
    #expect(try StorageFormat(spelling: format.spelling) == format)
    #expect(try StorageFormat(spelling: format.spelling.lowercased()) == format)
    let json = try JSONEncoder().encode([format])
    #expect(String(decoding: json, as: UTF8.self) == "[\"\(format.spelling)\"]")
    #expect(try JSONDecoder().decode([StorageFormat].self, from: json) == [format])
  }

  @Test(arguments: ["Q4_K_M", "", "I8", "Q8_K", "Q8_1", "FP8", "F8_E4M3FNUZ"])
  func unknownSpellingsAreRefused(text: String) {
    let error = #expect(throws: CheckpointError.self) { try StorageFormat(spelling: text) }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message == "'\(text)' is not a storage format")
    #expect(error?.remedy?.contains("FP8_BLOCK") == true)
  }

  /// A remedy that names an option is one that the option accepts.
  @Test(arguments: ElementType.allCases)
  func typesThatAreNoRecipesHaveRemediesThatWork(type: ElementType) {
    do throws(CheckpointError) {
      _ = try Recipe.named(type.rawValue)
    } catch {
      let isOffered = error.remedy?.contains("--tensor-type") == true
      #expect(isOffered == ((try? StorageFormat(spelling: type.rawValue)) != nil))
    }
  }

  /// Block-FP8 takes one byte per weight plus one F32 for each tile of 128 x 128, partial tiles included.
  @Test(arguments: [
    ([256, 128], [2, 1]), ([48, 192], [1, 2]), ([5, 192, 160], [5, 2, 2]), ([1, 1], [1, 1]),
    ([0, 128], [0, 1]),
  ])
  func blockFP8HasOneScalePerTile(shape: [Int], scales: [Int]) {
    let shape = TensorShape(shape)
    #expect(WeightScheme.fp8Tiles.scales(of: shape)?.shape == TensorShape(scales))
    #expect(
      StorageFormat.blockFP8.byteCount(shape, source: .bf16)
        == shape.elementCount + 4 * TensorShape(scales).elementCount)
  }

  @Test func sizesFollowTheBlocks() {
    let shape = TensorShape([4, 512])
    #expect(StorageFormat.element(.q4K).byteCount(shape, source: .bf16) == 4 * 2 * 144)
    #expect(StorageFormat.keep.byteCount(shape, source: .bf16) == 4 * 512 * 2)
    #expect(StorageFormat.element(.q4K).byteCount(TensorShape([4, 500]), source: .bf16) == nil)
  }

  @Test func misfitsSayWhy() {
    let shape = TensorShape([4, 192])
    let q4K = StorageFormat.element(.q4K)
    #expect(
      q4K.misfit(shape, source: .bf16, in: .gguf) == "rows of 192 elements are not whole blocks of 256 (Q4_K)"
    )
    #expect(q4K.misfit(TensorShape([4, 256]), source: .bf16, in: .gguf) == nil)
    #expect(
      q4K.misfit(TensorShape([4, 256]), source: .bf16, in: .safetensors) == "safetensors has no type Q4_K")
    #expect(
      StorageFormat.blockFP8.misfit(shape, source: .bf16, in: .gguf)
        == "GGUF has no FP8_BLOCK, whose scales are separate tensors")
    #expect(StorageFormat.blockFP8.misfit(shape, source: .bf16, in: .safetensors) == nil)
    #expect(StorageFormat.blockFP8.misfit(TensorShape([192]), source: .bf16, in: .safetensors) != nil)
    #expect(StorageFormat.keep.misfit(shape, source: .f8E4M3, in: .gguf) == "GGUF has no type F8_E4M3")
    #expect(
      StorageFormat.keep.misfit(shape, source: .q8_0, in: .safetensors) == "safetensors has no type Q8_0")
  }

  /// Codes, scales, one F32 per matrix, two I64 of shape per matrix: what LOADERS.md 4.5 lists for stacks of two.
  @Test(arguments: [
    ("FP8_DYNAMIC", 2 * 4 * 256 + 2 * 4 * 4), ("W8A8_INT8", 2 * 4 * 256 + 2 * 4 * 4),
    ("W8A8_INT8_SGLANG", 2 * 4 * 256 + 2 * 4 * 4), ("W4A16", 2 * 4 * 128 + 2 * 4 * 2 * 2 + 2 * 16),
    ("W4A16_G64", 2 * 4 * 128 + 2 * 4 * 4 * 2 + 2 * 16), ("W4A16_G32", 2 * 4 * 128 + 2 * 4 * 8 * 2 + 2 * 16),
    ("NVFP4A16", 2 * 4 * 128 + 2 * 4 * 16 + 2 * 4), ("NVFP4A16_MODELOPT", 2 * 4 * 128 + 2 * 4 * 16 + 2 * 4),
    ("MXFP4A16", 2 * 4 * 128 + 2 * 4 * 8),
  ])
  func schemeSizesIncludeAllTheirTensors(spelling: String, bytes: Int) throws {
    let format = try StorageFormat(spelling: spelling)
    #expect(format.byteCount(TensorShape([2, 4, 256]), source: .bf16) == bytes)
    #expect(
      format.misfit(TensorShape([2, 4, 256]), source: .bf16, in: .gguf)?.hasPrefix("GGUF has no") == true)
    let isGrouped = !["FP8_DYNAMIC", "W8A8_INT8", "W8A8_INT8_SGLANG"].contains(spelling)
    #expect((format.misfit(TensorShape([4, 250]), source: .bf16, in: .safetensors) != nil) == isGrouped)
  }

  @Test func mxfp4DiffersBetweenContainers() throws {
    let format = try StorageFormat(spelling: "MXFP4")
    #expect(format.resolved(in: .gguf) == .element(.mxfp4))
    #expect(format.resolved(in: .safetensors) == .scheme(StoredScheme(.mxfp4, .mxfp4)))
    #expect(format.resolved(in: .safetensors).spelling == "MXFP4")
    #expect(Recipe.builtIn(named: "MXFP4", for: .gguf)?.container == nil)
    #expect(Recipe.builtIn(named: "MXFP4", for: .safetensors)?.container == .safetensors)
  }

  @Test func aSchemeKeptInGGUFIsRefused() {
    let scheme = StoredScheme(.int8Channel, .compressedTensors)
    let shape = TensorShape([4, 8])
    #expect(StorageFormat.keep.misfit(shape, source: .i8, in: .gguf) == nil)
    #expect(StorageFormat.keep.misfit(shape, source: .i8, scheme: scheme, in: .gguf) != nil)
    #expect(StorageFormat.keep.misfit(shape, source: .i8, scheme: scheme, in: .safetensors) == nil)
  }

  @Test func containersHoldWhatTheirFormatsDefine() {
    #expect(
      Checkpoint.Format.gguf.holds(.i8) && Checkpoint.Format.gguf.holds(.bf16)
        && Checkpoint.Format.gguf.holds(.nvfp4))
    #expect(
      !Checkpoint.Format.gguf.holds(.u8) && !Checkpoint.Format.gguf.holds(.bool)
        && !Checkpoint.Format.gguf.holds(.f4))
    #expect(Checkpoint.Format.safetensors.holds(.f8E4M3) && Checkpoint.Format.safetensors.holds(.f6E2M3))
    #expect(!Checkpoint.Format.safetensors.holds(.mxfp4))
  }
}
