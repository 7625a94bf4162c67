import CheckpointTesting
import Safetensors
import TensorFormats
import Testing

/// What the format allows, each case beside the nearest one that it does not; the corpus has more of the latter.
@Suite struct HeaderRulesTests {
  @Test func readsATensorAndItsMetadata() throws {
    let text = #"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}"#
    let header = try parse(text, dataByteCount: 12)
    #expect(header.metadata == ["format": "pt"])
    #expect(header.dataOffset == 8 + text.utf8.count)
    #expect(header.dataByteCount == 12)
    let tensor = try #require(header.tensor(named: "a"))
    #expect(tensor.elementType == .bf16)
    #expect(tensor.shape == TensorShape([2, 3]))
    #expect(tensor.byteRange == header.dataOffset..<(header.dataOffset + 12))
    #expect(header.tensor(named: "b") == nil)
  }

  @Test(arguments: [
    "{}", "  {}", "{}\n", "\t\r\n {  } \n", #"{"__metadata__":{}}"#, #"{"__metadata__":null}"#,
    #"{"__metadata__":{"a":"","b":"x"}}"#,
  ])
  func acceptsHeadersWithoutTensors(text: String) throws {
    #expect(try parse(text).tensors.isEmpty)
  }

  @Test(arguments: [
    #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"extra":[{"x":[1,-2.5e+3,true,false,null,"\u00e9"]}]}}"#,
    #"{"a":{"note":1,"note":2,"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
    #"{"":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]}}"#,
    #"{ "a" : { "data_offsets" : [ 0 , 4 ] , "shape" : [ 4 ] , "dtype" : "U8" } }"#,
    #"{"a":{"\u0064type":"\u00558","sha\u0070e":[4],"data_offsets":[0,4]}}"#,
    #"{"b":{"dtype":"U8","shape":[3],"data_offsets":[1,4]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
    #"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"z":{"dtype":"F64","shape":[0],"data_offsets":[3,3]},"b":{"dtype":"U8","shape":[],"data_offsets":[3,4]}}"#,
  ])
  func acceptsWhatTheReferenceReaderAccepts(text: String) throws {
    let header = try parse(text, dataByteCount: 4)
    #expect(header.dataByteCount == 4)
    var end = header.dataOffset
    for tensor in header.tensors {
      #expect(tensor.byteRange.lowerBound == end)
      end = tensor.byteRange.upperBound
    }
  }

  @Test func keepsTheLastOfTwoMetadataValues() throws {
    #expect(try parse(#"{"__metadata__":{"k":"1","k":"2"}}"#).metadata == ["k": "2"])
  }

  @Test func acceptsRank100() throws {
    let ones = [String](repeating: "1", count: 100).joined(separator: ",")
    let header = try parse(
      #"{"a":{"dtype":"F32","shape":[\#(ones)],"data_offsets":[0,4]}}"#, dataByteCount: 4)
    #expect(header.tensors[0].shape.rank == 100)
  }

  @Test func acceptsMisalignedTensorsAndHeaders() throws {
    let text =
      #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}}"#
    let header = try parse(text + (text.utf8.count % 2 == 0 ? " " : ""), dataByteCount: 9)
    #expect(header.dataOffset % 8 != 0)
    #expect(header.tensors.map(\.name) == ["a", "b"])
  }

  @Test func decodesEscapesInNames() throws {
    let name = #"\"\\\/\b\f\n\r\t\u0000\u00e9\u6f22\ud83c\udf9b漢"#
    let header = try parse(#"{"\#(name)":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#)
    #expect(header.tensors[0].name == "\"\\/\u{8}\u{c}\n\r\t\0é漢🎛漢")
  }

  /// The header, the description, and arrays inside it: the reference reader allows 127 levels in all.
  @Test(arguments: [(125, true), (126, false)])
  func allowsTheReferencesNesting(arrays: Int, isAllowed: Bool) {
    let nested = String(repeating: "[", count: arrays) + String(repeating: "]", count: arrays)
    let error = failure { () throws(CheckpointError) in
      _ = try parse(#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":\#(nested)}}"#)
    }
    #expect((error == nil) == isAllowed)
    #expect(error?.message.contains("nested more than 127 deep") ?? true)
  }

  @Test func checksTheHeaderLengthBeforeAnythingElse() throws {
    // A length of exactly the limit is accepted if the file is that long; one byte more never is.
    func claim(_ length: UInt64, fileByteCount: Int) -> CheckpointError? {
      let bytes = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) }
      return failure { () throws(CheckpointError) in
        _ = try SafetensorsHeader.parse(bytes.span.bytes, fileByteCount: fileByteCount)
      }
    }
    #expect(claim(100_000_000, fileByteCount: 100_000_008)?.message.contains("only 8 were read") == true)
    #expect(
      claim(100_000_000, fileByteCount: 100_000_007)?.message.contains("only 99999999 bytes follow") == true)
    #expect(claim(100_000_001, fileByteCount: 200_000_000)?.message.contains("at most") == true)
    #expect(claim(.max, fileByteCount: .max)?.code == .malformed)
  }

