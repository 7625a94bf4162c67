import Checkpoint
import CommandSupport
import Deployment
import ShardPlanning
import Step3Model
import TensorFormats

/// The result of `plan --gpu-memory`.
struct MemoryAnswer {
  let memory: MemoryPlan
  private let request: MemoryRequest
  private let hasExperts: Bool

  /// - Throws: `.unsupported` for a model of which only the tensors are known: its cache cannot be computed.
  init(
    _ checkpoint: Checkpoint, _ plan: ShardPlan, _ planning: PlanningOptions, _ serving: ServingOptions
  ) throws {
    guard let request = serving.memoryRequest else {
      throw CheckpointError(.invalidRequest, "--gpu-memory needs --context and --batch")
    }
    let configuration = try Step3Configuration.forServing(checkpoint)
    self.request = request
    hasExperts = !configuration.text.moeLayers.isEmpty
    CommonOptions.warn("step3-convert", configuration.warnings(context: request.context))
    guard plan.request.partition != .none else {
      memory = try MemoryPlan(plan, configuration, request)
      return
    }
    guard request.tensorParallel == nil else {
      throw CheckpointError(
        .invalidRequest, "--tp is for an unpartitioned model",
        remedy: "give --attention-tp and --ffn-tp for a partition")
    }
    memory = try MemoryPlan(partitioned: plan, configuration, request) { cut throws(CheckpointError) in
      var planning = planning
      (planning.ffnEP, planning.ffnTP) = (cut.ffnEP, cut.ffnTP)
      let other = try planning.plan(checkpoint).plan
      try planning.require(other)
      return other
    }
  }

  func print(json: Bool) throws {
    if json {
      try StandardStream.output.write(json: memory, as: .memoryPlan)
    } else {
      try StandardStream.output.write(sentences: text)
    }
  }
}

extension Step3Configuration {
  /// The configuration of a model that is to be served.
  ///
  /// - Throws: `.unsupported` for a model outside the family.
  static func forServing(_ checkpoint: Checkpoint) throws(CheckpointError) -> Step3Configuration {
    guard let configuration = try Step3Configuration(of: checkpoint) else {
      throw CheckpointError(
        .unsupported, "the memory per token of this model is not known: it is not in the Step family",
        path: checkpoint.path, remedy: "its config.json must name a model of Manuals/models.md")
    }
    return configuration
  }

  /// Warnings about a context length.
  func warnings(context: Int) -> [String] {
    guard context > text.contextLength else { return [] }
    return ["a context of \(context) tokens, but \(family.name) supports \(text.contextLength)"]
  }
}

// MARK: - Text

extension MemoryAnswer {
  private var text: String {
    let sequences = counted(memory.batch, "sequence")
    let cache = size(memory.cacheBytesPerSequence)
    var text = "\(memory.model), \(sequences) of \(counted(memory.context, "token")), KV cache in "
    text += "\(memory.cacheType.rawValue.uppercased()): \(cache) each\n"
    text += "cards of \(ByteSize(bytes: memory.cardBytes).decimal), "
    text += "\(size(memory.usableBytes)) of them usable for the model\n\n"
    text += verdict + "\n"
    if let obstacle = memory.obstacle {
      text += PlanNotes.wrapped(obstacle, width: StandardStream.output.columns ?? 80)
    }
    if let asked = memory.asked { text += "\n" + describe(asked, title: "As asked") }
    if let smallest = memory.smallest, smallest != memory.asked {
      text += "\n" + describe(smallest, title: "The fewest cards")
    }
    return text
  }

  private var verdict: String {
    let fewest = memory.smallest.map { spread in
      "\(counted(spread.cards, "card")) (\(counted(spread.machines, "machine"))) would do"
    }
    if let cards = request.cards {
      return memory.fits
        ? "fits on \(counted(cards, "card")): yes"
        : "fits on \(counted(cards, "card")): NO" + (fewest.map { "; \($0)" } ?? "")
    }
    if memory.fits, let spread = memory.asked ?? memory.smallest {
      return "fits on \(counted(spread.cards, "card")) (\(counted(spread.machines, "machine")))"
    }
    return "does NOT fit" + (fewest.map { "; \($0) with another partition" } ?? "")
  }

  private func describe(_ spread: MemoryPlan.Spread, title: String) -> String {
    var text = "\(title): \(counted(spread.cards, "card")), \(counted(spread.machines, "machine")) of up to "
    text += "\(request.cardsPerMachine)\n"
    for side in spread.sides { text += "  \(describe(side))\n" }
    var table = TextTable([
      TextTable.Column("  per card"), TextTable.Column("weights", .right),
      TextTable.Column("KV cache", .right), TextTable.Column("activations", .right),
      TextTable.Column("total", .right), TextTable.Column("fits"),
    ])
    for side in spread.sides {
      table.append([
        "  \(side.side.rawValue)", size(side.rank.weights), size(side.rank.cache),
        size(side.rank.activations),
        size(side.rank.total), side.fits ? "yes" : "NO",
      ])
    }
    return text + table.rendered(width: StandardStream.output.columns)
  }

  private func describe(_ side: MemoryPlan.Side) -> String {
    let sequences = counted(side.rank.sequences, "sequence")
    switch side.side {
    case .model:
      guard let layout = side.layout else { return side.side.rawValue }
      var text = "tensor parallel \(layout.tensorParallel), data parallel \(layout.dataParallel)"
      if layout.cards > 1, hasExperts {
        text += layout.expertParallel ? ", expert parallel" : ", experts split"
      }
      return text + ", \(sequences) per group"
    case .attention:
      return "attention: \(counted(side.replicas, "instance")) of \(counted(side.ranks, "card")) "
        + "(\(counted(side.machines, "machine"))), \(sequences) each"
    case .feedForward:
      let cut = side.cut.map { ": --ffn-ep \($0.expertParallel) --ffn-tp \($0.tensorParallel)" } ?? ""
      return "ffn: \(counted(side.cards, "card")) (\(counted(side.machines, "machine")))\(cut)"
    case .vision: return "vision: \(counted(side.cards, "card")) for prefill, not counted"
    }
  }

  private func size(_ bytes: Int) -> String { ByteSize(bytes: bytes).decimal }

  private func counted(_ count: Int, _ word: String) -> String { "\(count) \(word)\(count == 1 ? "" : "s")" }
}
