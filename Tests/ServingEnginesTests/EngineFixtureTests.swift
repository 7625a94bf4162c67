import ByteStreams
import Checkpoint
import CheckpointTesting
import JSON
import ServingEngines
import Foundation
import Step3Model
import TensorFormats
import Testing

@Suite("Checkpoints on disk")
struct EngineFixtureTests {
  private func report(_ fixture: String, _ engine: Engine) throws -> EngineReport {
    let checkpoint = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)"))
    return try EngineReport(EngineSubject(checkpoint), engine: engine)
  }

  @Test("The BF16 fixtures load, whatever their dimensions", arguments: ["tiny", "odd"], Engine.allCases)
  func plain(fixture: String, engine: Engine) throws {
    let report = try report(fixture, engine)
    #expect(report.ok && report.findings.isEmpty, "\(report.findings)")
  }

  /// In the fused module, keys and values of 64 rows each share a block of 128.
  @Test("Keys that do not begin on a block are misread by vLLM and refused by SGLang")
  func tinyFP8() throws {
    let vllm = try report("tiny-fp8", .vllm)
    #expect(vllm.faults == [.blockMisaligned])
    #expect(vllm.findings.map(\.severity) == [.silent])
    #expect(try report("tiny-fp8", .sglang).findings.map(\.severity) == [.error])
  }

  @Test("Widths that are not whole blocks are a fault", arguments: Engine.allCases)
  func oddFP8(engine: Engine) throws {
    let report = try report("odd-fp8", engine)
    #expect(report.faults == [.blockMisaligned])
    #expect(report.findings.contains { $0.tensor == "model.layers.0.moe" && $0.severity == .error })
    #expect(report.largestTP == nil)
  }

  @Test("The whole FP8 model loads on eight ranks, judged by its headers alone", arguments: Engine.allCases)
  func published(engine: Engine) throws {
    let directory = try TemporaryDirectory()
    var model = Step3Configuration.published
    model.quantization = .blockFP8
    try SparseCheckpoint.write(model, to: URL(fileURLWithPath: directory.path))
    let subject = try EngineSubject(Checkpoint.open(directory.path))
    #expect(subject.index != nil && subject.orphanShards.isEmpty)
    let report = try EngineReport(subject, engine: engine, tensorParallel: 8)
    #expect(report.ok && report.findings.isEmpty, "\(report.findings)")
    #expect(report.largestTP == 8)
    #expect(report.schemes.map(\.modules) == [56, 112, 10, 183, 1])
  }

  @Test("A shard that the index does not name is a warning")
  func orphan() throws {
    let directory = try TemporaryDirectory()
    let copy = "\(directory.path)/model"
    try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/tiny"), toPath: copy)
    try FileManager.default.copyItem(
      atPath: "\(copy)/model-00001-of-00004.safetensors", toPath: "\(copy)/old.safetensors")
    let report = try EngineReport(EngineSubject(Checkpoint.open(copy)), engine: .vllm)
    #expect(report.severity(.orphanShard) == .warning)
    #expect(report.ok)
  }

  @Test("GGUF is refused by both; another model is not judged")
  func otherFormats() throws {
    var subject = EngineSubject(
      path: "model.gguf", isGGUF: true, ggufArchitecture: "step3", tensors: [], files: [], configuration: nil)
    #expect(try EngineReport(subject, engine: .vllm).faults == [.gguf])
    #expect(try EngineReport(subject, engine: .sglang).faults == [.gguf])
    subject.ggufArchitecture = "llama"
    #expect { try EngineReport(subject, engine: .vllm) } throws: {
      ($0 as? CheckpointError)?.code == .unsupported
    }
    let other = EngineSubject(
      path: "model", tensors: [], files: [], configuration: Array(#"{"model_type":"llama"}"#.utf8))
    #expect { try EngineReport(other, engine: .sglang) } throws: {
      ($0 as? CheckpointError)?.code == .unsupported
    }
    let silent = EngineSubject(path: "model", tensors: [], files: [], configuration: nil)
    #expect { try EngineReport(silent, engine: .vllm) } throws: {
      ($0 as? CheckpointError)?.code == .unsupported
    }
  }

  @Test("A part of a partition set is refused")
  func partition() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.config.set(["step3_partition"], to: .object([:]))
    var subject = try checkpoint.subject()
    subject.isPartition = true
    for engine in Engine.allCases {
      let report = try EngineReport(subject, engine: engine)
      #expect(report.faults == [.partition])
      // The advice names an existing command.
      #expect(report.findings.first?.remedy.contains("step3-convert SET OUTPUT --to safetensors") == true)
    }
  }

  @Test("ModelOpt's own file is used where config.json says nothing", arguments: Engine.allCases)
  func modelOptFile(engine: Engine) throws {
    let directory = try TemporaryDirectory()
    let copy = "\(directory.path)/model"
    try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/tiny"), toPath: copy)
    let text =
      #"{"producer":{"name":"modelopt"},"quantization":{"quant_algo":"W4A16_NVFP4","group_size":16,"kv_cache_quant_algo":null,"exclude_modules":["lm_head"]}}"#
    try Data(text.utf8).write(to: URL(filePath: "\(copy)/hf_quant_config.json"))
    let report = try EngineReport(EngineSubject(Checkpoint.open(copy)), engine: engine)
    #expect(report.faults.contains(.moduleNotIgnored), "\(report.findings)")
    // A device error is not taken for a missing file.
    let failing = FailingStore(base: DirectoryStore(copy), name: "hf_quant_config.json", failsAt: nil)
    let checkpoint = try Checkpoint.open(in: failing)
    #expect { try EngineSubject(checkpoint) } throws: { ($0 as? CheckpointError)?.code == .inputOutput }
  }
}
