import Checkpoint
import CheckpointTesting
import Foundation
import ShardPlanning
import Testing

/// `step3-verify run`
@Suite("step3-verify run") struct VerifyRunTests {
  private let directory: TemporaryDirectory
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { directory = try TemporaryDirectory() }

  private func run(_ path: String, _ arguments: [String]) throws -> ToolResult {
    try runTool("step3-verify", ["run", path] + arguments)
  }

  private func prompts(_ path: String, _ arguments: [String]) throws -> [[String: Any]] {
    let result = try run(path, arguments + ["--json"])
    try #require(result.status == 0, "\(result.error)")
    return try #require(try result.json()["prompts"] as? [[String: Any]])
  }

  #if os(Linux)
  /// Left to itself, the BLAS would retry its allocation for ever.
  @Test("too little address space for the buffers of matrix products is an error") func addressSpace() throws
  {
    func run(kilobytes: Int, threads: Int) throws -> ToolResult {
      let process = Process()
      process.executableURL = URL(filePath: "/bin/sh")
      process.arguments = [
        "-c", "ulimit -v \(kilobytes); exec \"$0\" \"$@\"", try toolPath("step3-verify"), "run", tiny,
        "--tokens", "1,2,3", "--threads", "\(threads)",
      ]
      let (output, error) = (Pipe(), Pipe())
      process.standardOutput = output
      process.standardError = error
      try process.run()
      let texts = [output, error].map {
        String(decoding: $0.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      }
      process.waitUntilExit()
      return ToolResult(status: process.terminationStatus, output: texts[0], error: texts[1])
    }
    // 64 buffers of 128 MiB.
    let refused = try run(kilobytes: 4_000_000, threads: 64)
    #expect(refused.status == 74)
    #expect(refused.error.contains("no memory for the buffers of matrix products"), "\(refused.error)")
    #expect(refused.error.contains("--threads"))
    #expect(try run(kilobytes: 4_000_000, threads: 2).status == 0)
  }
  #endif

  @Test(
    "the dump matches the published modeling code", arguments: ["tiny", "odd", "tiny-fp8"])
  func dump(fixture: String) throws {
    let path = Fixtures.path("checkpoints/\(fixture)")
    let names = ["text_064", "text_007"]
    let file = directory.path("dump.safetensors")
    let result = try run(
      path,
      names.flatMap { ["--tokens-file", "\(path)/reference/\($0).safetensors"] } + [
        "--dump", file, "--hidden-states",
      ])
    #expect(result.status == 0 && result.error.isEmpty, "\(result.error)")
    let dump = try TensorFile(file)
    let references = try names.map { try TensorFile("\(path)/reference/\($0).safetensors") }
    #expect(try dump.type("input_ids") == "I64")
    #expect(try dump.integers("input_ids") == references.flatMap { try $0.integers("input_ids") })
    #expect(
      try largestDifference(dump.floats("logits"), references.flatMap { try $0.floats("logits") }) < 2e-4)
    // Before the first layer, after each layer, and after the final norm.
    let layers = references[0].names.count { $0.hasPrefix("hidden.") } - 2
    #expect(dump.names.count == layers + 4)
    for number in 0...layers + 1 {
      let name = number == 0 ? "embed" : number == layers + 1 ? "norm" : "\(number - 1)"
      let expected = try references.flatMap { try $0.floats("hidden.\(name)") }
      #expect(try largestDifference(dump.floats("hidden_states.\(number)"), expected) < 2e-4)
      #expect(try dump.shape("hidden_states.\(number)").first == 71)
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["dump.safetensors"])
  }

