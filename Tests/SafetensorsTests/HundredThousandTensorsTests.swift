import Safetensors
import TensorFormats
import Testing

@Suite struct HundredThousandTensorsTests {
  /// A quadratic step would show here too: the whole test takes well under a second.
  @Test func readsAHundredThousandTensors() throws {
    let items = (0..<100_000).map { number in
      Item(
        name: "model.layers.\(number / 1000).moe.experts.\(number % 1000).gate_proj.weight",
        elementType: .bf16,
        shape: TensorShape([5120, 7168]))
    }
    let layout = try SafetensorsLayout(items)
    let header = try SafetensorsHeader.parse(
      layout.headerBytes.span.bytes, fileByteCount: layout.fileByteCount)
    #expect(header == layout.header)
    #expect(header.tensors.count == 100_000)
    for item in items { #expect(header.tensor(named: item.name)?.shape == item.shape) }
  }
}
