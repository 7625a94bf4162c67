import CheckpointTesting
import Foundation
import Testing

/// A check shares nothing with what it checks: the replayed loaders and the code that the planner uses are in one module, and
/// neither may use the other.
@Suite("Separation of writing and checking")
struct SeparationTests {
  private let root = URL(fileURLWithPath: "\(Fixtures.root)/Sources/ServingEngines")

  private func files(_ folders: [String]) throws -> [(name: String, text: String)] {
    try folders.flatMap { folder in
      let directory = root.appendingPathComponent(folder)
      return try FileManager.default.contentsOfDirectory(atPath: directory.path).map { name in
        ("\(folder)/\(name)", try String(contentsOf: directory.appendingPathComponent(name), encoding: .utf8))
      }
    }
  }

  /// The top-level types that files declare.
  private func types(_ files: [(name: String, text: String)]) -> Set<String> {
    Set(
      files.flatMap {
        $0.text.matches(of: /(?m)^(?:\w+ )*(?:struct|class|enum|protocol|actor|typealias) (\w+)/).map {
          String($0.output.1)
        }
      })
  }

  @Test("every file is in the check's folders or the writer's, except the one with the engines' names")
  func folders() throws {
    let found = try FileManager.default.contentsOfDirectory(atPath: root.path).sorted()
    #expect(found == ["Check", "Engine.swift", "Rules", "Writing"])
  }

  @Test("neither side names a type of the other")
  func types() throws {
    let check = try files(["Check", "Rules"])
    let writing = try files(["Writing"])
    #expect(check.count > 20 && types(check).isSuperset(of: ["EngineCheck", "EngineLayout", "EngineModule"]))
    #expect(
      types(writing).isSuperset(of: ["QuantizedModules", "QuantizationConfiguration", "WrittenWeight"]))
    for (names, files) in [(types(writing), check), (types(check), writing)] {
      for file in files {
        let words = Set(file.text.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init))
        #expect(words.isDisjoint(with: names), "\(file.name) uses \(words.intersection(names))")
      }
    }
  }

  @Test("the check imports no module that the writer decides, encodes or decodes with")
  func imports() throws {
    for file in try files(["Check", "Rules"]) {
      for module in ["ModelWeights", "Quantization", "QuantizationRecipes", "ShardPlanning", "Conversion"] {
        #expect(!file.text.contains("import \(module)\n"), "\(file.name)")
      }
    }
  }
}
