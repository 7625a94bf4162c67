import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import JSON
import Step3Model
import TensorFormats
import Testing

import Verification

/// Decoding by definition, against numpy's decoding of the same tensors and values worked out by hand.
@Suite struct SecondReadingTests {
  private static let golden = "golden/definitions/forms.safetensors"

  /// The `quantization_config` of every form.
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

  @Test("every form decodes as in numpy", arguments: settings.keys.sorted())
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

  @Test("there are golden forms to compare with") func forms() { #expect(Self.settings.count >= 40) }

  /// A form's configuration on another form's tensors gives the right values or is refused.
  @Test(
    "the configuration of another form gives the right values or is refused",
    arguments: settings.keys.sorted())
  func otherConfigurations(form: String) throws {
    let checkpoint = try Checkpoint.open(Fixtures.path(Self.golden))
    let name = try #require(Self.codes(form, in: checkpoint))
    let own = try SecondReading.values(
      of: name, in: checkpoint, settings: try JSONText.file(#require(Self.settings[form])))
    for (other, stated) in Self.settings where other != form {
      // Only the configuration tells what a stored zero point means and which words form groups.
      if form.hasPrefix("gptq"), other.hasPrefix("gptq") { continue }
      // 64 codes of seven bits with gaps take as many words as codes of eight bits.
      if form.hasPrefix("packed"), other.hasPrefix("packed") { continue }
      do {
        let read = try SecondReading.values(of: name, in: checkpoint, settings: JSONText.file(stated))
        #expect(read == own, "\(form) under the configuration of \(other)")
      } catch let error {
        #expect([.unsupported, .malformed].contains(error.code) && error.tensor == name)
      }
    }
  }

  // MARK: What the second decoder may not use

  @Test("the second decoder uses none of the converter's decoding code")
  func sharesNothing() throws {
    let directory = "\(Fixtures.root)/Sources/Verification/Declared"
    let files = try FileManager.default.contentsOfDirectory(atPath: directory)
    #expect(files.count > 6)
    // These compare the two decoders, and so know both.
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
