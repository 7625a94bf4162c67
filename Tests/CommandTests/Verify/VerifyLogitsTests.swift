import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import ShardPlanning
import Testing

/// `step3-verify logits`
@Suite("step3-verify logits") struct VerifyLogitsTests {
  private let directory: TemporaryDirectory
  private let tiny = Fixtures.path("checkpoints/tiny")
  private let text: String

  init() throws {
    directory = try TemporaryDirectory()
    text = "\(tiny)/reference/text_064.safetensors"
  }

  private func logits(_ candidate: String, _ reference: String, _ arguments: [String]) throws -> ToolResult {
    try runTool("step3-verify", ["logits", candidate, "--reference", reference] + arguments)
  }

  /// Changes bytes of a tensor in place.
  private func damage(_ checkpoint: String, _ name: String, _ change: (inout Data) -> Void) throws {
    let opened = try Checkpoint.open(checkpoint)
    let tensor = try #require(opened[name])
    let url = URL(filePath: opened.files[tensor.file].source.path)
    var data = try Data(contentsOf: url)
    var bytes = Data(data[tensor.byteRange])
    change(&bytes)
    data.replaceSubrange(tensor.byteRange, with: bytes)
    try data.write(to: url)
  }

  @Test func everyMeasureIsReported() async throws {
    let output = directory.path("q8")
    try await convert("tiny", to: .gguf, recipe: "Q8_0", into: output)
    let arguments = ["--tokens-file", text, "--max-kl", "0.3", "--min-top1", "0.75", "--min-top5", "0.75"]
    let result = try logits(
      output, tiny,
      arguments + [
        "--max-mean-kl", "0.01", "--max-abs", "3", "--min-expert-agreement", "0.9", "--bisect", "--json",
      ])
    #expect(result.status == 0 && result.error.isEmpty, "\(result)")
    let json = try result.json()
    #expect(json["ok"] as? Bool == true && json["tokens"] as? Int == 64)
    let measured = try #require(json["kl"] as? [String: Any])
    #expect(Set(measured.keys) == ["mean", "standardError", "median", "p99", "max", "perToken"])
    // One sequence gives no standard error.
    #expect(isAbsent(measured["standardError"]))
    let kl = measured.compactMapValues { $0 as? Double }
    let (median, p99, largest) = (kl["median"] ?? 0, kl["p99"] ?? 0, kl["max"] ?? 0)
    #expect(0 < median && median < p99 && p99 < largest && largest < 0.3)
    let perplexity = try #require(json["perplexity"] as? [String: Any])
    let (before, after) = (perplexity["reference"] as? Double ?? 0, perplexity["candidate"] as? Double ?? 0)
    let difference = try #require(perplexity["difference"] as? [String: Any])
    #expect(before != after && abs((difference["value"] as? Double ?? 0) - (after - before)) < 1e-9)
    #expect(isAbsent(difference["standardError"]))
    let layers = try #require(json["expertAgreement"] as? [[String: Any]])
    #expect(layers.compactMap { $0["layer"] as? Int } == [1, 2])
    let checks = try #require(json["checks"] as? [[String: Any]])
    #expect(checks.count == 6 && checks.allSatisfy { $0["ok"] as? Bool == true })
    #expect(json["maxAbsError"] as? Double ?? 0 > json["meanAbsError"] as? Double ?? 1)
    #expect(json["bytesRead"] as? Int ?? 0 > 1_000_000 && json["top5Overlap"] as? Double ?? 0 > 0.75)
    let bisection = try #require(json["bisection"] as? [String: Any])
    #expect(bisection["ok"] as? Bool == true && isAbsent(bisection["firstLayer"]))
    #expect((bisection["layers"] as? [[String: Any]])?.count == 4)
    // As text and without bisection: nothing failed.
    let plain = try logits(output, tiny, arguments)
    #expect(plain.status == 0 && plain.output.hasSuffix(": every limit holds\n"))
    #expect(plain.output.contains("ok: max-kl: ") && !plain.output.contains("no fault"))
    let unlimited = try logits(output, tiny, ["--tokens", "1,2", "--bisect"])
    #expect(unlimited.status == 0 && unlimited.output.contains("no fault: settings are the same"))
    #expect(unlimited.output.hasSuffix("no limit was given, so nothing was checked\n"))
  }

