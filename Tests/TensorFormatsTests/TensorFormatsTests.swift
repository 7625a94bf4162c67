import TensorFormats
import Testing

@Suite struct ElementTypeTests {
  @Test("safetensors has 22 types and GGML adds 27 block formats") func count() {
    #expect(ElementType.allCases.filter { !$0.isBlockQuantized }.count == 22)
    #expect(ElementType.allCases.filter(\.isBlockQuantized).count == 27)
  }

  @Test(
    "element types have their storage per element",
    arguments: [
      (ElementType.f32, 32.0), (.f4, 4), (.f6E2M3, 6), (.q4K, 4.5), (.q6K, 6.5625), (.iq1S, 1.5625),
      (.mxfp4, 4.25),
      (.nvfp4, 4.5), (.q1_0, 1.125), (.q2_0, 2.25),
    ])
  func bits(type: ElementType, bits: Double) { #expect(type.block.bitsPerElement == bits) }
}

@Suite struct TensorShapeTests {
  @Test func scalarHasOneElement() {
    #expect(TensorShape([]).elementCount == 1)
    #expect(TensorShape([]).byteCount(as: .f32) == 4)
  }

  @Test func overflowIsRefusedEvenBeforeAZero() {
    #expect(TensorShape(checking: [Int.max, 2, 0]) == nil)
    #expect(TensorShape(checking: [0, Int.max, 2])?.elementCount == 0)
    #expect(TensorShape(checking: [-1]) == nil)
  }

  @Test func rowsMustBeWholeBlocks() {
    #expect(TensorShape([2, 128]).byteCount(as: .q4K) == nil)
    #expect(TensorShape([2, 256]).byteCount(as: .q4K) == 288)
    #expect(TensorShape([3, 3]).byteCount(as: .f4) == nil)
    #expect(TensorShape([2, 3]).byteCount(as: .f4) == 3)
  }
}
