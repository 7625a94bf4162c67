import ByteStreams
import CheckpointTesting
import Safetensors
import TensorFormats
import Testing

@Suite struct LayoutTests {
  /// Files written by the reference writer: `Fixtures/golden/safetensors/README.md`.
  @Test(arguments: ["every_type", "names", "shapes", "metadata_only", "empty"])
  func writesTheReferenceWritersBytes(name: String) throws {
    let source = try InputFile(Fixtures.path("golden/safetensors/\(name).safetensors"))
    let header = try SafetensorsHeader.read(from: source)
    var generator = SeededGenerator(seed: 1)
    let layout = try SafetensorsLayout(
      header.items.shuffled(using: &generator), metadata: header.metadata)
    #expect(try layout.headerBytes == source.readBytes(0..<header.dataOffset))
    #expect(layout.header == header)
    #expect(layout.fileByteCount == source.byteCount)
  }

  /// The published layout at a small size, written by the same package.
  @Test(arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"], 1...4)
  func writesTheBytesOfThePublishedLayout(checkpoint: String, number: Int) throws {
    let source = try InputFile(
      Fixtures.path("checkpoints/\(checkpoint)/model-0000\(number)-of-00004.safetensors"))
    let header = try SafetensorsHeader.read(from: source)
    let layout = try SafetensorsLayout(header.items, metadata: header.metadata, order: .asGiven)
    #expect(try layout.headerBytes == source.readBytes(0..<header.dataOffset))
  }

  @Test(arguments: ElementType.safetensorsTypes)
  func roundTripsEveryType(type: ElementType) throws {
    let items = [[], [0], [4], [3, 4], [5, 0, 4], [1, 1, 8]].enumerated().compactMap {
      number, dimensions -> Item? in
      if type.block.elements > 1, dimensions.isEmpty { return nil }
      return Item(name: "t\(number)", elementType: type, shape: TensorShape(dimensions))
    }
    for order in [SafetensorsLayout.Order.reference, .asGiven] {
      let layout = try SafetensorsLayout(items, order: order)
      #expect(try parse(layout.emptyFile) == layout.header)
      #expect(layout.header.items == items)
    }
  }

  @Test(arguments: 0..<64)
  func roundTripsRandomTensors(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let items = randomItems(Int.random(in: 0...40, using: &generator), using: &generator)
    let alignment = [8, 16, 64, 4096].randomElement(using: &generator) ?? 8
    for order in [SafetensorsLayout.Order.reference, .asGiven] {
      let layout = try SafetensorsLayout(
        items, metadata: ["seed": "\(seed)", "b\\": "\"\n\u{7f}é"], order: order, alignment: alignment)
      let parsed = try parse(layout.emptyFile)
      #expect(parsed.metadata == layout.header.metadata)
      #expect(Set(parsed.tensors) == Set(layout.header.tensors))
      #expect(layout.header.dataOffset % alignment == 0)
      #expect(layout.header.dataOffset < SafetensorsHeader.maximumByteCount)
      #expect(layout.headerBytes.count == layout.header.dataOffset)
      for (index, tensor) in layout.header.tensors.enumerated() {
        #expect(layout.header.index(of: tensor.name) == index)
        if order == .reference {
          #expect(tensor.byteRange.lowerBound % (tensor.elementType.safetensorsAlignment ?? 0) == 0)
        } else {
          #expect(tensor.name == items[index].name)
        }
      }
    }
    let shuffled = try SafetensorsLayout(items.shuffled(using: &generator), alignment: alignment)
    #expect(try shuffled == SafetensorsLayout(items, alignment: alignment))
  }

  @Test func startsDataOnTheBoundary() throws {
    let items = [Item(name: "a", elementType: .bf16, shape: TensorShape([3]))]
    for alignment in [8, 32, 4096, 1 << 20] {
      let layout = try SafetensorsLayout(items, alignment: alignment)
      #expect(layout.header.dataOffset == max(alignment, layout.header.dataOffset / alignment * alignment))
      #expect(layout.fileByteCount == layout.header.dataOffset + 6)
      #expect(try parse(layout.emptyFile) == layout.header)
    }
    for alignment in [0, 1, 4, 12, -8, .max, .min, 1 << 62, 1 << 30] {
      let error = failure { () throws(CheckpointError) in
        _ = try SafetensorsLayout(items, alignment: alignment)
      }
      #expect(error?.message.contains("alignment") == true || error?.remedy?.contains("alignment") == true)
    }
  }

  @Test func refusesWhatTheFormatCannotHold() {
    func refusal(_ items: (String, ElementType, [Int])...) -> CheckpointError? {
      let items = items.map { Item(name: $0, elementType: $1, shape: TensorShape($2)) }
      return failure { () throws(CheckpointError) in _ = try SafetensorsLayout(items) }
    }
    #expect(refusal(("a", .u8, [1]), ("b", .u8, [1])) == nil)
    #expect(refusal(("a", .u8, [1]), ("a", .f32, [1]))?.message == "the name appears twice")
    #expect(refusal(("__metadata__", .u8, [1]))?.message.contains("reserved") == true)
    #expect(refusal(("a", .q8_0, [32]))?.code == .unsupported)
    #expect(refusal(("a", .f4, [3]))?.code == .invalidRequest)
    #expect(refusal(("a", .f64, [1 << 62]))?.code == .invalidRequest)
    #expect(
      refusal(("a", .u8, [1 << 62]), ("b", .u8, [1 << 62]))?.message.contains("larger than any file") == true)
    #expect(refusal(("a", .u8, [.max]))?.message.contains("larger than any file") == true)
  }

  @Test func writesTensorsInAnyOrder() throws {
    try withTemporaryFolder { folder in
      let items = [
        Item(name: "a", elementType: .u8, shape: TensorShape([5])),
        Item(name: "b", elementType: .f32, shape: TensorShape([2])),
        Item(name: "none", elementType: .f32, shape: TensorShape([0])),
      ]
      let layout = try SafetensorsLayout(items)
      let path = "\(folder)/out.safetensors"
      let writer = try SafetensorsWriter(path, layout: layout)
      let (a, b): ([UInt8], [UInt8]) = ([1, 2, 3, 4, 5], [11, 12, 13, 14, 15, 16, 17, 18])
      try writer.write(tensor: "a", at: 2, bytes: a.span.extracting(2...).bytes)
      try writer.write(tensor: "b", bytes: b.span.bytes)
      try writer.write(tensor: "a", bytes: a.span.extracting(..<2).bytes)
      try writer.write(tensor: "none", bytes: [UInt8]().span.bytes)
      for (name, offset, count) in [
        ("a", 0, 6), ("a", 5, 1), ("a", -1, 1), ("a", .max, 1), ("none", 0, 1), ("c", 0, 1),
      ] {
        let error = failure { () throws(CheckpointError) in
          try writer.write(tensor: name, at: offset, bytes: [UInt8](repeating: 9, count: count).span.bytes)
        }
        #expect(error?.code == .invalidRequest)
        #expect(error?.tensor == name)
      }
      try writer.finish()
      let file = try InputFile(path)
      #expect(try SafetensorsHeader.read(from: file) == layout.header)
      #expect(try file.readBytes(0..<file.byteCount) == layout.headerBytes + b + a)
      let again = failure { () throws(CheckpointError) in _ = try SafetensorsWriter(path, layout: layout) }
      #expect(again?.code == .cannotCreate)
    }
  }
}
