import GGUF
import TensorFormats
import Testing

@Suite struct MetadataTests {
  @Test func settingKeepsTheOrderOfKeys() {
    var metadata = GGUFMetadata([.init("a", .uint8(1)), .init("b", .uint8(2)), .init("a", .uint8(3))])
    #expect(metadata.entries == [.init("a", .uint8(3)), .init("b", .uint8(2))])
    metadata.set("c", .bool(true))
    #expect(metadata.remove("a") == .uint8(3))
    #expect(metadata.remove("a") == nil)
    #expect(metadata.entries.map(\.key) == ["b", "c"])
    #expect(metadata["b"] == .uint8(2))
    #expect(metadata["c"] == .bool(true))
    metadata.set("c", .bool(false))
    metadata.set("a", .uint8(4))
    #expect(metadata.entries.map(\.key) == ["b", "c", "a"])
    #expect(metadata["c"] == .bool(false))
  }

  @Test func integersOfAnyTypeAreRead() {
    let all: [GGUFValue] = [
      .uint8(7), .int8(7), .uint16(7), .int16(7), .uint32(7), .int32(7), .uint64(7), .int64(7),
    ]
    for value in all { #expect(GGUFMetadata([.init("k", value)]).integer("k") == 7) }
    for value in [.uint64(.max), .float32(7), .float64(7), .bool(true), .string("7")] as [GGUFValue] {
      #expect(GGUFMetadata([.init("k", value)]).integer("k") == nil)
    }
    let arrays: [GGUFArray] = [
      .uint8([7]), .int8([7]), .uint16([7]), .int16([7]), .uint32([7]), .int32([7]), .uint64([7]),
      .int64([7]),
    ]
    for array in arrays {
      #expect(GGUFMetadata([.init("k", .array(array))]).integers("k") == [7])
      #expect(array.count == 1)
    }
    #expect(GGUFMetadata([.init("k", .array(.uint64([1, .max])))]).integers("k") == nil)
    #expect(GGUFMetadata([.init("k", .array(.float32([7])))]).integers("k") == nil)
  }

  @Test func valuesAreReadByTheirType() {
    let metadata: GGUFMetadata = [
      "text": .string("t"), "half": .float32(0.5), "tenth": .float64(0.1), "flag": .bool(true),
      "texts": .array(.string(["a", "b"])), "halves": .array(.float32([0.5])),
      "tenths": .array(.float64([0.1])),
      "flags": .array(.bool([false])), "general.file_type": .uint32(15),
    ]
    #expect(metadata.string("text") == "t")
    #expect(metadata.string("flag") == nil)
    #expect(metadata.string("none") == nil)
    #expect(metadata.float("half") == 0.5)
    #expect(metadata.float("tenth") == 0.1)
    #expect(metadata.float("text") == nil)
    #expect(metadata.bool("flag") == true)
    #expect(metadata.bool("half") == nil)
    #expect(metadata.strings("texts") == ["a", "b"])
    #expect(metadata.strings("flags") == nil)
    #expect(metadata.floats("halves") == [0.5])
    #expect(metadata.floats("tenths") == [0.1])
    #expect(metadata.floats("texts") == nil)
    #expect(metadata.bools("flags") == [false])
    #expect(metadata.bools("texts") == nil)
    #expect(metadata.array("flags")?.elementType == .bool)
    #expect(metadata.fileType == .q4KMedium)
  }

  @Test func fileTypesHaveTheirNumbers() {
    #expect(GGUFFileType(name: "Q4_K_M") == .q4KMedium)
    #expect(GGUFFileType(name: "Q4_K_XXL") == nil)
    #expect("\(GGUFFileType.mxfp4MoE)" == "MXFP4_MOE")
    #expect("\(GGUFFileType(rawValue: 99))" == "file type 99")
    for type in GGUFFileType.allNamed { #expect(GGUFFileType(name: "\(type)") == type) }
    let numbers = GGUFFileType.allNamed.map(\.rawValue)
    #expect(numbers == [0, 1, 2, 3] + Array(7...32) + Array(36...41) + [1024])
  }

  @Test func typeNumbersRoundTrip() {
    for type in ElementType.allCases {
      guard let id = type.ggmlTypeID else { continue }
      #expect(ElementType(ggmlTypeID: id) == type)
    }
    #expect(ElementType.allCases.compactMap(\.ggmlTypeID).count == 35)
    #expect(ElementType(ggmlTypeID: 43) == nil)
    #expect(ElementType(ggmlTypeID: .max) == nil)
  }
}
