import ByteStreams
import GGUF
import TensorFormats
import Testing

@Suite struct HeaderReadTests {
  @Test(arguments: [GGUFByteOrder.little, .big], [2, 3] as [UInt32])
  func theSmallestFileIsRead(order: GGUFByteOrder, version: UInt32) throws {
    let header = try HeaderBytes(order, version: version).read()
    #expect(header.version == version)
    #expect(header.byteOrder == order)
    #expect(header.metadata == GGUFMetadata())
    #expect(header.tensors.isEmpty)
    #expect(header.alignment == 32)
    #expect(header.dataOffset == 24)
  }

  @Test func anExistentialSourceIsAccepted() throws {
    let source: any ByteSource = MemorySource(HeaderBytes().bytes)
    #expect(try GGUFHeader.read(from: source).version == 3)
  }

  @Test func errorsNameTheFile() {
    let error = #expect(throws: CheckpointError.self) {
      try GGUFHeader.read(from: MemorySource([1, 2, 3, 4], path: "some.gguf"))
    }
    #expect(error?.path == "some.gguf")
  }

  @Test(arguments: [0, 1, 4, 0x0300_0004, .max] as [UInt32], [GGUFByteOrder.little, .big])
  func otherVersionsAreRefused(version: UInt32, order: GGUFByteOrder) {
    let code: CheckpointError.Code = version == 0 ? .malformed : .unsupported
    #expect(HeaderBytes(order, version: version).failure?.code == code)
    #expect(HeaderBytes(order, version: version).failure?.offset == 4)
  }

  @Test(arguments: [GGUFByteOrder.little, .big])
  func everyValueTypeIsRead(order: GGUFByteOrder) throws {
    var file = HeaderBytes(order, entries: 13)
    file.entry("u8", type: 0) { $0.number(0xF1 as UInt8) }
    file.entry("i8", type: 1) { $0.number(-2 as Int8) }
    file.entry("u16", type: 2) { $0.number(0xF123 as UInt16) }
    file.entry("i16", type: 3) { $0.number(-300 as Int16) }
    file.entry("u32", type: 4) { $0.number(0xF123_4567 as UInt32) }
    file.entry("i32", type: 5) { $0.number(-70_000 as Int32) }
    file.entry("f32", type: 6) { $0.number(Float(-1.5).bitPattern) }
    file.entry("yes", type: 7) { $0.number(1 as UInt8) }
    file.entry("text", type: 8) { $0.text("Füße\n\u{0}") }
    file.entry("array", type: 9) { bytes in
      bytes.number(2 as UInt32)
      bytes.number(2 as UInt64)
      bytes.number(1 as UInt16)
      bytes.number(0xABCD as UInt16)
    }
    file.entry("u64", type: 10) { $0.number(UInt64.max - 1) }
    file.entry("i64", type: 11) { $0.number(Int64.min + 1) }
    file.entry("f64", type: 12) { $0.number(0.1.bitPattern) }
    let metadata = try file.read().metadata
    #expect(
      metadata == [
        "u8": .uint8(0xF1), "i8": .int8(-2), "u16": .uint16(0xF123), "i16": .int16(-300),
        "u32": .uint32(0xF123_4567), "i32": .int32(-70_000), "f32": .float32(-1.5), "yes": .bool(true),
        "text": .string("Füße\n\u{0}"), "array": .array(.uint16([1, 0xABCD])), "u64": .uint64(.max - 1),
        "i64": .int64(.min + 1), "f64": .float64(0.1),
      ])
  }

  @Test(arguments: [(65_535, true), (65_536, false)])
  func keysHaveALengthLimit(count: Int, isLegal: Bool) {
    var file = HeaderBytes(entries: 1)
    file.entry(String(repeating: "k", count: count), type: 0) { $0.number(1 as UInt8) }
    #expect((file.failure == nil) == isLegal)
  }

  @Test func keysAreComparedByBytesNotByAppearance() throws {
    var file = HeaderBytes(entries: 2)
    file.entry("caf\u{E9}", type: 0) { $0.number(1 as UInt8) }
    file.entry("cafe\u{301}", type: 0) { $0.number(2 as UInt8) }
    let metadata = try file.read().metadata
    #expect(metadata.entries.count == 2)
    #expect(metadata["caf\u{E9}"] == .uint8(1))
    #expect(metadata["cafe\u{301}"] == .uint8(2))
  }

  @Test(arguments: [0 as UInt8, 1, 2, 255])
  func booleansAre0Or1(byte: UInt8) {
    var file = HeaderBytes(entries: 1)
    file.entry("flag", type: 7) { $0.number(byte) }
    #expect((file.failure == nil) == (byte <= 1))
  }

  @Test(arguments: 0...32)
  func alignmentsMustBePowersOfTwo(exponent: Int) throws {
    var file = HeaderBytes(tensors: 1, entries: 1)
    let alignment = UInt32(truncatingIfNeeded: 1 << exponent)  // The last dimension is 0.
    file.entry("general.alignment", type: 4) { $0.number(alignment) }
    file.tensor("w", [1])
    let source = PretendingSource(file.bytes, byteCount: 1 << 40)
    guard alignment > 0 else {
      #expect(throws: CheckpointError.self) { try GGUFHeader.read(from: source) }
      return
    }
    let header = try GGUFHeader.read(from: source)
    #expect(header.alignment == 1 << exponent)
    #expect(header.dataOffset % (1 << exponent) == 0)
    #expect(header.dataOffset >= file.bytes.count && header.dataOffset < file.bytes.count + 1 << exponent)
  }

  @Test func tensorsAreLocatedByTheirOffsets() throws {
    var file = HeaderBytes(tensors: 4)
    file.tensor("embedding", [5, 3, 2], type: 1)  // 60 bytes
    file.tensor("scalar", [], type: 0, offset: 64)
    file.tensor("nothing", [256, 0], type: 12, offset: 96)
    file.tensor("last", [32, 2], type: 8, offset: 96)
    file.payload(96 + 68)
    let header = try file.read()
    #expect(header.tensors.map(\.name) == ["embedding", "scalar", "nothing", "last"])
    #expect(header.tensors.map(\.shape.dimensions) == [[2, 3, 5], [], [0, 256], [2, 32]])
    #expect(header.tensors.map(\.elementType) == [.f16, .f32, .q4K, .q8_0])
    let start = header.dataOffset
    #expect(start % 32 == 0)
    #expect(
      header.tensors.map(\.byteRange) == [
        start..<(start + 60), (start + 64)..<(start + 68), (start + 96)..<(start + 96),
        (start + 96)..<(start + 164),
      ])
    // The padding after the last tensor is optional, and other bytes may follow; the data may not be
    // short.
    #expect(start + 164 == file.bytes.count)
    for extra in [1, 28, 100] {
      var longer = file
      longer.bytes += [UInt8](repeating: 0, count: extra)
      #expect(longer.failure == nil)
    }
    file.bytes.removeLast()
    #expect(file.failure?.code == .truncated)
    #expect(file.failure?.tensor == "last")
  }

  @Test(arguments: [(0, true), (63, true), (64, false)])
  func tensorNamesHaveALengthLimit(count: Int, isLegal: Bool) {
    var file = HeaderBytes(tensors: 1)
    file.tensor(String(repeating: "n", count: count), [1])
    file.payload(4)
    #expect((file.failure == nil) == isLegal)
  }

  @Test(arguments: 0...5)
  func theNumberOfDimensionsIsLimited(rank: Int) {
    var file = HeaderBytes(tensors: 1)
    file.tensor("w", Array(repeating: 1, count: rank))
    file.payload(4)
    #expect((file.failure == nil) == (rank <= 4))
  }

  @Test(arguments: 0..<50 as Range<UInt32>)
  func everyElementTypeIsRead(id: UInt32) throws {
    var file = HeaderBytes(tensors: 1)
    file.tensor("w", [256, 3], type: id)
    file.payload(256 * 3 * 8)
    let removed: Set<UInt32> = [4, 5, 31, 32, 33, 36, 37, 38]
    guard id < 43, !removed.contains(id) else {
      let error = try #require(file.failure)
      #expect(error.code == .unsupported)
      #expect(error.message.contains(removed.contains(id) ? "removed type \(id)" : "unknown type \(id)"))
      return
    }
    let tensor = try #require(try file.read().tensors.first)
    #expect(tensor.elementType.ggmlTypeID == id)
    #expect(
      tensor.byteRange.count == 256 * 3 / tensor.elementType.block.elements * tensor.elementType.block.bytes)
    // One element short of a block.
    var odd = HeaderBytes(tensors: 1)
    odd.tensor("w", [255, 256], type: id)
    odd.payload(255 * 256 * 8)
    #expect((odd.failure == nil) == (tensor.elementType.block.elements == 1))
  }

  @Test func aLargeHeaderIsReadInPortionsWithoutTheData() throws {
    var file = HeaderBytes(tensors: 1, entries: 2)
    file.entry("tokens", type: 9) { bytes in
      bytes.number(8 as UInt32)
      bytes.number(100_000 as UInt64)
      for index in 0..<100_000 { bytes.text("token \(index)") }
    }
    file.entry("scores", type: 9) { bytes in
      bytes.number(6 as UInt32)
      bytes.number(100_000 as UInt64)
      for index in 0..<100_000 { bytes.number(Float(index).bitPattern) }
    }
    file.tensor("w", [1 << 40])
    let header = try GGUFHeader.read(from: PretendingSource(file.bytes, byteCount: 1 << 50))
    #expect(header.metadata.strings("tokens")?[99_999] == "token 99999")
    #expect(header.metadata.floats("scores")?[99_999] == 99_999)
    #expect(header.tensors[0].byteRange.count == 1 << 42)
  }

  @Test func aHeaderBeyondOurLimitIsRefusedBeforeItIsRead() {
    var numbers = HeaderBytes(entries: 1)
    numbers.entry("numbers", type: 9) { bytes in
      bytes.number(10 as UInt32)
      bytes.number(1 << 30 as UInt64)
    }
    for file in [numbers, HeaderBytes(tensors: 1 << 40), HeaderBytes(entries: 1 << 40)] {
      let error = #expect(throws: CheckpointError.self) {
        try GGUFHeader.read(from: PretendingSource(file.bytes, byteCount: 1 << 50))
      }
      #expect(error?.code == .unsupported)
      #expect(error?.message.contains("the largest header") == true)
    }
  }

  @Test func lengthsBeyondTheFileAllocateNothing() {
    var text = HeaderBytes(entries: 1)
    text.entry("text", type: 8) { $0.number(1 << 30 as UInt64) }
    let error = #expect(throws: CheckpointError.self) {
      try GGUFHeader.read(from: PretendingSource(text.bytes, byteCount: 1 << 29))
    }
    #expect(error?.code == .truncated)
  }
}
