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

/// Only a sound manifest is trusted, and the cost of reading one is bounded.
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
      try await ChecksumVerification(DirectoryStore(output), .init(threads: 1)).run()
    }
  }

  @Test("a repeated key is refused at any depth and in any spelling") func duplicateKeys() async throws {
    let text = try String(contentsOfFile: manifest, encoding: .utf8)
    for (key, twice) in [
      ("\"version\" : ", "\"version\" : 2, \"version\" : "),
      ("\"sha256\" : ", "\"sha256\" : \"\", \"sha256\" : "),
      ("\"offset\" : ", "\"o\\u0066fset\" : 0, \"offset\" : "), ("\"unknown\"", "\"unknown\""),
    ] {
      let changed =
        key == twice
        ? text.replacing("\n  \"files\"", with: "\n  \"extra\": [{\"a\": 1, \"a\": 1}],\n  \"files\"")
        : text.replacing(key, with: twice, maxReplacements: 1)
      #expect(changed != text)
      try Data(changed.utf8).write(to: URL(filePath: manifest))
      let error = await failure()
      #expect(error?.code == .malformed && error?.message.contains("appears twice") == true)
      #expect(error?.path == manifest && error?.offset != nil)
    }
  }

  @Test("a pipe, directory, device or dangling link is refused as such, without waiting") func otherKinds()
    async throws
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
    #expect(error?.code == .malformed && error?.message.contains("is a dangling symbolic link") == true)
    try FileManager.default.removeItem(atPath: manifest)
    try FileManager.default.createSymbolicLink(atPath: manifest, withDestinationPath: "/dev/zero")
    error = await failure()
    #expect(error?.code == .malformed && error?.message.contains("device") == true)
  }

  @Test("every field with an impossible number or path is refused")
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
    // The root digest is recomputed. Texts for people, and fields that only name the source's content, may be anything;
    // so may a layer's number. The directory is "" here.
    let free: Set<String> = [
      "digest", "plan.parts.*.directory", "plan.parts.*.files.*.tensors.*.layer", "plan.request.recipe",
      "plan.source.architecture",
    ]
    let numbers: [Any] = [-1, Int.min, Int.max, NSDecimalNumber(string: "18446744073709551616")]
    let texts: [Any] = ["../x", "/etc/x", "", "x\u{0}"]
    var refused = 0
    for (place, path) in places.sorted(by: { $0.key < $1.key }) where !free.contains(place) {
      let original = Self.value(at: path[...], of: root)
      for value in original is String ? texts : numbers where !(original is Bool) {
        let changed = Self.replacing(path[...], of: root, with: value)
        try RootDigest.seal(changed).write(to: URL(filePath: manifest))
        // A huge value is allowed in counts that are compared with nothing.
        let isLarge = "\(value)".hasPrefix("9223") || "\(value)".hasPrefix("1844")
        do {
          let report = try await ChecksumVerification(DirectoryStore(output), .init(threads: 1)).run()
          #expect(
            !report.ok
              || isLarge && (place.hasSuffix("tensorCount") || place.hasSuffix("maximumShardBytes")),
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

  @Test("removed or repeated records are refused") func records() async throws {
    let text = try Data(contentsOf: URL(filePath: manifest))
    let root = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    for key in ["files", "tensors", "sources"] {
      let list = try #require(root[key] as? [Any])
      for changed in [[], Array(list.dropLast()), list + list.suffix(1)] where changed.count != list.count {
        var copy = root
        copy[key] = changed
        try RootDigest.seal(copy).write(to: URL(filePath: manifest))
        let error = await failure()
        #expect(
          error?.code == .malformed && error?.message.contains("root digest") == false,
          "\(key): \(changed.count)")
      }
    }
  }

  @Test(
    "impossible error figures are refused",
    arguments: [
      ("rmse", 1e9), ("rmse", 0), ("rmse", -1), ("maximumAbsoluteError", 1e9), ("maximumAbsoluteError", 0),
      ("maximumAbsoluteError", 1e300), ("relativeRMSE", 1e-9), ("relativeRMSE", -1),
      ("cosineSimilarity", 0.5),
      ("cosineSimilarity", -1), ("cosineSimilarity", 1.5),
    ] as [(String, Double)])
  func inventedErrors(field: String, value: Double) async throws {
    let text = try Data(contentsOf: URL(filePath: manifest))
    let root = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    let tensors = try #require(root["tensors"] as? [[String: Any]])
    let index = try #require(tensors.firstIndex { $0["error"] != nil })
    try RootDigest.seal(root).write(to: URL(filePath: manifest))
    #expect(try await ChecksumVerification(DirectoryStore(output), .init(threads: 1)).run().ok)
    let changed = Self.replacing(["tensors", index, "error", field], of: root, with: value)
    try RootDigest.seal(changed).write(to: URL(filePath: manifest))
    let error = await failure()
    #expect(error?.code == .malformed && error?.tensor == tensors[index]["name"] as? String)
    // Also an error removed, and one added to a tensor that cannot have any.
    let exchanged: [(Int?, Any?)] = [
      (index, nil), (tensors.firstIndex { $0["error"] == nil }, tensors[index]["error"]),
    ]
    for (index, error) in exchanged {
      var tensors = tensors
      tensors[try #require(index)]["error"] = error
      try RootDigest.seal(Self.replacing(["tensors"], of: root, with: tensors)).write(
        to: URL(filePath: manifest))
      #expect(await failure()?.code == .malformed)
    }
  }

  @Test("any changed, lost or repeated line of a manifest fails the check")
  func everyLine() async throws {
    let parts = harness.directory.path("parts")
    try await harness.convert(
      Fixtures.path("checkpoints/tiny"),
      .init(
        format: .safetensors, recipe: "NVFP4A16", partition: .afd(ShardPlan.AFDLayout(ffnEP: 2)),
        maximumShardBytes: 2_000_000), into: "parts")
    for output in [output, parts, "\(parts)/attention"] {
      let file = "\(output)/manifest.json"
      let lines = try String(contentsOfFile: file, encoding: .utf8).split(
        separator: "\n", omittingEmptySubsequences: false)
      // The first and last line of each kind (same indentation and key).
      var first: [Substring: Int] = [:]
      var last: [Substring: Int] = [:]
      for (index, line) in lines.enumerated() where !line.isEmpty {
        let kind = line.prefix { $0 != ":" }
        if first[kind] == nil { first[kind] = index }
        last[kind] = index
      }
      var generator = SeededGenerator(seed: 8)
      for index in Set(first.values).union(last.values).sorted() {
        for changed in Self.changes(of: lines[index], &generator) {
          var copy = lines
          copy.replaceSubrange(index...index, with: changed)
          try Data(copy.joined(separator: "\n").utf8).write(to: URL(filePath: file))
          do {
            let verification = try ChecksumVerification(DirectoryStore(output), .init(threads: 2))
            let report = try await verification.run()
            #expect(!report.ok, "\(file): line \(index + 1): \(changed)")
          } catch let error as CheckpointError {
            #expect([.malformed, .unsupported].contains(error.code), "\(file): line \(index + 1): \(error)")
          }
        }
      }
      try Data(lines.joined(separator: "\n").utf8).write(to: URL(filePath: file))
      #expect(try await ChecksumVerification(DirectoryStore(output), .init(threads: 2)).run().ok)
    }
  }

  /// Changes to a line of a manifest: other numbers and texts, removal, repetition.
  private static func changes(of line: Substring, _ generator: inout SeededGenerator) -> [[Substring]] {
    var changes: [[Substring]] = [[], [line, line]]
    let start = line.range(of: " : ")?.upperBound ?? line.firstIndex { $0 != " " } ?? line.startIndex
    let end = line.hasSuffix(",") ? line.index(before: line.endIndex) : line.endIndex
    let value = line[start..<end]
    func put(_ text: String) { changes.append(["\(line[..<start])\(text)\(line[end...])"]) }
    if Double(value) != nil {
      for other in ["-1", "-9223372036854775808", "9223372036854775807", "\(value)1", "null", "\"x\""] {
        put(other)
      }
    } else if value.hasPrefix("\""), value.count > 2 {
      let inner = value.dropFirst().dropLast()
      let place = inner.index(inner.startIndex, offsetBy: Int(generator.next() % UInt64(inner.count)))
      let other: Character = inner[place] == "0" ? "1" : "0"
      put("\"\(inner[..<place])\(other)\(inner[inner.index(after: place)...])\"")
      put("\"\"")
      put("-1")
    } else if value == "true" || value == "false" {
      put(value == "true" ? "false" : "true")
    }
    return changes
  }

  @Test("a file of zeros is refused at its first byte, and one of too many values by its count")
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

/// The root digest, computed as the manual says.
enum RootDigest {
  /// A manifest with this value, sealed with the right digest.
  static func seal(_ value: Any) throws -> Data {
    let text = try JSONSerialization.data(
      withJSONObject: value, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n", maxSplits: 2)
    let rest = lines[2] + "\n"
    var digester = SHA256Digester()
    digester.update(Array(rest.utf8))
    return Data("{\n  \"digest\" : \"\(digester.finalize())\",\n\(rest)".utf8)
  }
}
