import Checkpoint
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct RecipeSizeTests {
  @Test func theInventoryHasThePublishedParameters() {
    let language = Inventory.step3.language.reduce(0) { $0 + $1.shape.elementCount }
    #expect(language == 316_294_538_240)
    #expect(Inventory.step3.subjects.reduce(0) { $0 + $1.shape.elementCount } == 320_969_912_832)
  }

  /// The language model's size in bytes, worked out by hand from the published shapes and the block sizes.
  @Test(arguments: [
    ("BF16", Checkpoint.Format.safetensors, 632_589_076_480), ("FP8_BLOCK", .safetensors, 318_238_268_800),
    ("F32", .safetensors, 1_265_178_152_960), ("BF16", .gguf, 632_629_624_832),
    ("Q8_0", .gguf, 336_122_502_272),
    ("Q6_K", .gguf, 259_524_828_944), ("Q5_K_M", .gguf, 223_708_276_808), ("Q5_K_S", .gguf, 217_642_285_128),
    ("Q4_K_M", .gguf, 189_998_580_680), ("Q4_K_S", .gguf, 178_964_763_592), ("Q4_K", .gguf, 177_985_370_240),
    ("IQ4_NL", .gguf, 177_985_370_240), ("IQ4_XS", .gguf, 168_101_799_488),
    ("Q3_K_L", .gguf, 164_350_051_584),
    ("Q3_K_M", .gguf, 150_819_849_472), ("Q3_K_S", .gguf, 136_340_876_544), ("Q2_K", .gguf, 103_858_589_600),
    ("MXFP4_MOE", .gguf, 178_899_016_832), ("TQ1_0", .gguf, 66_795_199_280),
  ])
  func sizesOfTheLanguageModelAreThoseWorkedOutByHand(name: String, container: Checkpoint.Format, bytes: Int)
    throws
  {
    let recipe = try #require(Recipe.builtIn(named: name))
    let size = try recipe.size(over: Inventory.step3.language, container: container)
    #expect(size.bytes == bytes)
    #expect(size.parameters == 316_294_538_240)
    #expect(
      try recipe.bitsPerWeight(over: Inventory.step3.language, container: container)
        == Double(bytes) * 8 / 316_294_538_240)
  }

  /// 641.94 GB and 327.6 GB are the sizes of StepFun's releases.
  @Test(arguments: [
    ("keep", Checkpoint.Format.safetensors, 641_939_825_664), ("FP8_BLOCK", .safetensors, 327_589_017_984),
    ("Q4_K", .gguf, 188_014_620_800), ("Q4_K_M", .gguf, 200_027_831_240),
  ])
  func sizesOfTheWholeModelAreThePublishedOnes(name: String, container: Checkpoint.Format, bytes: Int) throws
  {
    let recipe = try #require(Recipe.builtIn(named: name))
    #expect(try recipe.size(over: Inventory.step3.subjects, container: container).bytes == bytes)
  }

  @Test func sourceScalesCountWhereTheirWeightIsKept() throws {
    var inventory = Inventory(layerCount: 1, expertCount: 0)
    inventory.add("a.weight", .denseFFN, [256, 256], layer: 0, type: .f8E4M3)
    inventory.add("a.weight_scale_inv", .scale, [2, 2], layer: 0, type: .f32)
    let keep = try #require(Recipe.builtIn(named: "keep"))
    #expect(
      try keep.size(over: inventory.subjects, container: .safetensors)
        == RecipeSize(parameters: 65536, bytes: 65536 + 16))
    let bf16 = try #require(Recipe.builtIn(named: "BF16"))
    #expect(
      try bf16.size(over: inventory.subjects, container: .safetensors)
        == RecipeSize(parameters: 65536, bytes: 131_072))
  }

  @Test func noTensorsGiveZeroBitsPerWeight() throws {
    let recipe = try #require(Recipe.builtIn(named: "Q4_K"))
    #expect(try recipe.bitsPerWeight(over: [], container: .gguf) == 0)
  }

  @Test func sumsThatOverflowAreAnError() throws {
    var inventory = Inventory(layerCount: 1, expertCount: 0)
    for name in ["a", "b"] { inventory.add("\(name).weight", .denseFFN, [1 << 30, 1 << 30], layer: 0) }
    let recipe = try #require(Recipe.builtIn(named: "F32"))
    let subjects = inventory.subjects
    let error = #expect(throws: CheckpointError.self) { try recipe.size(over: subjects, container: .gguf) }
    #expect(error?.code == .unsupported)
  }
}
