import ByteStreams
import CheckpointTesting
import Deployment
import Foundation
import Step3Model
import TensorFormats
import Testing

/// The figures printed in the Step-3 system report (arXiv 2507.19427) follow from the models' dimensions and the cards of
/// `Manuals/examples/report.yaml`.
@Suite struct ReportTablesTests {
  /// A printed figure, keyed by table, row and column.
  struct Cell {
    let printed: String

    /// Whether a value rounds to the figure in all its digits.
    func isRounded(_ value: Double) -> Bool {
      let parts = printed.split(separator: "e")
      let decimals = parts[0].split(separator: ".").dropFirst().first?.count ?? 0
      let exponent = parts.count == 2 ? Int(parts[1]) ?? 0 : 0
      let unit = pow(10, Double(exponent - decimals))
      guard let figure = Double(printed) else { return false }
      return abs(value - figure) <= unit / 2 * (1 + 1e-9)
    }
  }

  private static func cells() throws -> [String: Cell] {
    let data = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("deployment/tables.json")))
    var cells: [String: Cell] = [:]
    func collect(_ value: Any, _ path: String) {
      if let members = value as? [String: Any] {
        for (key, member) in members { collect(member, path.isEmpty ? key : "\(path)/\(key)") }
      } else if let text = value as? String, path != "source" {
        cells[path] = Cell(printed: text)
      }
    }
    collect(try JSONSerialization.jsonObject(with: data), "")
    return cells
  }

  static func request() throws -> DeploymentRequest {
    try DeploymentRequest(file: InputFile("\(Fixtures.root)/Manuals/examples/report.yaml"))
  }

  static let step3 = DecoderShape(.published)
  static let models = [step3] + DecoderShape.reported

  /// Every figure of Tables 2 to 7 that can be calculated.
  private static func computed() throws -> [String: Double] {
    let request = try request()
    var values: [String: Double] = [:]
    for (table, context, column) in [("Table 2", 8192, "attention_8k"), ("Table 3", 32_768, "attention_32k")]
    {
      for model in models {
        let work = model.work(context: context)
        values["\(table)/\(model.name)/kv_bytes"] = work.cacheBytes
        values["\(table)/\(model.name)/attn_flops"] = work.attentionFLOPs
        values["\(table)/\(model.name)/linear_flops"] = work.projectionFLOPs
        values["\(table)/\(model.name)/ffn_flops"] = work.feedForwardFLOPs
        for card in request.accelerators {
          let cost = DecodeCost(work, on: card, precision: .fp8)
          values["Table 6/\(model.name)/\(column)/\(card.name)"] = cost.attentionCost
          values["Table 6/\(model.name)/ffn/\(card.name)"] = cost.feedForwardCost
        }
      }
    }
    for card in request.accelerators {
      values["Table 4/\(card.name)/roofline"] = card.roofline(.fp8)
      values["Table 5/\(card.name)/cost_per_flop"] = card.costPerOperation(.fp8)
      values["Table 5/\(card.name)/cost_per_byte"] = card.costPerByte
      values["Table 7/\(card.name)/minimum_sparsity"] =
        BatchLimits(
          step3, on: card, precision: .fp8, weightBytes: 1, pipeline: request.pipeline,
          cardsPerMachine: request.cardsPerMachine
        ).minimumSparsity
    }
    return values
  }

  /// The exception: 2 / 3600 / 1.98e15 is 2.806e-19, which the report truncates to 2.80. Its other tables follow
  /// from the exact value.
  private static let truncated = "Table 5/H800/cost_per_flop"

  @Test func tables2To7AreReproduced() throws {
    let (cells, values) = (try Self.cells(), try Self.computed())
    #expect(cells.count == 196)
    #expect(Set(cells.keys) == Set(values.keys))
    let wrong = cells.filter { path, cell in !(values[path].map(cell.isRounded) ?? false) }
    #expect(Set(wrong.keys) == [Self.truncated], "\(wrong.keys.map { ($0, values[$0] ?? 0) })")
    let value = try #require(values[Self.truncated])
    #expect(abs(value - 2.806e-19) < 0.0005e-19)
    #expect((value * 1e21).rounded(.down) == 280)
  }

  /// Guards the check itself: rounding must not accept neighbouring figures.
  @Test func roundingIsStrict() {
    #expect(Cell(printed: "2.88e8").isRounded(2.8849e8) && !Cell(printed: "2.88e8").isRounded(2.8851e8))
    #expect(Cell(printed: "0.048").isRounded(0.04849) && !Cell(printed: "0.048").isRounded(0.0474))
    #expect(Cell(printed: "591").isRounded(591.4) && !Cell(printed: "591").isRounded(591.6))
  }

  /// Page 6: the totals of both sides on their cheapest cards, and DeepSeek-V3 on H800 alone.
  @Test(arguments: [
    ("Step-3", 8192, 0.055), ("Step-3", 32_768, 0.129), ("Qwen3 MoE", 8192, 0.062),
    ("Qwen3 MoE", 32_768, 0.193),
  ])
  func costsOfDisaggregationAreReproduced(model: String, context: Int, printed: Double) throws {
    var request = try Self.request()
    request.context = context
    let shape = try #require(Self.models.first { $0.name == model })
    let plan = try DeploymentPlan(shape, request)
    #expect(abs(plan.disaggregated.cost - printed) < 0.0005)
    #expect(
      plan.disaggregated.attention.accelerator == "H20"
        && plan.disaggregated.feedForward.accelerator == "H800")
  }

  @Test(arguments: [(8192, 0.068), (32_768, 0.211)])
  func costOfDeepSeekOnOneKindOfCardIsReproduced(context: Int, printed: Double) throws {
    var request = try Self.request()
    request.context = context
    let plan = try DeploymentPlan(try #require(Self.models.first { $0.name == "DSv3" }), request)
    let cost = try #require(plan.costs.first { $0.accelerator == "H800" })
    #expect(abs(cost.totalCost - printed) < 0.0005)
  }

  /// Page 8: operations of attention per byte of cache.
  @Test(arguments: [("Step-3", 128.0), ("DSv3", 512), ("Qwen3 MoE", 32)])
  func arithmeticIntensitiesAreReproduced(model: String, printed: Double) throws {
    let shape = try #require(Self.models.first { $0.name == model })
    #expect(shape.work(context: 8192).intensity == printed)
  }

  /// Page 14 at half of the peak rates: two machines for each side of 2A2F; at 8K four for attention and the same for FFN.
  @Test(arguments: [(4096, 2, 3840.0), (8192, 4, 2560)])
  func deploymentsAreReproduced(context: Int, attention: Int, rate: Double) throws {
    var request = try DeploymentRequest(file: InputFile("\(Fixtures.root)/Manuals/examples/2A2F.yaml"))
    request.context = context
    let instances = try #require(try DeploymentPlan(Self.step3, request).instances)
    #expect(instances.microBatch == 2048)
    #expect(instances.attention.machines == attention && instances.feedForward.machines == 2)
    #expect(instances.attention.cards == attention * 8)
    #expect(instances.tokensPerSecondPerCard == rate)
    #expect(instances.hidesNetwork)
    // 61 layers x 512 bytes per token and sequence, over the side's cards; projections, embedding and head on each card.
    let cache = 6144.0 * Double(context) * 61 * 512 / Double(attention * 8)
    #expect(abs(instances.attention.bytesPerCard - cache - 10_330_046_464 - 3_693_383_680) < 1)
    #expect(abs(instances.feedForward.bytesPerCard - 304_097_525_760 / 16) < 1)
  }

  @Test func mistakenHeadlinesAreCorrected() {
    let sentences = ReportedFindings.sentences(about: .published)
    #expect(sentences.contains { $0.contains("74 % faster, not 174 %") })
    #expect(sentences.contains { $0.contains("65536 tokens of context") })
    #expect(sentences.contains { $0.contains("0.055 USD") && $0.contains("0.138 USD") })
    #expect(ReportedFindings.sentences(about: .published(.step5)).isEmpty)
  }

  /// The shares of DeepSeek-V3's cost that the findings name.
  @Test(arguments: [(32_768, 0.31), (8192, 0.49)])
  func costsRelativeToDeepSeekOnH20AreReproduced(context: Int, share: Double) throws {
    let card = try #require(try Self.request().accelerators.first { $0.name == "H20" })
    let costs = try ["Step-3", "DSv3"].map { name in
      let shape = try #require(Self.models.first { $0.name == name })
      return DecodeCost(shape.work(context: context), on: card, precision: .fp8).totalCost
    }
    #expect(abs(costs[0] / costs[1] - share) < 0.005)
  }
}
