import ByteStreams
import CheckpointTesting
import Foundation
import GGUF
import TensorFormats
import Testing

@Suite struct LayoutTests {
  private let tensors = [
    GGUFLayout.Tensor(name: "a", elementType: .f32, shape: TensorShape([3])),
    GGUFLayout.Tensor(name: "b", elementType: .q8_0, shape: TensorShape([2, 64])),
    GGUFLayout.Tensor(name: "c", elementType: .bf16, shape: TensorShape([5])),
  ]

  private func refusal(
    metadata: GGUFMetadata = [:], _ tensors: [GGUFLayout.Tensor] = [], alignment: Int? = nil,
    version: UInt32 = 3
  ) -> CheckpointError? {
    do throws(CheckpointError) {
      _ = try GGUFLayout(metadata: metadata, tensors: tensors, alignment: alignment, version: version)
      return nil
    } catch {
      return error
    }
  }

  private func tensor(_ name: String, _ type: ElementType, _ dimensions: [Int]) -> GGUFLayout.Tensor {
    GGUFLayout.Tensor(name: name, elementType: type, shape: TensorShape(dimensions))
  }

  @Test func layoutIsExactToTheByte() throws {
    let layout = try GGUFLayout(metadata: ["k": .uint8(7)], tensors: tensors)
    var expected = HeaderBytes(tensors: 3, entries: 1)
    expected.entry("k", type: 0) { $0.number(7 as UInt8) }
    expected.tensor("a", [3], type: 0, offset: 0)
    expected.tensor("b", [64, 2], type: 8, offset: 32)
    expected.tensor("c", [5], type: 30, offset: 192)
    let tableEnd = expected.bytes.count
    while expected.bytes.count % 32 != 0 { expected.bytes.append(0) }
    let start = expected.bytes.count
    #expect(tableEnd < start)
    #expect(layout.headerBytes == expected.bytes)
    #expect(layout.header.dataOffset == start)
    #expect(
      layout.header.tensors.map(\.byteRange) == [
        start..<(start + 12), (start + 32)..<(start + 168), (start + 192)..<(start + 202),
      ])
    #expect(layout.byteCount == start + 224)
    #expect(
      layout.paddingRanges == [
        (start + 12)..<(start + 32), (start + 168)..<(start + 192), (start + 202)..<(start + 224),
      ])
  }

  @Test func alignmentIsRecordedUnlessItIsTheDefault() throws {
    #expect(try GGUFLayout(metadata: [:], tensors: tensors).header.metadata.entries.isEmpty)
    #expect(try GGUFLayout(metadata: [:], tensors: tensors, alignment: 32).header.metadata.entries.isEmpty)
    let wide = try GGUFLayout(metadata: ["k": .bool(true)], tensors: tensors, alignment: 4096)
    #expect(wide.header.metadata["general.alignment"] == .uint32(4096))
    #expect(wide.header.tensors.allSatisfy { $0.byteRange.lowerBound % 4096 == 0 })
    #expect(wide.byteCount == 4 * 4096)
    let back = try GGUFLayout(metadata: wide.header.metadata, tensors: tensors, alignment: 32)
    #expect(back.header.metadata["general.alignment"] == .uint32(32))
    let own = try GGUFLayout(metadata: ["general.alignment": .uint32(8)], tensors: tensors)
    #expect(own.header.alignment == 8)
  }

  @Test func aFileWithoutTensorsIsLaidOut() throws {
    let layout = try GGUFLayout(metadata: ["k": .uint8(7)], tensors: [])
    #expect(layout.byteCount == 64)
    #expect(layout.headerBytes.count == 64)
    #expect(try GGUFHeader.read(from: MemorySource(layout.headerBytes)) == layout.header)
  }

  @Test func invalidRequestsAreRefused() {
    #expect(refusal(tensors) == nil)
    #expect(refusal(version: 2) == nil)
    for version in [0, 1, 4] as [UInt32] { #expect(refusal(version: version)?.code == .invalidRequest) }
    for alignment in [0, -1, 48, 1 << 32] { #expect(refusal(alignment: alignment)?.code == .invalidRequest) }
    #expect(refusal(metadata: ["": .bool(true)])?.message.contains("empty") == true)
    let long = String(repeating: "k", count: 65_536)
    #expect(refusal(metadata: [long: .bool(true)])?.message.contains("65536") == true)
    #expect(refusal(metadata: [String(long.dropLast()): .bool(true)]) == nil)
    #expect(refusal(metadata: ["general.alignment": .uint64(32)])?.message.contains("u32") == true)
    #expect(refusal(metadata: ["general.alignment": .uint32(3)])?.message.contains("power of two") == true)
  }

  @Test func invalidTensorsAreRefused() {
    let name63 = String(repeating: "n", count: 63)
    #expect(refusal([tensor(name63, .f32, [1])]) == nil)
    #expect(refusal([tensor(name63 + "n", .f32, [1])])?.tensor == name63 + "n")
    #expect(refusal([tensor("a\0", .f32, [1])])?.message.contains("NUL") == true)
    #expect(refusal([tensor("a", .f32, [1]), tensor("a", .f16, [2])])?.message.contains("twice") == true)
    #expect(refusal([tensor("caf\u{E9}", .f32, [1]), tensor("cafe\u{301}", .f16, [2])]) == nil)
    #expect(refusal([tensor("a", .f32, [1, 1, 1, 1])]) == nil)
    #expect(refusal([tensor("a", .f32, [1, 1, 1, 1, 1])])?.message.contains("5 dimensions") == true)
    #expect(refusal([tensor("a", .q4K, [256, 255])])?.message.contains("whole blocks") == true)
    #expect(refusal([tensor("a", .q4K, [])])?.message.contains("whole blocks") == true)
    #expect(refusal([tensor("a", .f64, [1 << 60])])?.message.contains("overflows") == true)
    let half = tensor("a", .i8, [1 << 62])
    #expect(refusal([half, tensor("b", .i8, [1 << 62])])?.message.contains("overflows") == true)
  }

  @Test(arguments: ElementType.allCases)
  func everyElementTypeIsLaidOut(type: ElementType) throws {
    let request = [tensor("w", type, [2, 256])]
    guard type.ggmlTypeID != nil else {
      #expect(refusal(request)?.code == .unsupported)
      return
    }
    let layout = try GGUFLayout(metadata: [:], tensors: request)
    #expect(try GGUFHeader.read(from: MemorySource(layout.fileBytes)) == layout.header)
  }

  @Test(arguments: [GGUFByteOrder.little, .big])
  func writerPlacesTensorsWrittenInAnyOrder(order: GGUFByteOrder) throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).gguf").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let layout = try GGUFLayout(metadata: ["k": .string("v")], tensors: tensors, byteOrder: order)
    var writer = try GGUFWriter(path, layout: layout)
    // In reverse order, each in two portions.
    for index in [2, 1, 0] {
      let data = [UInt8](repeating: 0xAB, count: layout.header.tensors[index].byteRange.count)
      try writer.append(Array(data[..<5]).span.bytes, toTensor: index)
      // The overload on arrays.
      try writer.append(Array(data[5...]), toTensor: index)
    }
    try writer.finish()
    let file = try InputFile(path)
    #expect(try file.readBytes(0..<file.byteCount) == layout.fileBytes)
    #expect(try GGUFHeader.read(from: file) == layout.header)
  }

  @Test func writerRefusesTooManyOrTooFewBytes() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).gguf").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var writer = try GGUFWriter(path, layout: GGUFLayout(metadata: [:], tensors: [tensor("w", .i8, [8])]))
    let six: [UInt8] = [1, 2, 3, 4, 5, 6]
    try writer.append(six.span.bytes, toTensor: 0)
    do throws(CheckpointError) {
      try writer.append(six.span.bytes, toTensor: 0)
      Issue.record("twelve bytes were taken for eight")
    } catch {
      #expect(error.code == .invalidRequest)
      #expect(error.tensor == "w")
    }
    do throws(CheckpointError) {
      try writer.finish()
      Issue.record("a tensor without its last bytes was taken for complete")
    } catch {
      #expect(error.message.contains("only 6 of 8"))
    }
  }
}
