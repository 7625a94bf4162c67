import Checkpoint
import CheckpointTesting
import Foundation
import StoredWeights
import Step3Runtime
import Testing

/// Greedy continuations against those of the published modeling code.
@Suite("Generation")
struct GenerationTests {
  private struct Meta: Decodable {
    struct Prompt: Decodable { let greedy_8: [Int] }
    let prompts: [String: Prompt]
  }

  @Test(
    "greedy generation through the KV cache matches the published modeling code",
    arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"])
  func continuesGreedily(_ model: String) throws {
    let path = Fixtures.path("checkpoints/\(model)")
    let meta = try JSONDecoder().decode(
      Meta.self, from: Data(contentsOf: URL(filePath: "\(path)/reference/meta.json")))
    let names = model.hasSuffix("fp8") ? TextModelTests.fewPrompts : TextModelTests.prompts
    let prompts = try names.map {
      try ReferenceOutput("\(path)/reference/\($0).safetensors").integers("input_ids")
    }
    let runner = try ModelRunner(
      ModelWeights(Checkpoint.open(path)), options: RuntimeOptions(threads: 2, memory: 1 << 30))
    let continuations = try runner.generate(prompts, count: 8)
    for (name, continuation) in zip(names, continuations) {
      #expect(continuation == meta.prompts[name]?.greedy_8, "\(name)")
    }
  }

  @Test("an end token ends only its own prompt")
  func stops() throws {
    let path = Fixtures.path("checkpoints/tiny")
    let runner = try ModelRunner(
      ModelWeights(Checkpoint.open(path)), options: RuntimeOptions(threads: 1, memory: 1 << 30))
    let prompts = try ["text_007", "text_033"].map {
      try ReferenceOutput("\(path)/reference/\($0).safetensors").integers("input_ids")
    }
    let whole = try runner.generate(prompts, count: 6)
    let stopped = try runner.generate(prompts, count: 6, stop: [whole[0][2]])
    #expect(stopped[0] == Array(whole[0][...2]))
    #expect(stopped[1] == whole[1])
  }

  @Test("the number of threads changes nothing")
  func threadsDoNotMatter() throws {
    let path = Fixtures.path("checkpoints/odd")
    let prompt = try ReferenceOutput("\(path)/reference/text_033.safetensors").integers("input_ids")
    let results = try [1, 3].map { threads in
      let runner = try ModelRunner(
        ModelWeights(Checkpoint.open(path)), options: RuntimeOptions(threads: threads, memory: 1 << 30))
      let batch = TokenBatch([prompt])
      return try runner.model.logits(runner.run(batch)).array
    }
    let differing = zip(results[0], results[1]).count { $0.bitPattern != $1.bitPattern }
    #expect(differing == 0)
  }

  @Test("a batch beyond the memory budget is refused with the size that would fit")
  func refusesTooMuch() throws {
    let runner = try ModelRunner(
      ModelWeights(Checkpoint.open(Fixtures.path("checkpoints/tiny"))),
      options: RuntimeOptions(threads: 1, memory: 1 << 20))
    let error = #expect(throws: (any Error).self) { try runner.run(TokenBatch([[1, 2, 3]])) }
    #expect("\(error.map { "\($0)" } ?? "")".contains("give --memory"))
  }
}
