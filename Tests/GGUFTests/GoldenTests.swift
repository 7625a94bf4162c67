import ByteStreams
import CheckpointTesting
import GGUF
import TensorFormats
import Testing

/// Files written by llama.cpp's Python package; see Fixtures/golden/gguf/README.md.
@Suite struct GoldenTests {
  private static let metadata: GGUFMetadata = [
    "general.architecture": .string("step3"),
    "test.uint8": .uint8(255),
    "test.int8": .int8(-128),
    "test.uint16": .uint16(65_535),
    "test.int16": .int16(-32_768),
    "test.uint32": .uint32(.max),
    "test.int32": .int32(.min),
    "test.uint64": .uint64(.max),
    "test.int64": .int64(.min),
    "test.float32": .float32(-1.5),
    "test.float64": .float64(0.1),
    "test.bool": .bool(true),
    "test.string": .string("Füße 🦶"),
    "test.array.uint8": .array(.uint8([0, 255])),
    "test.array.int8": .array(.int8([-128, 127])),
    "test.array.uint16": .array(.uint16([1, 65_535])),
    "test.array.int16": .array(.int16([-32_768, 32_767])),
    "test.array.uint32": .array(.uint32([1, .max])),
    "test.array.int32": .array(.int32([.min, .max])),
    "test.array.uint64": .array(.uint64([1, .max])),
    "test.array.int64": .array(.int64([.min, .max])),
    "test.array.float32": .array(.float32([0.5, -2])),
    "test.array.float64": .array(.float64([0.1, -1e300])),
    "test.array.bool": .array(.bool([true, false, true])),
    "test.array.string": .array(.string(["", "a", "Füße"])),
  ]

  private func bytes(_ name: String) throws -> [UInt8] {
    let file = try InputFile(Fixtures.path("golden/gguf/\(name)"))
    return try file.readBytes(0..<file.byteCount)
  }

  @Test(arguments: [("little.gguf", GGUFByteOrder.little), ("big.gguf", .big)])
  func packageFilesAreReadAndRewritten(name: String, order: GGUFByteOrder) throws {
    let file = try bytes(name)
    let header = try GGUFHeader.read(from: MemorySource(file))
    #expect(header.byteOrder == order)
    #expect(header.version == 3)
    #expect(header.metadata == GoldenTests.metadata)
    #expect(
      header.tensors.map(\.name) == [
        "float32", "float16", "float64", "int8", "int16", "int32", "int64", "q8_0",
      ])
    #expect(header.tensors.map(\.elementType) == [.f32, .f16, .f64, .i8, .i16, .i32, .i64, .q8_0])
    #expect(header.tensors.map(\.shape.dimensions) == Array(repeating: [2, 3], count: 7) + [[2, 32]])
    // The package's writer and ours agree on every byte of the header and on the size of the file.
    let layout = try GGUFLayout(rewriting: header)
    #expect(layout.header == header)
    #expect(layout.headerBytes == Array(file[..<header.dataOffset]))
    #expect(layout.byteCount == file.count)
  }

  @Test func payloadsOfBothByteOrdersSwapIntoEachOther() throws {
    let little = try bytes("little.gguf")
    let big = try bytes("big.gguf")
    let header = try GGUFHeader.read(from: MemorySource(little))
    for tensor in header.tensors {
      let payload = Array(big[tensor.byteRange])
      let expected = Array(little[tensor.byteRange])
      #expect(tensor.elementType == .i8 || payload != expected)
      #expect(swapped(tensor.elementType, payload) == expected, "\(tensor.name)")
    }
  }

  @Test func customAlignmentIsHonoured() throws {
    let file = try bytes("aligned-128.gguf")
    let header = try GGUFHeader.read(from: MemorySource(file))
    #expect(header.alignment == 128)
    #expect(header.tensors.map(\.byteRange) == [256..<268, 384..<392])
    #expect(try GGUFLayout(rewriting: header).headerBytes == Array(file[..<256]))
  }

  @Test func splitSetsAreReadAndPlannedAlike() throws {
    let set = try GGUFSplitSet.read(firstPart: Fixtures.path("golden/gguf/split-00001-of-00004.gguf"))
    #expect(set.parts.map(\.header.tensors.count) == [0, 2, 2, 1])
    #expect(set.tensorCount == 5)
    #expect(set.metadata.string("general.architecture") == "step3")
    #expect(set.locate("blk.3") == GGUFSplitSet.Location(part: 2, tensor: 1))
    #expect(set.locate("blk.5") == nil)
    // Planning the same split gives the package's files, header for header.
    let tensors = set.parts.flatMap(\.header.tensors).map {
      GGUFLayout.Tensor(name: $0.name, elementType: $0.elementType, shape: $0.shape)
    }
    let plan = try GGUFSplitPlan(
      prefix: "split", metadata: ["general.architecture": .string("step3")], tensors: tensors,
      limit: .tensors(2),
      metadataOnlyFirst: true)
    for part in plan.parts {
      let file = try bytes(part.name.path)
      #expect(part.layout.headerBytes == Array(file[..<part.layout.headerBytes.count]), "\(part.name.path)")
      #expect(part.layout.byteCount == file.count)
    }
  }
}
