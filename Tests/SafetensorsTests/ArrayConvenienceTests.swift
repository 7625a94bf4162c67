import ByteStreams
import CheckpointTesting
import Safetensors
import TensorFormats
import Testing

/// The overloads on arrays, against those on spans.
@Suite("safetensors from arrays") struct ArrayConvenienceTests {
  @Test func writtenFilesAreParsed() throws {
    let directory = try TemporaryDirectory()
    let layout = try SafetensorsLayout([
      .init(name: "a", elementType: .f32, shape: TensorShape([2])),
      .init(name: "b", elementType: .u8, shape: TensorShape([3])),
    ])
    let writer = try SafetensorsWriter(directory.path("w.safetensors"), layout: layout)
    try writer.write(tensor: "a", bytes: [UInt8](0..<8))
    try writer.write(tensor: "b", at: 1, bytes: [UInt8]([8, 9]))
    #expect(throws: CheckpointError.self) { try writer.write(tensor: "b", at: 2, bytes: [UInt8]([1, 2])) }
    try writer.finish()
    let file = try InputFile(directory.path("w.safetensors"))
    let bytes = try file.readBytes(0..<file.byteCount)
    #expect(bytes.suffix(11) == [0, 1, 2, 3, 4, 5, 6, 7, 0, 8, 9])
    let header = try SafetensorsHeader.parse(bytes)
    #expect(try unsafe header == SafetensorsHeader.parse(bytes.span.bytes, fileByteCount: bytes.count))
    #expect(header.tensors.map(\.name) == ["a", "b"])
    // Only the beginning of a longer file.
    #expect(try SafetensorsHeader.parse(Array(bytes.dropLast(11)), fileByteCount: bytes.count) == header)
    #expect(throws: CheckpointError.self) { try SafetensorsHeader.parse(Array(bytes.dropLast(11))) }
  }

  @Test func writtenIndexesAreParsed() throws {
    let text = Array(#"{"weight_map": {"a": "x.safetensors"}}"#.utf8)
    #expect(try unsafe SafetensorsIndex.parse(text) == SafetensorsIndex.parse(text.span.bytes))
    #expect(throws: CheckpointError.self) { try SafetensorsIndex.parse(Array(text.dropLast())) }
  }
}
