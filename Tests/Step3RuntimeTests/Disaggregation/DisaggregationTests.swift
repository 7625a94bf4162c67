import Checkpoint
import CheckpointTesting
import Foundation
import StoredWeights
import ShardPlanning
import Step3Model
import Step3Runtime
import TensorFormats
import Testing

/// A partition set run in separate processes, as in serving, gives the logits of the model that it was cut from.
@Suite("Disaggregation", .serialized)
struct DisaggregationTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let fixture: String
    let layout: ShardPlan.AFDLayout

    var testDescription: String {
      "\(fixture) ep\(layout.ffnEP) tp\(layout.ffnTP) attention-tp\(layout.attentionTP) router \(layout.router)"
    }
  }

  static let cases: [Case] = {
    var cases: [Case] = []
    for (fixture, attention) in [("tiny", 2), ("odd", 5)] {
      for router in RouterSide.allCases {
        for ep in [1, 2, 4] {
          for tp in [1, 2] {
            for attentionTP in [1, attention] {
              let layout = ShardPlan.AFDLayout(
                ffnEP: ep, ffnTP: tp, attentionTP: attentionTP, router: router)
              cases.append(Case(fixture: fixture, layout: layout))
            }
          }
        }
      }
    }
    for (ep, tp) in [(1, 1), (1, 2), (2, 1)] {
      cases.append(Case(fixture: "tiny-fp8", layout: .init(ffnEP: ep, ffnTP: tp, attentionTP: 2)))
    }
    return cases
  }()

  @Test("in processes and as one checkpoint, logits are within 2e-4 of the reference", arguments: cases)
  func matchesReference(_ test: Case) async throws {
    let parts = try await PartitionFixture(test.fixture, test.layout)
    let recorder = Recorder()
    let session = try parts.start(observer: recorder)
    #expect(session.ranks.count == test.layout.ffnRanks)
    #expect(session.attentionParts.count == test.layout.attentionTP)
    #expect(try parts.difference(session.model) < 2e-4)
    let text = session.model.text
    for layer in text.moeLayers {
      let chosen = try #require(recorder.routing(layer))
      let expected = try parts.prompts.flatMap { try $0.integers("router.\(layer).ids") }
      #expect(chosen.experts.map(Int.init) == expected)
      #expect(chosen.margins.count == chosen.tokenCount)
    }
    session.close()
    for rank in session.ranks { #expect(!isThere(try #require(rank.process))) }

    let whole = try TextModel(ModelWeights(Checkpoint.open(parts.path)), products: Products(threads: 2))
    #expect(try parts.difference(whole) < 2e-4)
  }

  @Test(
    "quantised parts give the logits of the unpartitioned conversion",
    arguments: [
      (Checkpoint.Format.gguf, "Q8_0", 2, 2), (.gguf, "Q8_0", 4, 1), (.safetensors, "FP8_BLOCK", 2, 1),
    ])
  func quantised(_ format: Checkpoint.Format, _ recipe: String, _ ep: Int, _ tp: Int) async throws {
    let layout = ShardPlan.AFDLayout(ffnEP: ep, ffnTP: tp, attentionTP: 2)
    let parts = try await PartitionFixture("tiny", layout, to: format, recipe: recipe)
    let whole = parts.directory.path("whole")
    try await parts.convert(.none, to: format, recipe, into: whole)
    let expected = try parts.localLogits(whole)
    let session = try parts.start()
    defer { session.close() }
    #expect(largestDifference(try parts.logits(session.model), expected) < 2e-4)
    #expect(largestDifference(try parts.localLogits(parts.path), expected) < 2e-4)
    // Really quantised: the logits differ from the reference's.
    #expect(try parts.difference(session.model) > 1e-3)
  }

  @Test(
    "a rounding wire gives the logits of rounding the same values in process",
    arguments: [
      ("tiny", TokenWireFormat.f32, ResultWireFormat.bf16, 0.01), ("tiny", .bf16, .f32, 0.03),
      ("tiny", .bf16, .bf16, 0.03), ("tiny", .fp8, .f32, 0.2), ("tiny", .fp8, .bf16, 0.2),
      ("odd", .fp8, .bf16, 0.2), ("odd", .bf16, .bf16, 0.03),
    ])
  func wires(
    _ fixture: String, _ tokens: TokenWireFormat, _ results: ResultWireFormat, _ bound: Double
  ) async throws {
    let parts = try await PartitionFixture(fixture, .init(ffnEP: 2, ffnTP: 2))
    let session = try parts.start {
      $0.tokens = tokens
      $0.results = results
    }
    defer { session.close() }
    let found = try parts.logits(session.model)
    let emulation = try RoundingFeedForward(
      session.ranks.map { parts.part($0.part) }, tokens: tokens, results: results)
    let emulated = try TextModel(
      session.model.weights, products: Products(threads: 1), feedForward: emulation)
    #expect(largestDifference(found, try parts.logits(emulated)) < 2e-4)

    // Relative to the reference: the error's root mean square over that of the logits.
    let expected = try parts.prompts.flatMap { try $0.floats("logits") }
    var (errors, values) = (0.0, 0.0)
    for (value, other) in zip(expected, found.array) {
      errors += Double(value - other) * Double(value - other)
      values += Double(value) * Double(value)
    }
    let relative = (errors / values).squareRoot()
    #expect(relative < bound)
    // Rounding did take place.
    #expect(relative > 1e-4)
  }

  @Test("a batch split into several messages gives the same logits")
  func pieces() async throws {
    for router in RouterSide.allCases {
      let parts = try await PartitionFixture("tiny", .init(ffnEP: 2, router: router))
      let recorder = Recorder()
      let session = try parts.start(
        { $0.maximumMessageBytes = 10_000 }, observer: recorder)
      defer { session.close() }
      #expect(try parts.difference(session.model) < 2e-4)
      #expect(recorder.routing(1)?.tokenCount == 71)
      // 71 tokens by 9.
      let traffic = session.traffic
      #expect(traffic.map(\.part) == ["ffn-ep0", "ffn-ep1"])
      for entry in traffic {
        #expect(entry.bytesReceived > 4 * 71 * 256 * 4 && entry.weightBytesRead > 0)
      }
    }
  }

  @Test("decoding token by token with a KV cache gives the logits of the whole text")
  func cached() async throws {
    let parts = try await PartitionFixture("odd", .init(ffnEP: 2, ffnTP: 2, attentionTP: 5))
    let session = try parts.start()
    defer { session.close() }
    let prompt = try parts.prompts[0]
    let cache = KeyValueCache(layerCount: session.model.text.layerCount, sequenceCount: 1)
    let expected = try prompt.floats("logits")
    for (position, token) in try prompt.integers("input_ids").enumerated() {
      let batch = TokenBatch([[token]], firstPositions: [position])
      let hidden = try session.model.embed(batch)
      for layer in 0..<session.model.text.layerCount {
        try session.model.run(layer: layer, hidden, batch, cache: cache)
      }
      let logits = try session.model.logits(session.model.finalNorm(hidden)).array
      let row = expected[position * logits.count..<(position + 1) * logits.count]
      #expect(zip(row, logits).allSatisfy { abs($0 - $1) < 2e-4 })
    }
  }

  @Test("some parts of a set open as one checkpoint, without the others")
  func someParts() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2, attentionTP: 2))
    try FileManager.default.removeItem(atPath: parts.part("ffn-ep0/model.safetensors"))
    let attention = try Checkpoint.open(parts.path, parts: ["attention-tp0", "attention-tp1"])
    #expect(attention.parts.map(\.name) == ["attention-tp0", "attention-tp1"])
    let weights = try ModelWeights(attention)
    let queries = try #require(weights["model.layers.0.self_attn.wq.weight"])
    #expect(queries.pieces.count == 2 && queries.isComplete)
    #expect(weights["model.layers.0.mlp.gate_proj.weight"] == nil)
    for (names, code) in [
      (["attention-tp0", "ffn-ep2"], CheckpointError.Code.notFound), (["../parts"], .notFound),
      ([], .invalidRequest), (["ffn-ep0"], .notFound),
    ] {
      let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(parts.path, parts: names) }
      #expect(error?.code == code, "\(names)")
    }
  }

  @Test("the vision part is opened only on request")
  func vision() async throws {
    let parts = try await PartitionFixture("tiny", .init())
    try FileManager.default.moveItem(atPath: parts.part("vision"), toPath: parts.directory.path("vision"))
    try parts.start().close()
    try FileManager.default.moveItem(atPath: parts.directory.path("vision"), toPath: parts.part("vision"))
    let session = try parts.start()
    defer { session.close() }
    #expect(session.visionPart == "vision")
    let weights = try #require(try session.visionWeights())
    #expect(weights["vit_large_projector.weight"] != nil)
  }

  #if os(Linux)
  @Test("every process has only its own part open")
  func openFiles() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2, ffnTP: 2, attentionTP: 2))
    let session = try parts.start()
    defer { session.close() }
    _ = try parts.logits(session.model)
    func open(_ process: String) throws -> Set<String> {
      let directory = "/proc/\(process)/fd"
      let links = try FileManager.default.contentsOfDirectory(atPath: directory).compactMap {
        try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/\($0)")
      }
      let root = URL(filePath: parts.path).resolvingSymlinksInPath().path + "/"
      return Set(links.filter { $0.hasPrefix(root) }.map { String($0.dropFirst(root.count)) })
    }
    for rank in session.ranks {
      let files = try open(String(try #require(rank.process)))
      #expect(files == ["\(rank.part)/model.safetensors"], "\(rank.part)")
    }
    #expect(try open("self") == ["attention-tp0/model.safetensors", "attention-tp1/model.safetensors"])
  }
  #endif

  @Test("a directory path longer than a socket name may be works")
  func longPath() async throws {
    let parts = try await PartitionFixture("tiny", .init(ffnEP: 2))
    let long = parts.directory.path(String(repeating: "long", count: 40))
    try FileManager.default.createDirectory(atPath: long, withIntermediateDirectories: true)
    try FileManager.default.moveItem(atPath: parts.path, toPath: "\(long)/parts")
    let session = try AFDSession.start(
      "\(long)/parts",
      options: {
        var options = AFDOptions(threads: 1)
        options.workerExecutable = $0
        return options
      }(try workerExecutable()))
    defer { session.close() }
    #expect(try parts.difference(session.model) < 2e-4)
    // Only the parts are there: no socket, no log.
    let names = try FileManager.default.contentsOfDirectory(atPath: "\(long)/parts")
    #expect(Set(names) == ["attention", "ffn-ep0", "ffn-ep1", "vision", "manifest.json"])
  }
}
