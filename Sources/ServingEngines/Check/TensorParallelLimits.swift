internal import OrderedCollections
internal import Step3Model

/// The numbers of ranks that the modules of a model can be divided between.
struct TensorParallelLimits {
  private let model: EngineModel
  private let configuration: Step3Configuration
  private var engine: Engine { model.engine }
  /// One module of every kind, layout, name and size.
  private var samples: [(module: EngineModule, layout: EngineLayout)] = []

  private struct Sample: Hashable {
    let name: Substring
    let kind: EngineModuleKind
    let layout: EngineLayout
    let extents: [MatrixExtent]
  }

  init(_ check: EngineCheck) {
    model = check.model
    configuration = check.configuration
    let placed = check.placed.map { module, layout in
      let name = module.stem[(module.stem.lastIndex(of: ".") ?? module.stem.startIndex)...]
      return (
        Sample(name: name, kind: module.kind, layout: layout, extents: module.members.map(\.extent)),
        (module, layout)
      )
    }
    samples = Array(OrderedDictionary(placed, uniquingKeysWith: { first, _ in first }).values)
  }

  /// The largest power of two, up to 64, that satisfies a condition.
  func largest(_ holds: (Int) -> Bool) -> Int? {
    [64, 32, 16, 8, 4, 2, 1].first(where: holds)
  }

  /// Why the whole model cannot be divided.
  func obstacle(_ ranks: Int) -> String? {
    modelObstacle(ranks)
      ?? samples.lazy.compactMap { sample in self.obstacle(ranks, sample.module, sample.layout) }.first
  }

  /// Why one kind of module with one layout cannot be divided.
  func obstacle(_ ranks: Int, kind: EngineModuleKind, layout: EngineLayout) -> String? {
    samples.lazy.filter { $0.module.kind == kind && $0.layout == layout }
      .compactMap { sample in self.obstacle(ranks, sample.module, sample.layout) }.first
  }

  /// Why the model cannot be divided, independent of its scheme.
  func modelObstacle(_ ranks: Int) -> String? {
    let text = configuration.text
    if text.headCount % ranks != 0 { return "\(text.headCount) heads are not divisible by \(ranks)" }
    if model.family != .step3, let obstacle = headObstacle(ranks) { return obstacle }
    if model.isMultimodal, let heads = configuration.vision?.headCount, heads % ranks != 0 {
      return "\(heads) heads of the vision tower are not divisible by \(ranks)"
    }
    // Step-3's class in vLLM and all of SGLang's leave the comparison to the code that creates the experts.
    if !text.moeLayers.isEmpty, ranks > text.expertCount, engine == .sglang || model.family != .step3 {
      return "there are more ranks than the \(text.expertCount) experts"
    }
    return nil
  }

  /// Heads of the kinds of layers: those of queries are divided; those of keys and values are divided, or replicated
  /// if the ranks are a multiple of them.
  private func headObstacle(_ ranks: Int) -> String? {
    let text = configuration.text
    var kinds = [(text.headCount, text.keyValueHeadCount)]
    if let sliding = text.sliding { kinds.append((sliding.headCount, sliding.keyValueHeadCount)) }
    for (heads, groups) in kinds {
      if heads % ranks != 0 { return "\(heads) heads are not divisible by \(ranks)" }
      if groups % ranks != 0, ranks % groups != 0 {
        return "\(ranks) ranks and \(groups) key and value heads: neither divides the other"
      }
    }
    // The kernels of sparse attention support only these numbers of query heads per key and value head.
    let perGroup = text.headCount / ranks / max(1, text.keyValueHeadCount / ranks)
    if text.indexer != nil, ![4, 8, 16].contains(perGroup) {
      return
        "\(perGroup) query heads per key and value head on a rank, but sparse attention needs 4, 8 or 16"
    }
    return nil
  }

