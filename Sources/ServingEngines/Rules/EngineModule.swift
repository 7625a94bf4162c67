internal import Step3Model

/// A module that engines load as one quantisable layer, and the names of its tensors.
struct EngineModule {
  /// One published weight of the module.
  struct Member: Hashable {
    /// The name without `.weight`.
    let stem: String
    let extent: MatrixExtent
  }

  let kind: EngineModuleKind
  let layer: Int
  /// The published name: of the fused module, of the only weight, or `model.layers.N.moe`.
  let stem: String
  let members: [Member]
  /// The engines' class for it, which targets of compressed-tensors may name.
  let className: String
  /// The heads that its rows are divided into, for queries and for keys and values; `nil` if not cut by heads.
  var heads: (query: Int, keyValue: Int)?
  /// Whether the engine fuses it with parts of an indexer, and so never quantises it.
  var isBesideIndexer = false

  /// Whether the members are rows of one matrix, and may be stored as such.
  var isFused: Bool { members.count > 1 && kind != .experts }

  /// All rows of a fused module.
  var fusedExtent: MatrixExtent {
    MatrixExtent(rows: members.reduce(0) { $0 + $1.extent.rows }, columns: members[0].extent.columns)
  }

  /// Whether it is the fusion of q, k and v.
  var isQKV: Bool { stem.hasSuffix(".qkv_proj") }
}

extension EngineModule {
  /// Every quantisable module that an engine creates for a checkpoint: layer by layer, with the vision side and
  /// `lm_head` last.
  static func all(of configuration: Step3Configuration, in model: EngineModel) -> [EngineModule] {
    let text = configuration.text
    var modules: [EngineModule] = []
    for layer in 0..<text.layerCount {
      modules += model.family == .step3 ? factorized(text, layer) : grouped(text, layer, model)
      let prefix = "model.layers.\(layer)"
      guard text.isMoE(layer: layer) else {
        modules += gated(.dense, layer, "\(prefix).mlp", text.intermediateSize, text)
        continue
      }
      let (experts, inner) = (text.expertCount, text.expertIntermediateSize)
      let wide = MatrixExtent(experts: experts, rows: inner, columns: text.hiddenSize)
      modules.append(
        EngineModule(
          kind: .experts, layer: layer, stem: "\(prefix).moe",
          members: [
            Member(stem: "\(prefix).moe.gate_proj", extent: wide),
            Member(stem: "\(prefix).moe.up_proj", extent: wide),
            Member(
              stem: "\(prefix).moe.down_proj",
              extent: MatrixExtent(experts: experts, rows: text.hiddenSize, columns: inner)),
          ], className: "FusedMoE"))
      modules += gated(.shared, layer, "\(prefix).share_expert", text.sharedExpertIntermediateSize, text)
    }
    if model.isMultimodal, model.rules.quantizesVision {
      modules += vision(configuration.vision ?? Step3Configuration.published(model.family).vision, model)
    }
    modules.append(
      linear(.lmHead, text.layerCount, "lm_head", text.vocabularySize, text.hiddenSize, "ParallelLMHead"))
    return modules
  }

  private static func linear(
    _ kind: EngineModuleKind, _ layer: Int, _ stem: String, _ rows: Int, _ columns: Int, _ type: String
  ) -> EngineModule {
    let extent = MatrixExtent(rows: rows, columns: columns)
    return EngineModule(
      kind: kind, layer: layer, stem: stem, members: [Member(stem: stem, extent: extent)], className: type)
  }

  private static func gated(
    _ kind: EngineModuleKind, _ layer: Int, _ parent: String, _ inner: Int, _ text: Step3Configuration.Text
  ) -> [EngineModule] {
    let extent = MatrixExtent(rows: inner, columns: text.hiddenSize)
    return [
      EngineModule(
        kind: kind, layer: layer, stem: "\(parent).gate_up_proj",
        members: ["gate_proj", "up_proj"].map { Member(stem: "\(parent).\($0)", extent: extent) },
        className: "MergedColumnParallelLinear"),
      linear(kind, layer, "\(parent).down_proj", text.hiddenSize, inner, "RowParallelLinear"),
    ]
  }

  /// Step-3's attention: an expanded low-rank query, and one key and value head.
  private static func factorized(_ text: Step3Configuration.Text, _ layer: Int) -> [EngineModule] {
    let attention = "model.layers.\(layer).self_attn"
    let heads = text.headCount * text.headDimension
    let keys = text.keyValueHeadCount * text.headDimension
    let rows = [("q_proj", text.sharedQueryDimension), ("k_proj", keys), ("v_proj", keys)]
    return [
      EngineModule(
        kind: .attention, layer: layer, stem: "\(attention).qkv_proj",
        members: rows.map {
          Member(stem: "\(attention).\($0)", extent: MatrixExtent(rows: $1, columns: text.hiddenSize))
        }, className: "ReplicatedLinear"),
      linear(.attention, layer, "\(attention).wq", heads, text.sharedQueryDimension, "ColumnParallelLinear"),
      linear(.attention, layer, "\(attention).o_proj", text.hiddenSize, heads, "RowParallelLinear"),
    ]
  }

  /// The attention of all later members.
  private static func grouped(
    _ text: Step3Configuration.Text, _ layer: Int, _ model: EngineModel
  ) -> [EngineModule] {
    let attention = "model.layers.\(layer).self_attn"
    let counts = (query: text.headCount(layer: layer), keyValue: text.keyValueHeadCount(layer: layer))
    let (queries, keys) = (counts.query * text.headDimension, counts.keyValue * text.headDimension)
    var rows = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)]
    let indexer = text.isSliding(layer: layer) ? nil : text.indexer
    if let indexer {
      rows += [
        ("sparse_indexer_q", indexer.headCount * indexer.dimension), ("sparse_indexer_k", indexer.dimension),
        ("sparse_indexer_z", indexer.dimension), ("g_proj", counts.query),
      ]
    }
    var modules = [
      EngineModule(
        kind: .attention, layer: layer,
        stem: "\(attention).\(indexer == nil ? "qkv_proj" : "qkv_indexer_proj")",
        members: rows.map {
          Member(stem: "\(attention).\($0)", extent: MatrixExtent(rows: $1, columns: text.hiddenSize))
        }, className: "QKVParallelLinear", heads: counts, isBesideIndexer: indexer != nil)
    ]
    if text.hasHeadGates, indexer == nil, model.rules.quantizesGates {
      modules.append(
        linear(
          .attention, layer, "\(attention).g_proj", counts.query, text.hiddenSize, "ColumnParallelLinear"))
    }
    modules.append(
      linear(.attention, layer, "\(attention).o_proj", text.hiddenSize, queries, "RowParallelLinear"))
    return modules
  }

  /// The linear layers of the vision side: only their names matter, because all of it has to stay unquantised.
  private static func vision(_ vision: Step3Configuration.Vision?, _ model: EngineModel) -> [EngineModule] {
    guard let vision else { return [] }
    let (tower, output) = (model.rules.visionTower, model.rules.visionOutput)
    let names = (0..<vision.layerCount).flatMap { layer in
      ["attn.qkv_proj", output, "mlp.fc1", "mlp.fc2"].map { (layer, "\(tower).resblocks.\(layer).\($0)") }
    }
    return (names + [(0, "vit_large_projector")]).map { layer, name in
      linear(.vision, layer, name, 1, 1, "ColumnParallelLinear")
    }
  }
}
