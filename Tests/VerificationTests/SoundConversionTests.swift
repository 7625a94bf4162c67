import Checkpoint
import CheckpointTesting
import Foundation
import ShardPlanning
import Step3Model
import Step3Runtime
import TensorFormats
import Testing
import Verification

/// Sound conversions raise no alarm, and lossless ones give the same logits.
@Suite struct SoundConversionTests {
  static let layouts: [ShardPlan.Partition] = [.none, .afd(ShardPlan.AFDLayout(ffnEP: 2))]

  @Test(
    "lossy conversions raise no false alarm, whatever the text",
    arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"],
    [
      StoredAs(format: .gguf, recipe: "Q8_0", maxMeanKL: 0.03),
      StoredAs(format: .gguf, recipe: "Q4_K", maxMeanKL: 0.6),
      StoredAs(format: .gguf, recipe: "F16", maxMeanKL: 1e-5),
      StoredAs(format: .safetensors, recipe: "FP8_BLOCK", maxMeanKL: 0.12),
    ])
  func lossy(fixture: String, stored: StoredAs) async throws {
    let directory = try TemporaryDirectory()
    let source = Fixtures.path("checkpoints/\(fixture)")
    try await convert(fixture, stored.format, stored.recipe, into: directory.path("output"))
    for seed in [11, 12, 13] as [UInt64] {
      let pair = try ForwardPair(
        directory.path("output"), of: source,
        [ForwardPair.prompt(seed: seed), ForwardPair.prompt(seed: seed + 100, count: 9)])
      let logits = try pair.logits(LogitsLimits(maxMeanKL: stored.maxMeanKL))
      #expect(logits.ok, "\(logits.kl)")
      #expect(logits.tokens == 33 && logits.expertAgreement.count > 0)
      let found = try await pair.bisect()
      #expect(found.ok && found.firstLayer == nil && found.firstTensor == nil)
      #expect(found.layers.allSatisfy(\.ok) && found.embedding?.ok == true && found.output?.ok == true)
    }
  }

  @Test(
    "lossless conversions give the reference's logits",
    arguments: ["tiny", "odd"],
    [
      StoredAs(format: .gguf, recipe: "F32", maxMeanKL: 1e-9),
      StoredAs(format: .gguf, recipe: "BF16", maxMeanKL: 1e-9),
      StoredAs(format: .safetensors, recipe: "keep", maxMeanKL: 1e-9),
    ])
  func lossless(fixture: String, stored: StoredAs) async throws {
    let directory = try TemporaryDirectory()
    let source = Fixtures.path("checkpoints/\(fixture)")
    for (number, partition) in (stored.format == .gguf ? [Self.layouts[0]] : Self.layouts).enumerated() {
      let output = directory.path("output\(number)")
      try await convert(fixture, stored.format, stored.recipe, partition, into: output)
      for name in ["text_007", "text_064"] {
        let file = try LogitsFile("\(source)/reference/\(name).safetensors")
        let pair = try ForwardPair(output, of: source, [try #require(file.tokens)])
        let published = try LogitsVerification(
          candidate: pair.candidate, reference: .file(file), input: pair.input
        ).run(limits: LogitsLimits(maxMeanKL: stored.maxMeanKL, maxAbs: 2e-4, minTop1: 1, minTop5: 1))
        #expect(published.ok, "\(published.checks)")
        #expect(published.expertAgreement.isEmpty)
        let own = try pair.logits()
        #expect(own.maxAbsError < 1e-5 && own.expertAgreement.allSatisfy { $0.agreement == 1 })
        #expect(own.perplexity.reference != nil)
        let found = try await pair.bisect()
        #expect(found.ok && found.layers.allSatisfy(\.ok))
      }
    }
  }

  @Test func picturesAreCompared() async throws {
    let directory = try TemporaryDirectory()
    let source = Fixtures.path("checkpoints/tiny")
    let reference = "\(source)/reference/image.safetensors"
    let pixels = try PixelValues(safetensors: reference)
    let tokens = try #require(LogitsFile(reference).tokens)
    let sound = directory.path("sound")
    try await convert("tiny", .gguf, "Q8_0", into: sound)
    let pair = try ForwardPair(sound, of: source, [tokens], pixels: pixels)
    let honest = try await pair.bisect()
    #expect(honest.ok && honest.vision?.ok == true)
    let before = try pair.logits().kl.mean
    let name = "vision_model.transformer.layers.1.self_attn.qkv_proj.weight"
    let weight = try #require(ModelDescription.step3.tensor(published: name))
    try Victim(path: sound).edit(weight) { $0.reverseRows(matrix: 0) }
    let spoilt = try ForwardPair(sound, of: source, [tokens], pixels: pixels)
    #expect(try spoilt.logits().kl.mean > before)
    let found = try await spoilt.bisect()
    #expect(found.vision?.ok == false && found.firstLayer == nil)
    #expect(found.tensors.map(\.tensor) == [name])
    // Text alone does not exercise the vision side.
    let text = try await ForwardPair(sound, of: source, [[5, 6, 7]]).bisect()
    #expect(text.ok && text.vision == nil)
  }
}
