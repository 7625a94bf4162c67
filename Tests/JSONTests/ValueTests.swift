import JSON
import TensorFormats
import Testing

/// A document's tree: order, numbers, keys and accessors.
@Suite struct ValueTests {
  private func parse(_ text: String, _ dialect: JSONDialect = .strict) throws -> JSONValue {
    try JSONValue(parsing: Array(text.utf8), dialect: dialect)
  }

  @Test func orderIsKept() throws {
    let members = try #require(parse(#"{"z": 1, "a": {"y": 1, "b": 2}, "m": 3}"#).members)
    #expect(members.keys == ["z", "a", "m"])
    #expect(members["a"]?.members?.keys == ["y", "b"])
    #expect(members.map(\.value) == members.values && members.count == 3)
    #expect(JSONValue.object(members).sorted.members?.keys == ["a", "m", "z"])
    #expect(members.sorted["a"]?.members?.keys == ["b", "y"])
  }

  @Test("objects are equal whatever their order; arrays are not") func equality() throws {
    let (one, other) = (try parse(#"{"a": 1, "b": [1, 2]}"#), try parse(#"{"b": [1, 2], "a": 1}"#))
    #expect(one == other && one.hashValue == other.hashValue)
    #expect(try one != parse(#"{"b": [2, 1], "a": 1}"#))
    #expect(try one != parse(#"{"a": 1}"#))
    #expect(try one != parse(#"{"a": 1, "b": [1, 2], "c": null}"#))
    #expect(try one != parse(#"{"a": 1, "c": [1, 2]}"#))
  }

  @Test("numbers keep their spelling and compare by value") func numbers() throws {
    for text in [
      "1e-05", "500000.0", "-0.10", "1E+2", "-0", "123456789012345678901234567890", "1e-400", "0.0",
    ] {
      let value = try parse(text)
      #expect(value.summary == text && JSONText.compact(value) == text)
    }
    #expect(try parse("1e-05") == parse("0.00001"))
    #expect(try parse("1E+2") == parse("100.0") && parse("1E+2").hashValue == parse("100.0").hashValue)
    // Python tells an integer from a float.
    #expect(try parse("100") != parse("100.0"))
    #expect(try parse("NaN", .python) == parse("NaN", .python), "a document is equal to itself")
    #expect(try parse("[Infinity]", .python) != parse("[-Infinity]", .python))
    #expect(
      try parse("9223372036854775807") == .integer(.max) && parse("-9223372036854775808") == .integer(.min))
    #expect(try parse("9223372036854775808").whole == nil && parse("9223372036854775808").double == 0x1p63)
    #expect(
      try parse("-0").whole == 0 && parse("7").whole == 7 && parse("7.0").whole == nil
        && parse("7e0").whole == nil)
    #expect(try parse("2.5").double == 2.5 && parse("7").double == 7 && parse("\"7\"").double == nil)
    #expect(
      JSONNumber(0.1).text == "0.1" && JSONNumber(Float(0.1)).text == "0.1"
        && JSONNumber(-Double.nan).text == "NaN")
  }

  @Test(
    "numbers beyond Double are refused in every dialect",
    arguments: ["1e309", "-1e999", "1" + String(repeating: "0", count: 400)])
  func tooLarge(text: String) {
    for dialect in [JSONDialect.strict, .python] {
      let error = #expect(throws: CheckpointError.self) { try parse("[0, \(text)]", dialect) }
      #expect(error?.message.contains("too large") == true && error?.offset == 4)
    }
  }

  @Test(
    "a repeated key is refused at its second occurrence",
    arguments: [
      (#"{"a": 1, "a": 1}"#, 9), (#"{"a": 1, "\u0061": 2}"#, 9), (#"[{"x": {"k": 1, "j": 2, "k": 3}}]"#, 24),
      (#"{"": 1, "": 2}"#, 8), (#"{"é": 1, "\u00e9": 2}"#, 10),
    ])
  func duplicateKeys(text: String, offset: Int) {
    let error = #expect(throws: CheckpointError.self) { try parse(text) }
    #expect(
      error?.message.contains("appears twice") == true && error?.offset == offset,
      "\(error.map { "\($0)" } ?? "")")
  }

  @Test("keys are compared by bytes, as other readers compare them") func accents() throws {
    let members = try #require(parse(#"{"\u00e9": 1, "e\u0301": 2}"#).members)
    #expect(members.count == 2 && members["\u{e9}"] == .integer(1) && members["e\u{301}"] == .integer(2))
  }

  @Test func membersAreSetAndRemoved() throws {
    var members: JSONMembers = ["a": .integer(1), "b": .integer(2), "c": .integer(3)]
    members["b"] = .null
    members["d"] = .bool(true)
    #expect(members.keys == ["a", "b", "c", "d"] && members["b"] == .null)
    members["a"] = nil
    members["x"] = nil
    #expect(members.keys == ["b", "c", "d"] && members["a"] == nil)
    #expect(members["c"] == .integer(3) && members["d"] == .bool(true))
    members["a"] = .integer(9)
    #expect(members.keys == ["b", "c", "d", "a"] && members[3].value == .integer(9))
    #expect(members.keeping { $0 > "b" }.keys == ["c", "d"])
    #expect(
      JSONMembers([("k", .integer(1)), ("l", .null), ("k", .integer(2))]) == ["k": .integer(2), "l": .null])
  }

  @Test("members before a fault are kept") func partial() throws {
    let text = Array(#"{"model_type": "m", "step3_partition": {"rank": nan}}"#.utf8)
    var members = JSONMembers()
    let error = #expect(throws: CheckpointError.self) {
      var scanner = JSONScanner(text.span.bytes, dialect: .python)
      try members.read(&scanner, "the configuration")
    }
    #expect(error?.offset == 48)
    #expect(members["model_type"]?.text == "m" && members["step3_partition"] == .null)
  }

  @Test func accessorsReturnValuesOrNil() throws {
    let value = try parse(#"{"o": {"n": null}, "l": ["a", 1, "b"], "s": "t", "f": false, "n": null, "i": 3}"#)
    #expect(
      value["n"] == nil && value["x"] == nil && value["o"]?["n"] == nil && value["o"]?.members?["n"] == .null)
    #expect(value["l"]?.strings == ["a", "b"] && value["l"]?.items?.count == 3 && value["s"]?.items == nil)
    #expect(
      value["s"]?.text == "t" && value["f"]?.flag == false && value["i"]?.whole == 3
        && value["f"]?.whole == nil)
    #expect(value["l"]?["a"] == nil && JSONValue.null["a"] == nil)
    #expect(value.flattened().map(\.path) == ["o.n", "l", "s", "f", "n", "i"])
    #expect(
      value["l"]?.summary == "[a, 1, b]" && value["l"]?.kind == "a list"
        && value["s"]?.kind == "the string 't'")
  }

  @Test("a hundred thousand keys are looked up and compared quickly") func manyKeys() throws {
    let text = "{" + (0..<100_000).map { "\"key\($0)\": \($0)" }.joined(separator: ",") + "}"
    let members = try #require(parse(text).members)
    for number in stride(from: 0, to: 100_000, by: 7) { #expect(members["key\(number)"] == .integer(number)) }
    #expect(try parse(text) == .object(members))
  }

  @Test func errorsNameThePlaceOfAMember() throws {
    let object = try JSONObject(
      parse(#"{"n": 5, "t": "x", "none": null, "in": {"b": true}, "l": [1, 2], "e": 1e-05}"#),
      place: "f.json: ")
    #expect(try object.integer("n", in: 1...9) == 5 && object.integer("x", in: 1...9, default: 2) == 2)
    #expect(
      try object.positive("e") == 1e-05 && object.positive("n") == 5
        && object.integers("l", in: 0...2) == [1, 2])
    #expect(try object.string("none") == nil && object.object("in")?.bool("b", default: false) == true)
    let error = #expect(throws: CheckpointError.self) { try object.object("in")?.integer("b", in: 0...1) }
    #expect(error?.message == "f.json: in.b: expected a whole number from 0 to 1, found true")
    for key in ["t", "l", "in"] {
      #expect(throws: CheckpointError.self) { try object.integer(key, in: 0...9) }
      #expect(throws: CheckpointError.self) { try object.positive(key) }
    }
  }
}
