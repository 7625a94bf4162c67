internal import CheckpointTesting
internal import Foundation
internal import Testing
internal import Tokenization

/// Against the package `tokenizers`: `Tests/Interop/make_tokenizer_fixtures.py` made the files.
@Suite struct ReferenceTests {
  private struct Case: Decodable {
    var text: String
    var ids: [Int]
  }

  @Test(arguments: ["tiny", "odd"])
  func idsAreThoseOfTheModelReference(_ name: String) throws {
    let cases = try fixture("checkpoints/\(name)/reference/tokenizer_cases.json", as: [Case].self)
    let tokenizer = try fixtureTokenizer(name)
    #expect(cases.count >= 12)
    for each in cases {
      #expect(
        try tokenizer.encode(each.text, addSpecialTokens: false) == each.ids, "\(each.text.debugDescription)")
    }
  }

  private struct Cases: Decodable {
    var texts: [String]
    var ids: [String: [[Int]]]
    var special: [String: [Int]]
    var decoded: [String: [Decoded]]
  }

  private struct Decoded: Decodable {
    var ids: [Int]
    var text: String
    var withoutSpecial: String

    init(from decoder: any Decoder) throws {
      var row = try decoder.unkeyedContainer()
      ids = try row.decode([Int].self)
      text = try row.decode(String.self)
      withoutSpecial = try row.decode(String.self)
    }
  }

  @Test(arguments: ["gpt2", "llama3", "qwen2", "tiny", "odd"])
  func textsOfManyScriptsEncodeAsTheReference(_ name: String) throws {
    let cases = try fixture("tokenizer/cases.json", as: Cases.self)
    let tokenizer = try fixtureTokenizer(name)
    let ids = try #require(cases.ids[name])
    #expect(ids.count == cases.texts.count)
    for (text, ids) in zip(cases.texts, ids) {
      #expect(try tokenizer.encode(text, addSpecialTokens: false) == ids, "\(text.debugDescription)")
    }
    #expect(try tokenizer.encode("a b", addSpecialTokens: true) == cases.special[name])
    // One text after the other gives the same as all at once: nothing carries over between calls.
    let joined = cases.texts.joined(separator: "\n\n")
    #expect(try tokenizer.encode(joined, addSpecialTokens: false).count > ids.count)
  }

  @Test(arguments: ["gpt2", "llama3", "qwen2", "tiny", "odd"])
  func randomIDsDecodeAsTheReference(_ name: String) throws {
    let cases = try fixture("tokenizer/cases.json", as: Cases.self)
    let tokenizer = try fixtureTokenizer(name)
    let rows = try #require(cases.decoded[name])
    #expect(rows.count >= 20)
    for row in rows {
      #expect(Array(tokenizer.decode(row.ids).utf8) == Array(row.text.utf8), "\(row.ids)")
      let shorter = tokenizer.decode(row.ids, skipSpecialTokens: true)
      #expect(Array(shorter.utf8) == Array(row.withoutSpecial.utf8), "\(row.ids)")
    }
  }

  @Test func encodedTextsDecodeToThemselves() throws {
    let cases = try fixture("tokenizer/cases.json", as: Cases.self)
    for name in ["gpt2", "llama3", "tiny"] {
      let tokenizer = try fixtureTokenizer(name)
      for text in cases.texts {
        let again = tokenizer.decode(try tokenizer.encode(text, addSpecialTokens: false))
        #expect(Array(again.utf8) == Array(text.utf8))
      }
    }
  }

  /// Regular expressions, split behaviours, added tokens, normal forms and incomplete vocabularies.
  @Test func variantsOfThePipelineEncodeAsTheReference() throws {
    let base = try #require(
      JSONSerialization.jsonObject(with: Data(fixture("tokenizer/crossing.json"))) as? [String: Any])
    let file = try #require(
      JSONSerialization.jsonObject(with: Data(fixture("tokenizer/variants.json"))) as? [String: Any])
    let texts = try #require(file["texts"] as? [String])
    let variants = try #require(file["variants"] as? [[String: Any]])
    #expect(variants.count > 100)
    for variant in variants {
      var members = try #require(variant["members"] as? [String: Any])
      let shown = members.filter { $0.key != "model" }
      let model = try #require(base["model"] as? [String: Any])
      members["model"] = model.merging(members["model"] as? [String: Any] ?? [:]) { $1 }
      let document = base.merging(members) { $1 }
      let tokenizer: Tokenizer
      do {
        tokenizer = try Tokenizer(tokenizerJSON: Array(JSONSerialization.data(withJSONObject: document)))
      } catch {
        Issue.record("\(shown): \(error)")
        continue
      }
      let ids = try #require(variant["ids"] as? [[Int]])
      let decoded = variant["decoded"] as? [String] ?? texts
      for (index, text) in texts.enumerated() {
        let found = try tokenizer.encode(text, addSpecialTokens: false)
        #expect(found == ids[index], "\(shown), \(text.debugDescription)")
        let again = tokenizer.decode(found, skipSpecialTokens: true)
        #expect(Array(again.utf8) == Array(decoded[index].utf8), "\(shown)")
      }
    }
  }

  /// All of Unicode: the members of `\p{Lu}` and every other category.
  @Test func everyScalarHasTheReferencesCategory() throws {
    let runs = String(decoding: try fixture("tokenizer/categories.txt"), as: UTF8.self).split(
      whereSeparator: \.isWhitespace)
    var members: [String: String.UnicodeScalarView] = [:]
    var value: UInt32 = 0
    for run in runs {
      let category = String(run.prefix(2))
      for _ in 0..<(run.count > 2 ? try #require(UInt32(run.dropFirst(2))) : 1) {
        // Planes from the third on are private use or unassigned: their ends suffice.
        let isNearEnd = value & 0xFFFF > 0xFFF0 || value & 0xFFFF < 0x10
        if value < 0x20000 || isNearEnd || (0xE0000..<0xE0200).contains(value) {
          members[category, default: .init()].append(try #require(UnicodeScalar(value)))
        }
        value += value == 0xD7FF ? 0x801 : 1
      }
    }
    #expect(value == 0x110000)
    #expect(members.count == 29)
    let everything = members.keys.sorted().map { (category: $0, text: String(members[$0] ?? .init())) }
    let whole = everything.map(\.text).joined()
    for (category, text) in everything {
      let tokenizer = try Tokenizer(
        tokenizerJSON: document(preTokenizer: removing("\\p{\(category)}+", inverted: true)))
      let found = tokenizer.decode(try tokenizer.encode(whole, addSpecialTokens: false))
      let isEqual = found.utf8.elementsEqual(text.utf8)
      #expect(isEqual, "\(category)")
    }
  }
}