  @Test func aFaultIsCaughtAndNamed() async throws {
    let output = directory.path("q4")
    try await convert("tiny", to: .gguf, recipe: "Q4_K", into: output)
    #expect(try logits(output, tiny, ["--tokens-file", text, "--max-mean-kl", "0.42"]).status == 0)
    try damage(output, "blk.0.ffn_norm.weight") { bytes in
      for index in bytes.indices { bytes[index] = [0, 0, 0x80, 0x3F][(index - bytes.startIndex) % 4] }
    }
    let result = try logits(output, tiny, ["--tokens-file", text, "--max-mean-kl", "0.42"])
    #expect(result.status == 1)
    #expect(result.output.contains("FAILED: max-mean-kl: "))
    #expect(
      result.output.contains("first layer with a fault: 0\nmodel.layers.0.post_attention_layernorm.weight: "))
    #expect(result.output.hasSuffix("a limit does not hold; there is a fault\n"))
    let json = try logits(output, tiny, ["--tokens-file", text, "--max-mean-kl", "0.42", "--json"]).json()
    #expect(json["ok"] as? Bool == false)
    let bisection = try #require(json["bisection"] as? [String: Any])
    #expect(bisection["firstLayer"] as? Int == 0)
    #expect(bisection["firstTensor"] as? String == "model.layers.0.post_attention_layernorm.weight")
    #expect((bisection["tensors"] as? [[String: Any]])?.count == 1)
  }

  @Test func aFaultBelowTheLimitPasses() async throws {
    let output = directory.path("q8")
    try await convert("tiny", to: .gguf, recipe: "Q8_0", into: output)
    // Two rows of the output matrix, of unlikely tokens.
    try damage(output, "output.weight") { bytes in
      let row = 256 / 32 * 34
      for index in 0..<row {
        bytes.swapAt(bytes.startIndex + 17 * row + index, bytes.startIndex + 400 * row + index)
      }
    }
    let arguments = ["--tokens", "5", "--max-mean-kl", "1"]
    #expect(try logits(output, tiny, arguments).status == 0)
    let result = try logits(output, tiny, arguments + ["--bisect"])
    #expect(result.status == 1 && result.output.contains("\nlm_head.weight: "))
    #expect(result.output.hasSuffix("every limit holds; there is a fault\n"))
    let json = try logits(output, tiny, arguments + ["--bisect", "--json"]).json()
    #expect(json["ok"] as? Bool == false && isAbsent((json["bisection"] as? [String: Any])?["firstLayer"]))
    #expect((json["checks"] as? [[String: Any]])?.first?["ok"] as? Bool == true)
  }

  @Test func aDifferentSettingIsNamed() throws {
    let output = directory.path("copy")
    try FileManager.default.copyItem(atPath: tiny, toPath: output)
    let url = URL(filePath: "\(output)/config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    try text.replacing("\"rope_theta\": 500000.0", with: "\"rope_theta\": 1000.0").write(
      to: url, atomically: true, encoding: .utf8)
    let result = try logits(output, tiny, ["--tokens-file", self.text, "--max-kl", "1e-6"])
    #expect(result.status == 1)
    #expect(
      result.output.contains(
        "config.json: rope_theta: 500000.0 in the reference, 1000.0 in the candidate\n"))
  }

  @Test func aCandidateWithNonFiniteLogitsFails() throws {
    let output = directory.path("copy")
    try FileManager.default.copyItem(atPath: tiny, toPath: output)
    try damage(output, "model.layers.1.self_attn.o_proj.weight") { bytes in
      bytes[bytes.startIndex + 1] = 0x7F
      bytes[bytes.startIndex] = 0xC0
    }
    let result = try logits(output, tiny, ["--tokens", "1,2,3", "--max-kl", "1"])
    #expect(result.status == 1, "\(result)")
    #expect(result.output.contains("FAILED: ") && result.output.contains("layer 1"))
    #expect(result.output.contains("\nmodel.layers.1.self_attn.o_proj.weight: "))
    let json = try logits(output, tiny, ["--tokens", "1,2,3", "--json"]).json()
    #expect(json["ok"] as? Bool == false && json["failure"] is String)
    #expect((json["bisection"] as? [String: Any])?["firstLayer"] as? Int == 1)
    // Where the reference gives no numbers, it is not the candidate that fails.
    #expect(try logits(tiny, output, ["--tokens", "1,2,3"]).status == 65)
  }

  @Test func aCandidateWithoutATensorFails() throws {
    let output = directory.path("copy")
    try FileManager.default.copyItem(atPath: tiny, toPath: output)
    // Renamed to a name that is never looked up.
    for file in try FileManager.default.contentsOfDirectory(atPath: output) {
      let url = URL(filePath: "\(output)/\(file)")
      guard url.pathExtension == "safetensors" || url.pathExtension == "json" else { continue }
      try Data(contentsOf: url).replacing(
        Data("layers.1.input_layernorm.weight".utf8), with: Data("layers.1.input_layernorn.weight".utf8)
      ).write(to: url)
    }
    let result = try logits(output, tiny, ["--tokens", "1,2,3", "--max-kl", "1"])
    #expect(result.status == 1, "\(result)")
    #expect(result.output.contains("first layer with a fault: 1\nmodel.layers.1.input_layernorm.weight: "))
    #expect(try logits(tiny, output, ["--tokens", "1,2,3"]).status == 66)
  }

  @Test("a partition set matches, merged and run in separate processes", arguments: [false, true])
  func partitionSet(served: Bool) async throws {
    let output = directory.path("set")
    try await convert("tiny", to: .safetensors, partition: .afd(.init(ffnEP: 2)), into: output)
    let result = try logits(
      output, tiny,
      [
        "--tokens-file", text, "--max-abs", "1e-4", "--max-kl", "1e-8", "--min-expert-agreement", "1",
        "--json",
      ]
        + (served ? ["--afd"] : ["--bisect"]))
    #expect(result.status == 0, "\(result)")
    #expect(try logits(output, tiny, ["--tokens", "1", "--afd", "--bisect"]).status == 64)
  }

  // MARK: Files of logits

  @Test func logitsOfAFileAreTheReference() throws {
    // The file's own tokens are used.
    let result = try logits(
      tiny, text, ["--max-abs", "2e-4", "--max-kl", "1e-8", "--min-top1", "1", "--json"])
    #expect(result.status == 0, "\(result)")
    let json = try result.json()
    #expect(json["tokens"] as? Int == 64 && isAbsent(json["bisection"]))
    #expect((json["expertAgreement"] as? [Any])?.isEmpty == true)
    // A dump is itself a file of logits.
    let dump = directory.path("dump.safetensors")
    #expect(try logits(tiny, text, ["--dump", dump]).status == 0)
    let exact = try logits(tiny, dump, ["--max-abs", "0", "--max-kl", "0"])
    #expect(exact.status == 0, "\(exact)")
    #expect(try logits(tiny, text, ["--dump", dump]).status == 73)
    // Without weights there is nothing to bisect, but a limit can still fail.
    let other = try logits(Fixtures.path("checkpoints/tiny-fp8"), text, ["--max-abs", "1e-4"])
    #expect(other.status == 1 && other.output.hasSuffix("a limit does not hold\n"))
    #expect(try logits(tiny, text, ["--bisect"]).status == 64)
    #expect(try logits(tiny, text, ["--min-expert-agreement", "0.5"]).status == 64)
  }

  @Test func numPyFilesAreRead() throws {
    let ids = try TensorFile(text).integers("input_ids").map(String.init).joined(separator: ",")
    let file = directory.path("logits.npy")
    var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (64, 512), }"
    header += String(repeating: " ", count: 117 - header.utf8.count) + "\n"
    var data = Data([0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0]) + Data(header.utf8)
    data += try TensorFile(text).floats("logits").withUnsafeBytes { Data($0) }
    try data.write(to: URL(filePath: file))
    let result = try logits(tiny, file, ["--tokens", ids, "--max-abs", "2e-4"])
    #expect(result.status == 0, "\(result)")
    let without = try logits(tiny, file, [])
    #expect(without.status == 64 && without.error.contains("there are no tokens to run"))
    let few = try logits(tiny, file, ["--tokens", "1,2"])
    #expect(few.status == 64 && few.error.contains("has logits for 64 tokens"))
    #expect(few.error.contains("give the tokens that the logits were computed for"))
    try data.dropLast().write(to: URL(filePath: file))
    #expect(try logits(tiny, file, ["--tokens", ids]).status == 65)
  }

  @Test func filesThatDoNotMatchAreRefused() throws {
    let tokens = try logits(tiny, text, ["--tokens", "1,2"])
    #expect(tokens.status == 64 && tokens.error.contains("leave the tokens out"))
    let same = try logits(
      tiny, text, ["--tokens", [String](repeating: "3", count: 64).joined(separator: ",")])
    #expect(same.status == 64 && same.error.contains("which are not the 64 given"))
    let vocabulary = try logits(tiny, Fixtures.path("logits/f4-v1.npy"), ["--tokens", "1,2,3"])
    #expect(
      vocabulary.status == 64
        && vocabulary.error.contains("has a vocabulary of 5 tokens, the candidate one of 512"))
    #expect(try logits(tiny, Fixtures.path("logits/big-endian.npy"), ["--tokens", "1,2,3"]).status == 65)
    #expect(try logits(tiny, directory.path("none.npy"), ["--tokens", "1"]).status == 66)
    #expect(try logits(tiny, directory.path("none"), ["--tokens", "1"]).status == 66)
    #expect(try logits(directory.path("none"), tiny, ["--tokens", "1"]).status == 66)
    // A malformed file of logits is reported as a file of logits.
    var file = WeightFile()
    file.add("logits", "F32", [2, 512], Data(count: 4096))
    file.add("input_ids", "I64", [1], Data(count: 8))
    try file.write(to: directory.path("logits.safetensors"))
    let rows = try logits(tiny, directory.path("logits.safetensors"), [])
    #expect(rows.status == 65 && rows.error.contains("2 rows of logits for 1 tokens"))
  }

  @Test(
    "wrong usage exits with 64",
    arguments: [
      [], ["--tokens", "1", "--max-kl", "-1"], ["--tokens", "1", "--max-kl", "nan"],
      ["--tokens", "1", "--min-top1", "2"], ["--tokens", "1", "--min-expert-agreement", "1.01"],
      ["--tokens", "1", "--max-abs", "x"], ["--tokens", "600"],
    ])
  func usage(arguments: [String]) throws {
    let result = try logits(tiny, tiny, arguments)
    #expect(result.status == 64 && result.output.isEmpty && !result.error.isEmpty, "\(result)")
  }

  @Test func modelsThatDoNotMatchAreRefused() throws {
    let result = try logits(Fixtures.path("checkpoints/odd"), tiny, ["--tokens", "1"])
    #expect(result.status == 64 && result.error.contains("has a vocabulary of 512 tokens"), "\(result)")
    #expect(try runTool("step3-verify", ["logits", tiny, "--tokens", "1"]).status == 64)
  }

  @Test func moreTokensThanMemoryAllowsAreRefused() throws {
    let file = directory.path("many.json")
    try JSONEncoder().encode([Int](repeating: 7, count: 30_000)).write(to: URL(filePath: file))
    let result = try logits(tiny, tiny, ["--tokens-file", file, "--memory", "64MiB"])
    #expect(result.status == 64 && result.error.contains("give --memory"))
  }
}
