import Checkpoint
import CheckpointTesting
import Foundation
import StoredWeights
import Step3Model
import Step3Runtime
import TensorFormats
import Testing
import Verification

/// A mistake that converters make, and where it must be found.
struct Fault: Sendable {
  let name: String
  /// The layer that must be named.
  var layer: Int?
  /// The tensors that must be named, in this order.
  var tensors: [Step3TensorName] = []
  /// The setting that must be named.
  var setting: String?
  /// The formats whose own errors hide the fault in the logits of 64 tokens; bisection still finds it.
  var drownsIn: Set<String> = []
  /// Plants the fault in a checkpoint; `false` if its format cannot have it.
  let plant: @Sendable (Victim) throws -> Bool

  static let expert = 3
  private static let lossy: Set<String> = ["Q8_0", "Q4_K", "FP8_BLOCK"]
  private static func layer(_ module: Step3Module, _ layer: Int) -> Step3TensorName {
    Step3TensorName(module, layer: layer)
  }

  static let all: [Fault] = experts + scales + norms + attention + ends + settings

  static let experts: [Fault] =
    [.expertGate, .expertUp, .expertDown].map { module in
      Fault(name: "rows of an expert's \(module) in reverse", layer: 1, tensors: [layer(module, 1)]) {
        try $0.edit(layer(module, 1)) { $0.reverseRows(matrix: expert) }
        return true
      }
    } + [
      Fault(
        name: "two rows of an expert exchanged", layer: 2, tensors: [layer(.expertDown, 2)],
        drownsIn: lossy
      ) {
        try $0.edit(layer(.expertDown, 2)) { $0.exchangeRows(expert * 256 + 5, expert * 256 + 77) }
        return true
      },
      Fault(
        name: "gate and up exchanged", layer: 2, tensors: [layer(.expertGate, 2), layer(.expertUp, 2)]
      ) {
        try $0.exchange(layer(.expertGate, 2), layer(.expertUp, 2))
        return true
      },
      Fault(
        name: "gate and up of a dense layer exchanged", layer: 3,
        tensors: [layer(.denseGate, 3), layer(.denseUp, 3)]
      ) {
        try $0.exchange(layer(.denseGate, 3), layer(.denseUp, 3))
        return true
      },
      Fault(
        name: "two experts exchanged", layer: 1,
        tensors: [layer(.expertGate, 1), layer(.expertUp, 1), layer(.expertDown, 1)]
      ) { victim in
        for module in [Step3Module.expertGate, .expertUp, .expertDown] {
          try victim.editAll(layer(module, 1)) { $0.exchangeMatrices(expert, 6) }
        }
        return true
      },
      Fault(name: "two rows of a router exchanged", layer: 2, tensors: [layer(.router, 2)]) {
        try $0.edit(layer(.router, 2)) { $0.exchangeRows(1, 4) }
        return true
      },
    ]

  static let scales: [Fault] = [
    Fault(
      name: "an expert's scale doubled", layer: 1, tensors: [layer(.expertDown, 1)], drownsIn: lossy
    ) { try $0.doubleScale(layer(.expertDown, 1), matrix: expert) },
    Fault(
      name: "a scale of attention doubled", layer: 2, tensors: [layer(.attentionOutput, 2)],
      drownsIn: ["Q8_0", "Q4_K"]
    ) { try $0.doubleScale(layer(.attentionOutput, 2)) },
  ]

  static let norms: [Fault] = [
    layer(.inputNorm, 1), layer(.queryNorm, 2), layer(.postAttentionNorm, 0), layer(.postAttentionNorm, 2),
    Step3TensorName(.outputNorm),
  ].map { norm in
    Fault(
      name: "\(ModelDescription.step3.published(norm)) left out", layer: norm.layer, tensors: [norm],
      drownsIn: norm.module == .queryNorm ? lossy : []
    ) {
      try $0.edit(norm) { $0.fillWithOnes() }
      return true
    }
  }

  static let attention: [Fault] = [
    Fault(
      name: "q and k in the order of the other rotary embedding", layer: 2,
      tensors: [layer(.queryUp, 2), layer(.key, 2)], drownsIn: ["Q4_K"]
    ) {
      for module in [Step3Module.queryUp, .key] { try $0.edit(layer(module, 2)) { $0.interleave(head: 64) } }
      return true
    },
    Fault(name: "q alone in that order", layer: 0, tensors: [layer(.queryUp, 0)]) {
      try $0.edit(layer(.queryUp, 0)) { $0.interleave(head: 64) }
      return true
    },
    Fault(name: "two layers exchanged", layer: 1, tensors: [layer(.value, 1)]) {
      try $0.exchange(layer(.value, 1), layer(.value, 2))
      return true
    },
  ]

