import ByteStreams
import Checkpoint
import CommandSupport
import Deployment
import Step3Model
import TensorFormats

/// The result of `plan --deployment`.
struct DeploymentAnswer: Encodable {
  let plan: DeploymentPlan
  /// The same for other models, if requested.
  let comparison: [DeploymentPlan]?
  /// What the Step-3 report says where its headlines say something else.
  let findings: [String]

  /// - Throws: What is wrong with the file; `.unsupported` for a model of which only the tensors are known.
  init(_ checkpoint: Checkpoint, _ file: String, _ serving: ServingOptions) throws {
    let configuration = try Step3Configuration.forServing(checkpoint)
    var request = try DeploymentRequest(file: InputFile(file))
    if let context = serving.context { request.context = context.tokens }
    if let batch = serving.batch { request.batch = batch }
    CommonOptions.warn("step3-convert", configuration.warnings(context: request.context))
    plan = try DeploymentPlan(DecoderShape(configuration), request)
    comparison = serving.compare ? try DeploymentPlan.comparing(DecoderShape.reported, request) : nil
    findings = ReportedFindings.sentences(about: configuration)
  }

  func print(json: Bool) throws {
    if json {
      try StandardStream.output.write(json: self, as: .deploymentPlan)
    } else {
      try StandardStream.output.write(text(width: StandardStream.output.columns))
    }
  }
}

// MARK: - Text

extension DeploymentAnswer {
  private func text(width: Int?) -> String {
    let work = plan.work
    var text = "\(plan.model) after \(plan.context) tokens, "
    text += "\(name(plan.compute)) arithmetic where a card has it, \(name(plan.cache)) cache\n"
    text += "one token: \(size(work.cacheBytes)) of cache, "
    text += "\(flops(work.attentionFLOPs)) of attention,\n"
    text += "  \(flops(work.projectionFLOPs)) of projections, \(flops(work.feedForwardFLOPs)) of FFN\n\n"
    text += costs(width: width) + "\n" + chosen + "\n" + batches + "\n" + machines
    if let comparison { text += "\n" + compared(comparison, width: width) }
    if !findings.isEmpty {
      text += "\nWhat the Step-3 report says:\n"
      for finding in findings { text += PlanNotes.wrapped(finding, width: width ?? 80) }
    }
    return text
  }

  private func costs(width: Int?) -> String {
    var table = TextTable([
      TextTable.Column("card"), TextTable.Column("attention", .right), TextTable.Column("waits for"),
      TextTable.Column("FFN", .right), TextTable.Column("both", .right),
      TextTable.Column("attention/s", .right), TextTable.Column("FFN/s", .right),
    ])
    for cost in plan.costs {
      table.append([
        cost.accelerator, dollars(cost.attentionCost), cost.attentionBound.rawValue,
        dollars(cost.feedForwardCost), dollars(cost.totalCost), whole(cost.attentionTokensPerSecond),
        whole(cost.feedForwardTokensPerSecond),
      ])
    }
    return "USD per 1M tokens, and tokens per second of one card, always busy:\n"
      + table.rendered(width: width)
  }

  private var chosen: String {
    let pair = plan.disaggregated
    return """
      attention on \(pair.attention.accelerator), FFN on \(pair.feedForward.accelerator): \
      \(dollars(pair.cost)) USD per 1M tokens at full use,
        \(NumberText.decimals(pair.ratio, 2)) attention cards for each FFN card, \
      \(whole(pair.tokensPerSecondPerCard)) tokens/s per card over both

      """
  }

  private var batches: String {
    let limits = plan.limits
    let experts =
      plan.sparsity == 1
      ? "every token passes    all of it: there are no experts"
      : "a token passes        \(NumberText.percent(plan.sparsity)) of the experts; both take "
        + "\(NumberText.percent(limits.minimumSparsity)) or more"
    return """
      FFN on \(plan.disaggregated.feedForward.accelerator), \(plan.pipeline.stages) stages of \
      \(NumberText.decimals(plan.pipeline.stageSeconds * 1e3, 2)) ms:
        it is busy with       \(whole(limits.experts.rounded(.up))) tokens in a micro batch, or more
        the network hides     \(whole(limits.network.rounded(.down))) tokens in a micro batch, or fewer
        \(experts)\(limits.canHideNetwork ? "" : ":\n  the network is TOO SLOW")

      """
  }

  private var machines: String {
    guard let instances = plan.instances else {
      return
        "no number of machines is enough: the attention weights do not fit on a card, or a stage is too short\n"
    }
    let (attention, network) = (instances.attention, instances.feedForward)
    var text = "Machines for \(instances.batch) sequences, micro batches of \(instances.microBatch), "
    text += "at \(NumberText.percent(plan.efficiency)) of the peaks:\n"
    for (title, side) in [("attention", attention), ("FFN", network)] {
      text += "  \(title): \(side.machines) with \(side.cards) cards of \(side.accelerator), "
      text += "\(NumberText.decimals(side.stageSeconds * 1e3, 2)) ms per stage, "
      text += "\(size(side.bytesPerCard)) a card\n"
    }
    text += "  network: \(NumberText.decimals(instances.networkSeconds * 1e3, 2)) ms per stage"
    text += instances.hidesNetwork ? "\n" : ", LONGER than a stage: nothing hides it\n"
    text += "  \(whole(instances.tokensPerSecondPerCard)) tokens/s per card at "
    text += "\(NumberText.trimmed(plan.pipeline.secondsPerToken * 1e3, 2)) ms a token: "
    text += "\(dollars(instances.cost)) USD per 1M tokens\n"
    return text
  }

  private func compared(_ others: [DeploymentPlan], width: Int?) -> String {
    var table = TextTable([
      TextTable.Column("model"), TextTable.Column("attention", .right), TextTable.Column("on"),
      TextTable.Column("FFN", .right), TextTable.Column("on"), TextTable.Column("both", .right),
      TextTable.Column("of \(plan.model)'s", .right),
    ])
    // Every model on its cheapest cards.
    let own = DisaggregatedCost(cheapestOf: plan.costs)?.cost ?? plan.disaggregated.cost
    for (model, costs) in [(plan.model, plan.costs)] + others.map({ ($0.model, $0.costs) }) {
      guard let pair = DisaggregatedCost(cheapestOf: costs) else { continue }
      table.append([
        model, dollars(pair.attention.attentionCost), pair.attention.accelerator,
        dollars(pair.feedForward.feedForwardCost), pair.feedForward.accelerator, dollars(pair.cost),
        "\(NumberText.decimals(pair.cost / own * 100, 0)) %",
      ])
    }
    return "USD per 1M tokens, each side on its cheapest card:\n" + table.rendered(width: width)
  }

  // MARK: Numbers

  private func name(_ precision: Precision) -> String { precision.rawValue.uppercased() }

  private func size(_ bytes: Double) -> String { ByteSize(bytes: Int(min(bytes, 9e18))).decimal }

  private func dollars(_ value: Double) -> String { NumberText.decimals(value, 3) }

  private func whole(_ value: Double) -> String { NumberText.decimals(value, 0) }

  private func flops(_ value: Double) -> String { "\(NumberText.decimals(value / 1e9, 1)) GFLOP" }
}
