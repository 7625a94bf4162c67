import ByteStreams
import CheckpointTesting
import GGUF
import TensorFormats
import Testing

/// Random valid content, and random damage.
@Suite struct PropertyTests {
  static let storable = ElementType.allCases.filter { $0.ggmlTypeID != nil }

  private static func text(_ generator: inout SeededGenerator, upTo length: Int) -> String {
    let alphabet: [Character] = ["a", "Z", "0", ".", "_", "ß", "\n", "漢", "🦶", "e\u{301}"]
    return String(
      (0..<Int.random(in: 0...length, using: &generator)).map { _ in
        alphabet.randomElement(using: &generator)!
      })
  }

  private static func array<T>(_ generator: inout SeededGenerator, _ make: (inout SeededGenerator) -> T)
    -> [T]
  {
    (0..<Int.random(in: 0...9, using: &generator)).map { _ in make(&generator) }
  }

  private static func integers<T: FixedWidthInteger>(_ type: T.Type, _ generator: inout SeededGenerator)
    -> [T]
  {
    array(&generator) { T.random(in: .min ... .max, using: &$0) }
  }

  static func value(_ generator: inout SeededGenerator) -> GGUFValue {
    let bits = generator.next()
    switch Int.random(in: 0..<24, using: &generator) {
    case 0: return .uint8(UInt8(truncatingIfNeeded: bits))
    case 1: return .int8(Int8(truncatingIfNeeded: bits))
    case 2: return .uint16(UInt16(truncatingIfNeeded: bits))
    case 3: return .int16(Int16(truncatingIfNeeded: bits))
    case 4: return .uint32(UInt32(truncatingIfNeeded: bits))
    case 5: return .int32(Int32(truncatingIfNeeded: bits))
    case 6: return .uint64(bits)
    case 7: return .int64(Int64(bitPattern: bits))
    case 8: return .float32(Float.random(in: -1e9...1e9, using: &generator))
    case 9: return .float64(Double.random(in: -1e300...1e300, using: &generator))
    case 10: return .bool(bits & 1 == 1)
    case 11: return .string(text(&generator, upTo: 40))
    case 12: return .array(.uint8(integers(UInt8.self, &generator)))
    case 13: return .array(.int8(integers(Int8.self, &generator)))
    case 14: return .array(.uint16(integers(UInt16.self, &generator)))
    case 15: return .array(.int16(integers(Int16.self, &generator)))
    case 16: return .array(.uint32(integers(UInt32.self, &generator)))
    case 17: return .array(.int32(integers(Int32.self, &generator)))
    case 18: return .array(.uint64(integers(UInt64.self, &generator)))
    case 19: return .array(.int64(integers(Int64.self, &generator)))
    case 20: return .array(.float32(array(&generator) { Float.random(in: -1...1, using: &$0) }))
    case 21: return .array(.float64(array(&generator) { Double.random(in: -1...1, using: &$0) }))
    case 22: return .array(.bool(array(&generator) { Bool.random(using: &$0) }))
    default: return .array(.string(array(&generator) { text(&$0, upTo: 9) }))
    }
  }

  static func layout(_ generator: inout SeededGenerator) throws -> GGUFLayout {
    var metadata = GGUFMetadata()
    for index in 0..<Int.random(in: 0...12, using: &generator) {
      metadata.set("\(text(&generator, upTo: 12)).\(index)", value(&generator))
    }
    let tensors = (0..<Int.random(in: 0...8, using: &generator)).map { index in
      let type = storable.randomElement(using: &generator)!
      var dimensions = (0..<Int.random(in: 0...3, using: &generator)).map { _ in
        Int.random(in: 0...3, using: &generator)
      }
      if type.isBlockQuantized || Bool.random(using: &generator) {
        dimensions.append(type.block.elements * Int.random(in: 0...3, using: &generator))
      }
      return GGUFLayout.Tensor(
        name: "\(index).\(text(&generator, upTo: 7))", elementType: type, shape: TensorShape(dimensions))
    }
    return try GGUFLayout(
      metadata: metadata, tensors: tensors,
      alignment: [nil, 1, 8, 32, 64, 4096].randomElement(using: &generator)!,
      version: Bool.random(using: &generator) ? 2 : 3,
      byteOrder: Bool.random(using: &generator) ? .little : .big)
  }

  @Test(arguments: 0..<300 as Range<UInt64>)
  func layoutsAreReadBack(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let layout = try PropertyTests.layout(&generator)
    let header = try GGUFHeader.read(from: MemorySource(layout.fileBytes))
    #expect(header == layout.header)
    // Swift strings compare by canonical equivalence, so the written bytes are compared as well.
    #expect(try GGUFLayout(rewriting: header) == layout)
    #expect(try GGUFLayout(rewriting: header).headerBytes == layout.headerBytes)
  }

  @Test(arguments: 0..<12 as Range<UInt64>)
  func everyTruncationIsRefused(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let layout = try PropertyTests.layout(&generator)
    let bytes = layout.fileBytes
    // The padding after the last tensor is optional, as is that after a header without tensors.
    let end = layout.header.tensors.last?.byteRange.upperBound ?? layout.header.dataOffset
    for count in 0..<end where count < 3000 || count > end - 100 {
      let error = HeaderBytes(cut: bytes, to: count).failure
      #expect(error?.code == .truncated, "\(count) of \(bytes.count) bytes: \(String(describing: error))")
    }
    #expect(HeaderBytes(cut: bytes, to: end).failure == nil)
  }

  @Test(arguments: 0..<40 as Range<UInt64>)
  func damageNeverTraps(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let layout = try PropertyTests.layout(&generator)
    let bytes = Array(layout.fileBytes.prefix(20_000))
    var refused = 0
    for _ in 0..<100 {
      var damaged = bytes
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let place = Int.random(in: 0..<min(bytes.count, layout.headerBytes.count), using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: damaged[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 1: damaged[place] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &generator)!
        default:
          damaged.replaceSubrange(
            place..<min(place + 8, damaged.count), with: Array(repeating: 0xFF, count: 8))
        }
      }
      guard let header = try? GGUFHeader.read(from: MemorySource(damaged)) else {
        refused += 1
        continue
      }
      // Whatever is read can be written: reader and writer have the same rules.
      let rewritten = try GGUFLayout(rewriting: header)
      #expect(
        rewritten.headerBytes.starts(
          with: damaged.prefix(min(rewritten.headerBytes.count, header.dataOffset)).dropLast(header.alignment)
        ))
    }
    #expect(refused > 0)
  }
}

extension HeaderBytes {
  /// The first bytes of a file.
  init(cut bytes: [UInt8], to count: Int) {
    self.init()
    self.bytes = Array(bytes[..<count])
  }
}
