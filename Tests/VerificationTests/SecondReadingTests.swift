import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import JSON
import Step3Model
import TensorFormats
import Testing

import Verification

/// Decoding by definition, against numpy's decoding of the same tensors and numbers worked out by hand.
@Suite struct SecondReadingTests {
  private static let golden = "golden/definitions/forms.safetensors"

  /// `quantization_config` of every form.
  static let settings: JSONMembers = {
    let text =
      FileManager.default.contents(atPath: Fixtures.path("golden/definitions/settings.json")) ?? Data()
    guard case .object(let forms)? = try? JSONValue.parse([UInt8](text), name: "settings.json") else {
      return [:]
    }
    return forms
  }()

  private static func codes(_ form: String, in checkpoint: Checkpoint) -> String? {
    ["weight", "weight_packed", "qweight"].map { "\(form).\($0)" }.first { checkpoint[$0] != nil }
  }

  @Test("every form is what numpy makes of it", arguments: settings.keys.sorted())
  func golden(form: String) throws {
    let checkpoint = try Checkpoint.open(Fixtures.path(Self.golden))
    let settings = try JSONText.file(#require(Self.settings[form]))
    let name = try #require(Self.codes(form, in: checkpoint))
    let values = try #require(try SecondReading.values(of: name, in: checkpoint, settings: settings))
    let tensor = try #require(checkpoint["\(form).values"])
    let bytes = try checkpoint.files[tensor.file].source.readBytes(tensor.byteRange)
    let expected = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    try #require(values.count == expected.count)
    let wrong = zip(values, expected).enumerated().first { Float($1.0 ?? .nan) != $1.1 }
    #expect(wrong == nil, "\(String(describing: wrong))")
    #expect(expected.count { $0 != 0 } > expected.count / 2)
  }

  @Test("there are forms to be held to") func forms() { #expect(Self.settings.count >= 40) }

  /// What one form says of the tensors of another is either right as well or refused, never something else.
  @Test("a configuration of something else", arguments: settings.keys.sorted())
  func otherConfigurations(form: String) throws {
    let checkpoint = try Checkpoint.open(Fixtures.path(Self.golden))
    let name = try #require(Self.codes(form, in: checkpoint))
    let own = try SecondReading.values(
      of: name, in: checkpoint, settings: try JSONText.file(#require(Self.settings[form])))
    for (other, stated) in Self.settings where other != form {
      // What a stored zero point means, and which words are groups, only the configuration tells.
      if form.hasPrefix("gptq"), other.hasPrefix("gptq") { continue }
      // 64 codes of seven bits with gaps are as many words as of eight bits.
      if form.hasPrefix("packed"), other.hasPrefix("packed") { continue }
      do {
        let read = try SecondReading.values(of: name, in: checkpoint, settings: JSONText.file(stated))
        #expect(read == own, "\(form) under the configuration of \(other)")
      } catch let error {
        #expect([.unsupported, .malformed].contains(error.code) && error.tensor == name)
      }
    }
  }

  // MARK: Where the reader may not come from

  @Test("no file of the second reading uses what converter and comparison read with")
  func sharesNothing() throws {
    let directory = "\(Fixtures.root)/Sources/Verification/Declared"
    let files = try FileManager.default.contentsOfDirectory(atPath: directory)
    #expect(files.count > 6)
    // These compare the two readings, and so know both.
    for file in files where !["CrossCheck.swift", "CrossChecks.swift"].contains(file) {
      let text = try String(contentsOfFile: "\(directory)/\(file)", encoding: .utf8)
      for module in [
        "ModelWeights", "Comparison", "Quantization", "QuantizationRecipes", "ShardPlanning", "Conversion",
      ] {
        #expect(!text.contains("import \(module)\n"), "\(file)")
      }
    }
  }
}