  @Test("greedy generation continues as the published modeling code does", arguments: ["tiny", "odd-fp8"])
  func generates(fixture: String) throws {
    let path = Fixtures.path("checkpoints/\(fixture)")
    let meta = try #require(
      try JSONSerialization.jsonObject(
        with: Data(contentsOf: URL(filePath: "\(path)/reference/meta.json"))) as? [String: Any])
    let all = try #require(meta["prompts"] as? [String: [String: Any]])
    let names = ["text_007", "text_064"]
    let prompts = try prompts(
      path,
      names.flatMap { ["--tokens-file", "\(path)/reference/\($0).safetensors"] } + ["--generate", "8"])
    #expect(prompts.count == 2)
    for (name, prompt) in zip(names, prompts) {
      let expected = try #require(all[name]?["greedy_8"] as? [Int])
      #expect(prompt["generated"] as? [Int] == expected)
      let next = try #require(prompt["next"] as? [[String: Any]])
      #expect(next.count == 5 && next[0]["token"] as? Int == expected[0])
      let probabilities = next.compactMap { $0["probability"] as? Double }
      #expect(probabilities == probabilities.sorted(by: >) && probabilities.reduce(0, +) < 1)
      #expect(prompt["perplexity"] as? Double ?? 0 > 1)
    }
  }

  @Test func promptsAreTokenized() throws {
    let written = try prompts(tiny, ["--prompt", "Hello, world!", "--no-special-tokens"])
    let ids = [42, 71, 284, 81, 14, 264, 286, 78, 70, 3]
    #expect(written.first?["tokens"] as? [Int] == ids)
    let numbered = try prompts(tiny, ["--tokens", ids.map(String.init).joined(separator: ", ")])
    #expect(
      (written.first?["next"] as? [[String: Any]])?.first?["logit"] as? Double
        == (numbered.first?["next"] as? [[String: Any]])?.first?["logit"] as? Double)
    // As text, with a generated continuation and a prompt of token ids beside it.
    let result = try run(
      tiny, ["--prompt", "Hello, world!", "--no-special-tokens", "--generate", "2", "--tokens", "1"])
    #expect(result.status == 0)
    #expect(result.output.contains("10 tokens, perplexity ") && result.output.contains("generated  "))
    // Token ids come before texts, so the second prompt is the text.
    #expect(
      result.output.hasPrefix("prompt 1, 1 tokens\n") && result.output.contains("\nprompt 2, 10 tokens"))
  }

  @Test func theJSONDocumentIsComplete() throws {
    let json = try run(tiny, ["--tokens", "5", "--json"]).json()
    #expect(json["path"] as? String == tiny && json["tokens"] as? Int == 1)
    #expect(json["bytesRead"] as? Int ?? 0 > 1_000_000 && json["seconds"] as? Double ?? -1 >= 0)
    #expect(json["peakMemoryBytes"] as? Int ?? 0 > 1_000_000)
    let prompt = try #require((json["prompts"] as? [[String: Any]])?.first)
    #expect(prompt["tokens"] as? [Int] == [5] && isAbsent(prompt["generated"]))
    // A single token has no next token to predict, and so no perplexity.
    #expect(isAbsent(prompt["perplexity"]))
  }

  @Test(
    "a partition set gives the same logits, merged and run in separate processes", arguments: [false, true])
  func partitionSet(served: Bool) async throws {
    let output = directory.path("set")
    try await convert("tiny", to: .safetensors, partition: .afd(.init(ffnEP: 2)), into: output)
    let reference = "\(tiny)/reference/text_007.safetensors"
    let file = directory.path("dump.safetensors")
    let result = try run(
      output,
      ["--tokens-file", reference, "--dump", file, "--hidden-states", "--json"] + (served ? ["--afd"] : []))
    #expect(result.status == 0, "\(result.error)")
    #expect((try result.json()["ranks"] as? [Any])?.count == (served ? 2 : nil))
    let (dump, expected) = (try TensorFile(file), try TensorFile(reference))
    #expect(try largestDifference(dump.floats("logits"), expected.floats("logits")) < 2e-4)
    #expect(try largestDifference(dump.floats("hidden_states.3"), expected.floats("hidden.2")) < 2e-4)
  }

  // MARK: Pictures

  @Test func pixelValuesGiveTheReferencesLogits() throws {
    let reference = "\(tiny)/reference/image.safetensors"
    let file = directory.path("dump.safetensors")
    let arguments = ["--tokens-file", reference, "--pixel-values", reference]
    let result = try run(tiny, arguments + ["--dump", file, "--generate", "8", "--json"])
    #expect(result.status == 0, "\(result.error)")
    let expected = try TensorFile(reference)
    #expect(try largestDifference(TensorFile(file).floats("logits"), expected.floats("logits")) < 2e-4)
    let prompt = try #require((try result.json()["prompts"] as? [[String: Any]])?.first)
    #expect(prompt["generated"] as? [Int] == [183, 202, 184, 182, 138, 446, 507, 184])
    // Pixels without image tokens, and too few image tokens for the pixels.
    #expect(try run(tiny, ["--tokens", "1,2", "--pixel-values", reference]).status == 64)
    #expect(try run(tiny, ["--tokens", "1,503", "--pixel-values", reference]).status == 64)
    #expect(try run(tiny, arguments + ["--image", "x.png"]).status == 64)
  }

  @Test func picturesFillTheirPlaces() throws {
    let image = Fixtures.path("images/rgb.png")
    let shown = try prompts(
      tiny, ["--image", image, "--prompt", "The boats <im_patch> came", "--crop-size", "84"])
    let tokens = try #require(shown.first?["tokens"] as? [Int])
    #expect(tokens.contains(503) && tokens.contains(505) == tokens.contains(506))
    // The same token ids with the same picture give the same logits.
    let numbers = tokens.map(String.init).joined(separator: ",")
    let again = try prompts(tiny, ["--image", image, "--tokens", numbers, "--crop-size", "84"])
    func logit(_ prompts: [[String: Any]]) -> Double? {
      (prompts.first?["next"] as? [[String: Any]])?.first?["logit"] as? Double
    }
    #expect(logit(shown) != nil && logit(shown) == logit(again))
    let without = try run(tiny, ["--image", image, "--prompt", "The boats", "--crop-size", "84"])
    #expect(without.status == 64 && without.error.contains("1 of 1 pictures have no place in the prompts"))
    #expect(try run(tiny, ["--image", directory.path("none.png"), "--prompt", "<im_patch>"]).status == 66)
    try Data("no picture".utf8).write(to: URL(filePath: directory.path("some.png")))
    let broken = try run(tiny, ["--image", directory.path("some.png"), "--prompt", "<im_patch>"])
    #expect(broken.status == 65 && broken.error.contains("some.png"))
  }

  // MARK: Wrong input

  @Test(
    "wrong usage exits with 64",
    arguments: [
      [], ["--tokens", ""], ["--tokens", "1,,2"], ["--tokens", "-1"], ["--tokens", "1;2"],
      ["--tokens", "1", "--hidden-states"], ["--tokens", "1", "--generate", "-1"],
      ["--tokens", "1", "--memory", "1MiB"], ["--tokens", "512"], ["--tokens", "9999999999"],
      ["--tokens", "1", "--afd-tokens", "bf16"], ["--tokens", "1", "--afd"],
    ])
  func usage(arguments: [String]) throws {
    let result = try run(tiny, arguments)
    #expect(result.status == 64 && result.output.isEmpty && !result.error.isEmpty, "\(result)")
  }

  @Test func missingFilesAndUnknownTokensAreRefused() throws {
    #expect(try run(directory.path("none"), ["--tokens", "1"]).status == 66)
    #expect(try run(tiny, ["--tokens-file", directory.path("none.json")]).status == 66)
    let token = try run(tiny, ["--tokens", "3,512,4"])
    #expect(token.error.contains("token 512 is not in the vocabulary of 512"))
  }

  @Test func aDumpIsNeverOverwritten() throws {
    let file = directory.path("dump.safetensors")
    try Data("mine".utf8).write(to: URL(filePath: file))
    #expect(try run(tiny, ["--tokens", "1", "--dump", file]).status == 73)
    #expect(try String(contentsOf: URL(filePath: file), encoding: .utf8) == "mine")
    #expect(try run(tiny, ["--tokens", "1", "--dump", directory.path("no/dump.safetensors")]).status == 73)
    // A failed run leaves nothing behind.
    #expect(try run(tiny, ["--tokens", "512", "--dump", directory.path("other.safetensors")]).status == 64)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["dump.safetensors"])
  }

  @Test func aBrokenCheckpointIsRefused() throws {
    let path = directory.path("broken")
    try FileManager.default.copyItem(atPath: tiny, toPath: path)
    let shard = URL(filePath: "\(path)/model-00002-of-00004.safetensors")
    try Data(contentsOf: shard).dropLast(10).write(to: shard)
    #expect(try run(path, ["--tokens", "1"]).status == 65)
  }

  @Test func moreTokensThanMemoryAllowsAreRefused() throws {
    let file = directory.path("many.json")
    try JSONEncoder().encode([Int](repeating: 7, count: 30_000)).write(to: URL(filePath: file))
    let result = try run(tiny, ["--tokens-file", file, "--memory", "64MiB"])
    #expect(result.status == 64 && result.error.contains("30000 tokens need"))
    #expect(result.error.contains("give --memory"))
  }

  // MARK: Files of tokens

  @Test(
    "token files in every JSON form are read",
    arguments: zip(
      [
        "[1, 2, 3]", "[[1,2],[3]]", #"{"input_ids": [4]}"#,
        #"{"input_ids": [[4, 5]], "attention_mask": [[1, 1]]}"#,
      ], [[[1, 2, 3]], [[1, 2], [3]], [[4]], [[4, 5]]]))
  func json(text: String, expected: [[Int]]) throws {
    let file = directory.path("tokens.json")
    try Data(text.utf8).write(to: URL(filePath: file))
    #expect(try prompts(tiny, ["--tokens-file", file]).map { $0["tokens"] as? [Int] } == expected)
  }

  @Test(
    "JSON without prompts is refused",
    arguments: [
      "", "{", "[]", "[[]]", "[[1], []]", "7", #""1,2""#, "[1.5]", "[1, [2]]", "[[1], 2]", "[null]",
      #"{"ids": [1]}"#, "[[[1]]]", "[1e99]", "[99999999999999999999]",
    ])
  func noJSON(text: String) throws {
    let file = directory.path("tokens.json")
    try Data(text.utf8).write(to: URL(filePath: file))
    let result = try run(tiny, ["--tokens-file", file])
    #expect(result.status == 65 && result.error.contains("tokens.json"), "\(result)")
  }

  @Test func tokensAreReadFromTensors() throws {
    func tokens(_ type: String, _ shape: [Int], _ bytes: Data) throws -> [[Int]?] {
      let file = directory.path("\(UUID().uuidString).safetensors")
      var weights = WeightFile()
      weights.add("input_ids", type, shape, bytes)
      try weights.write(to: file)
      return try prompts(tiny, ["--tokens-file", file]).map { $0["tokens"] as? [Int] }
    }
    func data<T: BitwiseCopyable>(_ values: [T]) -> Data { values.withUnsafeBytes { Data($0) } }
    #expect(try tokens("I32", [3], data([1, 2, 3] as [Int32])) == [[1, 2, 3]])
    #expect(try tokens("I64", [2, 2], data([1, 2, 3, 4] as [Int64])) == [[1, 2], [3, 4]])
    #expect(try tokens("I64", [1, 3], data([1, 2, 3] as [Int64])) == [[1, 2, 3]])
    #expect(try tokens("U32", [3, 1], data([1, 2, 3] as [UInt32])) == [[1], [2], [3]])
    #expect(try tokens("I16", [1], data([7] as [Int16])) == [[7]])
  }

  @Test func tensorsThatAreNotTokensAreRefused() throws {
    func status(_ name: String, _ type: String, _ shape: [Int], _ bytes: Data) throws -> Int32 {
      let file = directory.path("\(UUID().uuidString).safetensors")
      var weights = WeightFile()
      weights.add(name, type, shape, bytes)
      try weights.write(to: file)
      return try run(tiny, ["--tokens-file", file]).status
    }
    #expect(try status("tokens", "I32", [1], Data(count: 4)) == 65)
    #expect(try status("input_ids", "F32", [1], Data(count: 4)) == 65)
    #expect(try status("input_ids", "I64", [], Data(count: 8)) == 65)
    #expect(try status("input_ids", "I64", [1, 1, 1], Data(count: 8)) == 65)
    #expect(try status("input_ids", "I64", [0], Data()) == 65)
    #expect(try status("input_ids", "I64", [2, 0], Data()) == 65)
    // An id beyond any vocabulary.
    #expect(try status("input_ids", "I32", [1], Data([255, 255, 255, 255])) == 64)
    try Data(count: 3).write(to: URL(filePath: directory.path("short.safetensors")))
    #expect(try run(tiny, ["--tokens-file", directory.path("short.safetensors")]).status == 65)
  }
}
