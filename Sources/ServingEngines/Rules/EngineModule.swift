internal import Step3Model

/// A module that engines make one quantisable layer of, and the tensors' names it is read from.
struct EngineModule: Hashable {
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
  /// The class that engines make it of, which targets of compressed-tensors may name.
  let className: String

  /// Whether the members are rows of one matrix, and may be stored as that.
  var isFused: Bool { members.count > 1 && kind != .experts }

  /// All rows of a fused module.
  var fusedExtent: MatrixExtent {
    MatrixExtent(rows: members.reduce(0) { $0 + $1.extent.rows }, columns: members[0].extent.columns)
  }

  /// Whether it is the fusion of q, k and v, which vLLM's Step-3 fills by itself.
  var isQKV: Bool { stem.hasSuffix(".qkv_proj") }

  /// The name that an engine gives the module, by which it looks for a scheme.
  ///
  /// - Parameter isMultimodal: Whether the language model is inside a vision-language one.
  func name(in engine: Engine, isMultimodal: Bool) -> String {
    switch engine {
    case .vllm: (isMultimodal ? "language_model." : "") + (kind == .experts ? "\(stem).experts" : stem)
    case .sglang: kind == .experts ? "\(stem.dropLast(3))mlp.experts" : stem
    }
  }
}

extension EngineModule {
  /// Every quantisable module of a model, layer by layer, `lm_head` last.
  static func all(of text: Step3Configuration.Text) -> [EngineModule] {
    var modules: [EngineModule] = []
    let hidden = text.hiddenSize
    let heads = text.headCount * text.headDimension
    let keys = text.keyValueHeadCount * text.headDimension
    func linear(
      _ kind: EngineModuleKind, _ layer: Int, _ stem: String, _ rows: Int, _ columns: Int, _ type: String
    ) {
      let extent = MatrixExtent(rows: rows, columns: columns)
      modules.append(
        EngineModule(
          kind: kind, layer: layer, stem: stem, members: [Member(stem: stem, extent: extent)], className: type
        ))
    }
    func gated(_ kind: EngineModuleKind, _ layer: Int, _ parent: String, _ inner: Int) {
      let extent = MatrixExtent(rows: inner, columns: hidden)
      modules.append(
        EngineModule(
          kind: kind, layer: layer, stem: "\(parent).gate_up_proj",
          members: ["gate_proj", "up_proj"].map { Member(stem: "\(parent).\($0)", extent: extent) },
          className: "MergedColumnParallelLinear"))
      linear(kind, layer, "\(parent).down_proj", hidden, inner, "RowParallelLinear")
    }
    for layer in 0..<text.layerCount {
      let prefix = "model.layers.\(layer)"
      let attention = "\(prefix).self_attn"
      let rows = [("q_proj", text.sharedQueryDimension), ("k_proj", keys), ("v_proj", keys)]
      modules.append(
        EngineModule(
          kind: .attention, layer: layer, stem: "\(attention).qkv_proj",
          members: rows.map {
            Member(stem: "\(attention).\($0)", extent: MatrixExtent(rows: $1, columns: hidden))
          }, className: "ReplicatedLinear"))
      linear(.attention, layer, "\(attention).wq", heads, text.sharedQueryDimension, "ColumnParallelLinear")
      linear(.attention, layer, "\(attention).o_proj", hidden, heads, "RowParallelLinear")
      guard text.isMoE(layer: layer) else {
        gated(.dense, layer, "\(prefix).mlp", text.intermediateSize)
        continue
      }
      let (experts, inner) = (text.expertCount, text.expertIntermediateSize)
      let wide = MatrixExtent(experts: experts, rows: inner, columns: hidden)
      modules.append(
        EngineModule(
          kind: .experts, layer: layer, stem: "\(prefix).moe",
          members: [
            Member(stem: "\(prefix).moe.gate_proj", extent: wide),
            Member(stem: "\(prefix).moe.up_proj", extent: wide),
            Member(
              stem: "\(prefix).moe.down_proj",
              extent: MatrixExtent(experts: experts, rows: hidden, columns: inner)),
          ], className: "FusedMoE"))
      gated(.shared, layer, "\(prefix).share_expert", text.sharedExpertIntermediateSize)
    }
    linear(.lmHead, text.layerCount, "lm_head", text.vocabularySize, hidden, "ParallelLMHead")
    return modules
  }
}
