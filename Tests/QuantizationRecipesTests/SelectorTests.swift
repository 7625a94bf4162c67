import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct LayerSelectorTests {
  @Test(arguments: [
    ("7", [7]), ("0-3", [0, 1, 2, 3]), ("60", [60]), ("59-70", [59, 60]), ("first 4", [0, 1, 2, 3]),
    ("last 2", [59, 60]), ("first 1/16", [0, 1, 2]), ("last 1/8", Array(53...60)), ("0-1, 60", [0, 1, 60]),
    // llama.cpp's use_more_bits for 61 layers, worked out by hand: 61/8 = 7, 7*61/8 = 53, and 9, 12, ... 51 between.
    ("more-bits", Array(0...6) + Array(stride(from: 9, through: 51, by: 3)) + Array(53...60)),
  ])
  func layersOf61AreSelectedAsInLlamaCpp(text: String, layers: [Int]) throws {
    let selectors = try LayerSelector.parse(text)
    #expect((0..<61).filter { layer in selectors.contains { $0.contains(layer, of: 61) } } == layers)
    #expect(try LayerSelector.parse(selectors.map(\.description).joined(separator: ",")) == selectors)
  }

  @Test func fractionsOfSmallModelsAreEmpty() {
    #expect(!LayerSelector.firstFraction(16).contains(0, of: 15))
    #expect((0..<4).filter { LayerSelector.moreBits.contains($0, of: 4) } == [2, 3])
  }

  @Test(arguments: [
    "", ",", "3-1", "-1", "1-", "first", "first 0", "first -1", "last 1/1", "first 1/0", "a", "1 2", "0x1",
    "9999999", "１", "0-3,", "middle 3",
  ])
  func badSelectorsAreRefused(text: String) {
    let error = #expect(throws: CheckpointError.self) { try LayerSelector.parse(text) }
    #expect(error?.code == .invalidRequest)
  }
}