  @Test func acceptsAHeaderOfExactlyTheLimit() throws {
    var bytes =
      file("{}") + [UInt8](repeating: UInt8(ascii: " "), count: SafetensorsHeader.maximumByteCount - 2)
    func claim(_ length: Int) {
      for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: length >> (8 * index)) }
    }
    claim(SafetensorsHeader.maximumByteCount)
    #expect(try parse(bytes).dataOffset == 100_000_008)
    bytes.append(UInt8(ascii: " "))
    claim(SafetensorsHeader.maximumByteCount + 1)
    let longer = failure { () throws(CheckpointError) in _ = try parse(bytes) }
    #expect(longer?.message.contains("100000001") == true)
  }

  @Test(arguments: ElementType.allCases)
  func knowsTheTypesOfTheFormat(type: ElementType) throws {
    let isKnown = ElementType.safetensorsTypes.contains(type)
    #expect(type.isSafetensorsType == isKnown)
    #expect(ElementType(safetensorsName: type.rawValue) == (isKnown ? type : nil))
    #expect((type.safetensorsAlignment == nil) == !isKnown)
    let byteCount = TensorShape([256]).byteCount(as: type) ?? 0
    let text = #"{"a":{"dtype":"\#(type)","shape":[256],"data_offsets":[0,\#(byteCount)]}}"#
    if isKnown {
      #expect(try parse(text, dataByteCount: byteCount).tensors[0].elementType == type)
    } else {
      let error = failure { () throws(CheckpointError) in _ = try parse(text, dataByteCount: byteCount) }
      #expect(error?.code == .unsupported)
      #expect(error?.tensor == "a")
    }
  }

  @Test func has22Types() { #expect(ElementType.safetensorsTypes.count == 22) }

  @Test(arguments: [(ElementType.f4, 2, 1), (.f6E2M3, 4, 3), (.f6E3M2, 4, 3)])
  func packsSubByteTypes(type: ElementType, elements: Int, bytes: Int) throws {
    for count in 0...9 {
      let byteCount = count * bytes / elements
      let text = #"{"a":{"dtype":"\#(type)","shape":[\#(count),1],"data_offsets":[0,\#(byteCount)]}}"#
      let error = failure { () throws(CheckpointError) in _ = try parse(text, dataByteCount: byteCount) }
      #expect((error == nil) == (count % elements == 0), "\(count) elements")
    }
  }

  @Test func printsHostileNamesSafely() {
    let error = failure { () throws(CheckpointError) in _ = try parse(#"{"\u001b[31m":{}}"#) }
    #expect(error?.description.contains("\u{1b}") == false)
    #expect(error?.description.contains("<memory>: byte 9: tensor '\\u{1b}[31m': 'dtype' is missing") == true)
  }
}