  static let ends: [Fault] = [
    Fault(
      name: "two rows of the embedding exchanged", tensors: [Step3TensorName(.tokenEmbedding)],
      drownsIn: lossy
    ) {
      try $0.edit(Step3TensorName(.tokenEmbedding)) { $0.exchangeRows(411, 27) }
      return true
    },
    Fault(name: "two rows of lm_head exchanged", tensors: [Step3TensorName(.lmHead)], drownsIn: lossy) {
      try $0.edit(Step3TensorName(.lmHead)) { $0.exchangeRows(17, 400) }
      return true
    },
    Fault(name: "lm_head in reverse", tensors: [Step3TensorName(.lmHead)]) {
      try $0.edit(Step3TensorName(.lmHead)) { $0.reverseRows(matrix: 0) }
      return true
    },
  ]

  static let settings: [Fault] = [
    Fault(name: "rope_theta", setting: "rope_theta: 500000.0 in the reference, 10000.0 in the candidate") {
      try $0.set(
        "rope_theta", "500000.0", to: "10000.0", gguf: "step3.rope.freq_base",
        bytes: withUnsafeBytes(of: Float(10_000)) { Array($0) })
      return true
    },
    Fault(name: "norm_expert_weight", setting: "norm_expert_weight: false in the reference, true") {
      try $0.set(
        "norm_expert_weight", "false", to: "true", gguf: "step3.expert_weights_norm", bytes: [1])
      return true
    },
    Fault(name: "moe_top_k", setting: "moe_top_k: 3 in the reference, 2") {
      try $0.set("moe_top_k", "3", to: "2", gguf: "step3.expert_used_count", bytes: [2])
      return true
    },
  ]
}

/// Planted faults are caught by the logits and located by bisection; sound conversions pass.
@Suite struct FaultTests {
  static let source = Fixtures.path("checkpoints/tiny")

  /// The limits are just above the values of sound conversions: the fixture's weights are random, and the KL divergences of such a
  /// model are ten times those of a trained one.
  static let formats = [
    StoredAs(format: .safetensors, recipe: "keep", maxMeanKL: 1e-9),
    StoredAs(format: .gguf, recipe: "Q8_0", maxMeanKL: 0.01),
    StoredAs(format: .gguf, recipe: "Q4_K", maxMeanKL: 0.42),
    StoredAs(format: .safetensors, recipe: "FP8_BLOCK", maxMeanKL: 0.08),
  ]

  @Test("a planted fault is caught and located", arguments: formats)
  func everyFault(stored: StoredAs) async throws {
    let directory = try TemporaryDirectory()
    let sound = directory.path("sound")
    try await convert("tiny", stored.format, stored.recipe, into: sound)
    let prompt = try #require(
      LogitsFile("\(Self.source)/reference/text_064.safetensors").tokens)
    let limits = LogitsLimits(maxMeanKL: stored.maxMeanKL)
    let honest = try ForwardPair(sound, of: Self.source, [prompt]).logits(limits)
    #expect(honest.ok)
    for fault in Fault.all {
      let path = directory.path("spoilt")
      try FileManager.default.copyItem(atPath: sound, toPath: path)
      defer { try? FileManager.default.removeItem(atPath: path) }
      guard try fault.plant(Victim(path: path)) else { continue }
      let pair = try ForwardPair(path, of: Self.source, [prompt])
      let logits = try pair.logits(limits)
      if !fault.drownsIn.contains(stored.recipe) {
        #expect(!logits.ok, "\(fault.name): \(logits.kl.mean)")
      }
      let found = try await pair.bisect()
      #expect(!found.ok)
      if let setting = fault.setting {
        #expect(found.configuration.count == 1 && found.configuration[0].hasPrefix(setting), "\(fault.name)")
        #expect(found.tensors.isEmpty)
      } else {
        #expect(found.configuration.isEmpty)
        #expect(
          found.tensors.map(\.tensor) == fault.tensors.map(ModelDescription.step3.published), "\(fault.name)")
        #expect(found.firstLayer == fault.layer, "\(fault.name)")
        if stored.recipe == "keep" { expectOnly(fault, standsOutIn: found) }
      }
    }
  }

  /// In lossless formats, hidden states show the stage with the fault and none before it. Routers are not compared: the
  /// experts are the reference's.
  private func expectOnly(_ fault: Fault, standsOutIn found: BisectionReport) {
    let isRouter = fault.tensors.contains { $0.module == .router }
    #expect(found.layers.first { !$0.ok }?.layer == (isRouter ? nil : fault.layer), "\(fault.name)")
    #expect((found.embedding?.ok == false) == fault.tensors.contains(Step3TensorName(.tokenEmbedding)))
    let isLast = fault.tensors.contains { $0.module == .lmHead || $0.module == .outputNorm }
    #expect((found.output?.ok == false) == isLast, "\(fault.name)")
  }
}
