import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import ShardPlanning
import TensorFormats
import Testing
import Verification

/// A manifest is believed only where it is sound, and reading one costs what it is worth.
@Suite struct ManifestReadingTests {
  private let harness: ConversionHarness
  private let output: String
  private let manifest: String

  init() async throws {
    harness = try ConversionHarness()
    output = harness.directory.path("output")
    manifest = "\(output)/manifest.json"
    try await harness.convert(Fixtures.path("checkpoints/tiny"), .init(format: .gguf, recipe: "Q8_0"))
  }

  private func failure() async -> CheckpointError? {
    await #expect(throws: CheckpointError.self) {
      try await ChecksumVerification(DirectoryStore(output), threads: 1).run()
    }
  }

  @Test("a key twice, at any depth and however it is written") func duplicateKeys() async throws {
    let text = try String(contentsOfFile: manifest, encoding: .utf8)
    for (key, twice) in [
      ("\"version\" : ", "\"version\" : 2, \"version\" : "),
      ("\"sha256\" : ", "\"sha256\" : \"\", \"sha256\" : "),
      ("\"offset\" : ", "\"o\\u0066fset\" : 0, \"offset\" : "), ("\"unknown\"", "\"unknown\""),
    ] {
      let changed =
        key == twice
        ? text.replacing("{\n  \"files\"", with: "{ \"extra\": [{\"a\": 1, \"a\": 1}],\n  \"files\"")
        : text.replacing(key, with: twice, maxReplacements: 1)
      #expect(changed != text)
      try Data(changed.utf8).write(to: URL(filePath: manifest))
      let error = await failure()
      #expect(error?.code == .malformed && error?.message.contains("is there twice") == true)
      #expect(error?.path == manifest && error?.offset != nil)
    }
  }

  @Test("what is no regular file is said to be what it is, and not waited for") func otherKinds() async throws
  {
    try FileManager.default.removeItem(atPath: manifest)
    #expect(mkfifo(manifest, 0o600) == 0)
    var error = await failure()
    #expect(error?.code == .malformed && error?.message.contains("pipe") == true)
    try FileManager.default.removeItem(atPath: manifest)
    try FileSystem.createDirectory(manifest)
    error = await failure()
    #expect(error?.code == .malformed && error?.message.contains("is a directory") == true)
    try FileManager.default.removeItem(atPath: manifest)
    try FileManager.default.createSymbolicLink(atPath: manifest, withDestinationPath: "nowhere")
    error = await failure()
    #expect(error?.code == .malformed && error?.message.contains("leads nowhere") == true)
    try FileManager.default.removeItem(atPath: manifest)
    try FileManager.default.createSymbolicLink(atPath: manifest, withDestinationPath: "/dev/zero")
    error = await failure()
    #expect(error?.code == .malformed && error?.message.contains("device") == true)
  }

  @Test("numbers that are none, paths that lead elsewhere, lists that disagree: every field of its kind")
  func everyField() async throws {
    let text = try Data(contentsOf: URL(filePath: manifest))
    let root = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    var places: [String: [Any]] = [:]
    func collect(_ value: Any, _ path: [Any]) {
      switch value {
      case let object as [String: Any]: for (key, inner) in object { collect(inner, path + [key]) }
      case let array as [Any]: for (index, inner) in array.enumerated() { collect(inner, path + [index]) }
      default: places[path.map { $0 as? String ?? "*" }.joined(separator: ".")] = path
      }
    }
    collect(root, [])
    // Texts for people and what only names the source's content may be anything; so may a layer. The directory is ""
    // here, and a cosine may be -1.
    let free: Set<String> = [
      "plan.parts.*.directory", "tensors.*.error.cosineSimilarity",
      "plan.parts.*.files.*.tensors.*.layer", "plan.request.recipe", "plan.source.architecture",
      "plan.parts.*.files.*.tensors.*.sources.*.tensor", "tensors.*.sources.*",
    ]
    let numbers: [Any] = [-1, Int.min, Int.max, NSDecimalNumber(string: "18446744073709551616")]
    let texts: [Any] = ["../x", "/etc/x", "", "x\u{0}"]
    var refused = 0
    for (place, path) in places.sorted(by: { $0.key < $1.key }) where !free.contains(place) {
      let original = Self.value(at: path[...], of: root)
      for value in original is String ? texts : numbers where !(original is Bool) {
        let changed = Self.replacing(path[...], of: root, with: value)
        try JSONSerialization.data(withJSONObject: changed).write(to: URL(filePath: manifest))
        // Large values are as good as any other where they are counts that nothing is compared with, or errors.
        let isLarge = "\(value)".hasPrefix("9223") || "\(value)".hasPrefix("1844")
        do {
          let report = try await ChecksumVerification(DirectoryStore(output), threads: 1).run()
          #expect(
            !report.ok
              || isLarge
                && (place.contains(".error.") || place.hasSuffix("tensorCount")
                  || place.hasSuffix("maximumShardBytes")),
            "\(place): \(value)")
        } catch let error as CheckpointError {
          #expect([.malformed, .unsupported].contains(error.code), "\(place): \(error)")
          refused += 1
        }
      }
    }
    #expect(refused > 100)
  }

  private static func value(at path: ArraySlice<Any>, of value: Any) -> Any {
    guard let first = path.first else { return value }
    if let key = first as? String, let object = value as? [String: Any] {
      return self.value(at: path.dropFirst(), of: object[key] ?? NSNull())
    }
    guard let index = first as? Int, let array = value as? [Any] else { return NSNull() }
    return self.value(at: path.dropFirst(), of: array[index])
  }

  private static func replacing(_ path: ArraySlice<Any>, of value: Any, with new: Any) -> Any {
    guard let first = path.first else { return new }
    if let key = first as? String, var object = value as? [String: Any] {
      object[key] = replacing(path.dropFirst(), of: object[key] ?? NSNull(), with: new)
      return object
    }
    guard let index = first as? Int, var array = value as? [Any] else { return value }
    array[index] = replacing(path.dropFirst(), of: array[index], with: new)
    return array
  }

  @Test("records removed, doubled or exchanged") func records() async throws {
    let text = try Data(contentsOf: URL(filePath: manifest))
    let root = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    for key in ["files", "tensors", "sources"] {
      let list = try #require(root[key] as? [Any])
      for changed in [[], Array(list.dropLast()), list + list.suffix(1)] where changed.count != list.count {
        var copy = root
        copy[key] = changed
        try JSONSerialization.data(withJSONObject: copy).write(to: URL(filePath: manifest))
        #expect(await failure()?.code == .malformed, "\(key): \(changed.count)")
      }
    }
  }

  @Test("a file of zeros is refused by its first bytes, and a dense one by what it would cost")
  func memory() async throws {
    let handle = try #require(FileHandle(forWritingAtPath: manifest))
    try handle.truncate(atOffset: 0)
    try handle.truncate(atOffset: 255_000_000)
    var error = await failure()
    #expect(error?.code == .malformed && error?.offset == 0)
    try Data("{\"a\":[\(String(repeating: "0,", count: 100_000))0]}".utf8).write(to: URL(filePath: manifest))
    error = await failure()
    #expect(error?.code == .malformed && error?.message.contains("values") == true)
    try Data("{\(String(repeating: "\"\",", count: 100))".utf8).write(to: URL(filePath: manifest))
    #expect(await failure()?.code == .malformed)
  }
}
