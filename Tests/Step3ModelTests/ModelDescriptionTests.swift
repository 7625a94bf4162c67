import Checkpoint
import CheckpointTesting
import Foundation
import Step3Model
import TensorFormats
import Testing

@Suite("The table of modules")
struct ModelDescriptionTests {
  @Test("every module of the family has a row", arguments: ModelFamily.allCases)
  func rows(family: ModelFamily) throws {
    let model = family.model
    #expect(model.family == family)
    for row in model.modules {
      #expect(model[row.module]?.publishedName == row.publishedName)
      #expect(row.isVision == (row.side == .vision))
      // Expert weights are stacks, and members of a fusion have their own names.
      #expect((row.role == .routedExperts) == (row.expertAxis != nil))
      if let fusion = row.fusion {
        #expect(fusion.members.contains(row.ownName) && row.isLinear && !row.engineNames.isEmpty)
      }
    }
    #expect(Set(model.modules.map(\.module)).count == model.modules.count)
  }

  @Test("the vision side's names, and no others, begin with its prefixes", arguments: ModelFamily.allCases)
  func prefixes(family: ModelFamily) throws {
    let model = family.model
    for row in model.modules {
      let name = model.published(Step3TensorName(row.module, layer: row.scope == .global ? nil : 3))
      #expect(model.visionPrefixes.contains { name.hasPrefix($0) } == row.isVision, "\(name)")
    }
  }

  @Test("a fused module's members are found by its name")
  func fused() throws {
    let model = ModelDescription.step3
    let (queries, layer) = try #require(model.members(ofFused: "model.layers.7.self_attn.qkv_proj"))
    #expect(queries.map(\.module) == [.query, .key, .value] && layer == 7)
    let shared = try #require(model.members(ofFused: "model.layers.0.share_expert.gate_up_proj"))
    #expect(shared.modules.map(\.module) == [.sharedGate, .sharedUp])
    for name in [
      "model.layers.7.moe.gate_up_proj", "model.layers.07.self_attn.qkv_proj", "self_attn.qkv_proj",
      "vision_model.transformer.layers.7.self_attn.qkv_proj", "model.layers.7.self_attn.q_proj",
    ] {
      #expect(model.members(ofFused: name) == nil, "\(name)")
    }
  }

  // MARK: Another model

  /// A model like later members of the family: query heads that differ between layers, norms that are stored around
  /// zero, a router bias without a suffix, and prediction layers after the others.
  private static let further: ModelDescription = {
    typealias Module = ModelDescription.Module
    func row(
      _ module: Step3Module, _ name: String, _ gguf: String?, _ role: TensorRole,
      _ suffix: Step3TensorName.Suffix = .weight, offset: Float = 0,
      _ shape: @escaping @Sendable (Step3Configuration.Text, Int) -> [Int]?
    ) -> Module {
      Module(
        module: module, scope: .textLayer, publishedName: name, ggufName: gguf, role: role, side: .attention,
        tensors: [(suffix, { @Sendable configuration, layer in shape(configuration.text, layer) })],
        offset: offset)
    }
    return ModelDescription(
      family: .step3,
      textLayers: .init(published: "model.layers.", gguf: "blk.") { $0.text.layerCount + 2 },
      visionLayers: .init(published: "vision_model.transformer.resblocks.", gguf: "v.blk.") { _ in 0 },
      visionPrefixes: ["vision_model."],
      modules: [
        row(.inputNorm, "input_layernorm", "attn_norm", .norm, offset: 1) { text, _ in [text.hiddenSize] },
        row(.query, "self_attn.q_proj", "attn_q", .attention) { text, layer in
          [(layer % 4 == 0 ? 64 : 96) * text.headDimension, text.hiddenSize]
        },
        row(.router, "moe.router_bias", nil, .router, .none) { text, layer in
          text.isMoE(layer: layer) ? [text.expertCount] : nil
        },
        row(.projector, "eh_proj", "nextn.eh_proj", .other) { text, layer in
          layer < text.layerCount ? nil : [text.hiddenSize, 2 * text.hiddenSize]
        },
      ])
  }()

  @Test("the table can describe several kinds of layers, norms around zero and prediction layers")
  func furtherValue() throws {
    let model = Self.further
    var configuration = Step3Configuration(vision: nil)
    configuration.text.layerCount = 5
    configuration.text.moeLayers = [1, 2]
    let tensors = try Step3Inventory(configuration, of: model).tensors
    var shapes: [String: [Int]] = [:]
    for tensor in tensors {
      shapes[tensor.publishedName] = tensor.shape.dimensions
      #expect(model.tensor(published: tensor.publishedName) == tensor.name)
      if let name = tensor.ggufName { #expect(model.tensor(gguf: name) == tensor.name) }
    }
    #expect(shapes.count == 7 * 2 + 2 + 2 && shapes.count == tensors.count)
    #expect(shapes["model.layers.4.self_attn.q_proj.weight"] == [64 * 256, 7168])
    #expect(shapes["model.layers.5.self_attn.q_proj.weight"] == [96 * 256, 7168])
    #expect(
      shapes["model.layers.2.moe.router_bias"] == [48] && shapes["model.layers.3.moe.router_bias"] == nil)
    #expect(
      shapes["model.layers.6.eh_proj.weight"] == [7168, 2 * 7168]
        && shapes["model.layers.4.eh_proj.weight"] == nil)
    // Its values in GGUF have the offset added.
    #expect(model.gguf(Step3TensorName(.inputNorm, layer: 0)) == "blk.0.attn_norm.weight")
    #expect(model[.inputNorm]?.offset == 1)
    #expect(model.gguf(Step3TensorName(.query, layer: 0)) == "blk.0.attn_q.weight")
    // A suffix where none belongs, and a missing suffix.
    #expect(model.tensor(published: "model.layers.2.moe.router_bias.weight") == nil)
    #expect(model.tensor(published: "model.layers.2.self_attn.q_proj") == nil)
    #expect(model[.denseGate] == nil)
  }

  // MARK: One place

  @Test("only the table and the checks spell out published names")
  func spelledOnce() throws {
    let model = ModelDescription.step3
    let fusions = ModelDescription.Fusion.usual
    var names: Set<String> = []
    for row in model.modules { names.formUnion([row.publishedName, row.ownName] + row.engineNames) }
    for fusion in fusions { names.formUnion(fusion.members + [fusion.name]) }
    // Words that have other meanings as well.
    names.subtract([
      "gate", "norm", "wq", "lm_head", "patch_embedding", "class_embedding", "position_embedding",
    ])
    let sources = URL(filePath: "\(Fixtures.root)/Sources")
    var looked = 0
    for case let path as String in FileManager.default.enumerator(atPath: sources.path()) ?? .init()
    where path.hasSuffix(".swift") {
      // The checks parse names on their own; recipes are for any model.
      if ["Step3Model/", "ServingEngines/Check/", "ServingEngines/Rules/", "QuantizationRecipes/"]
        .contains(where: path.hasPrefix)
      {
        continue
      }
      looked += 1
      let text = try String(contentsOf: sources.appending(path: path), encoding: .utf8)
      for literal in text.matches(of: /"([^"\\\n]*)"/).map({ String($0.output.1) }) {
        let isSpelled = names.contains { name in
          literal == name || (name.contains(".") && literal.contains(name))
        }
        #expect(!isSpelled, "\(path) spells out '\(literal)'")
      }
    }
    #expect(looked > 100)
  }
}