  /// Why a module cannot be divided between this many ranks; for one rank, why it cannot be used at all.
  ///
  /// Gate, up and wq are cut by rows; down and o_proj by columns; the fused q, k and v are not cut.
  func obstacle(_ ranks: Int, _ module: EngineModule, _ layout: EngineLayout) -> String? {
    if module.kind == .lmHead || module.kind == .vision { return nil }
    let heads = module.heads?.query ?? configuration.text.headCount
    if module.kind == .attention, heads % ranks != 0 {
      return "\(heads) heads are not divisible by \(ranks)"
    }
    if module.kind == .experts {
      return rowObstacle(ranks, module.members[0].extent.rows, layout, alwaysTiled: true)
        ?? columnObstacle(ranks, module.members[2].extent.columns, layout)
        ?? expertObstacle(ranks, module, layout)
    }
    if let heads = module.heads { return queryObstacle(ranks, module, heads.keyValue, layout) }
    if module.isQKV {
      guard engine == .sglang, let tile = layout.tile else { return nil }
      return module.members.first { $0.extent.rows % tile.rows != 0 }.map {
        "the \($0.extent.rows) rows of q, k or v are not whole blocks of \(tile.rows)"
      }
    }
    // Gate and up share a matrix, in which gate's rows have to end on a block even without cutting.
    if module.isFused { return rowObstacle(ranks, module.members[0].extent.rows, layout, alwaysTiled: true) }
    let extent = module.members[0].extent
    return module.stem.hasSuffix(".wq") || module.stem.hasSuffix(".g_proj")
      ? rowObstacle(ranks, extent.rows, layout, alwaysTiled: false)
      : columnObstacle(ranks, extent.columns, layout)
  }

  /// Queries are cut, and keys and values as long as there are enough heads.
  private func queryObstacle(
    _ ranks: Int, _ module: EngineModule, _ groups: Int, _ layout: EngineLayout
  ) -> String? {
    guard layout != .plain else { return nil }
    for (place, member) in module.members.enumerated() {
      let pieces = place == 0 ? ranks : min(ranks, groups)
      if let obstacle = rowObstacle(pieces, member.extent.rows, layout, alwaysTiled: true) { return obstacle }
    }
    return nil
  }

  private func rowObstacle(
    _ ranks: Int, _ rows: Int, _ layout: EngineLayout, alwaysTiled: Bool
  ) -> String? {
    guard rows % ranks == 0 else { return "\(rows) rows are not divisible by \(ranks)" }
    let part = rows / ranks
    let rows = ranks == 1 ? "rows" : "rows per rank"
    if let tile = layout.tile, ranks > 1 || alwaysTiled, part % tile.rows != 0 {
      return "\(part) \(rows) are not whole blocks of \(tile.rows)"
    }
    if let word = layout.rowsPerWord, part % word != 0 {
      return "\(part) \(rows) are not whole words of \(word) codes"
    }
    return nil
  }

  private func columnObstacle(_ ranks: Int, _ columns: Int, _ layout: EngineLayout) -> String? {
    guard columns % ranks == 0 else { return "\(columns) columns are not divisible by \(ranks)" }
    let part = columns / ranks
    let columns = ranks == 1 ? "columns" : "columns per rank"
    if let tile = layout.tile, ranks > 1, part % tile.columns != 0 {
      return "\(part) \(columns) are not whole blocks of \(tile.columns)"
    }
    if let group = layout.groupLength, part % group != 0 {
      return "\(part) \(columns) are not whole groups of \(group)"
    }
    if let word = layout.columnsPerWord, ranks > 1, part % word != 0 {
      return "\(part) \(columns) are not whole words of \(word) codes"
    }
    return nil
  }

  /// SGLang's kernels for NVFP4 experts need whole tiles.
  private func expertObstacle(_ ranks: Int, _ module: EngineModule, _ layout: EngineLayout) -> String? {
    guard engine == .sglang else { return nil }
    switch layout {
    case .nvfp4, .modelOptNVFP4: break
    default: return nil
    }
    let (inner, hidden) = (module.members[0].extent.rows / ranks, module.members[0].extent.columns)
    if hidden % 128 != 0 { return "NVFP4 experts need a hidden size divisible by 128, but it is \(hidden)" }
    return inner % 64 == 0 ? nil : "NVFP4 experts need 64 rows per rank or a multiple, but there are \(inner)"
  }
}

extension EngineLayout {
  /// Rows whose codes or zero points share a word.
  fileprivate var rowsPerWord: Int? {
    switch self {
    case .packed(let bits, _, isSymmetric: false, _): 32 / bits
    case .awq: 8
    case .gptq(let bits, _, _): 32 / bits
    default: nil
    }
  }

  /// Columns whose codes share a word.
  fileprivate var columnsPerWord: Int? {
    switch self {
    case .packed(let bits, _, _, _), .gptq(let bits, _, _): 32 / bits
    case .nvfp4, .modelOptNVFP4, .mxfp4, .packedMXFP4: 2
    default: nil
    }
  }
}
