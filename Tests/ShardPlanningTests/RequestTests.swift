import PlanTesting
import Checkpoint
import CheckpointTesting
import Foundation
import Quantization
import ShardPlanning
import Testing

/// Requests as plans record them.
@Suite struct RequestTests {
  @Test("every option round-trips through the plan's JSON") func roundTrip() throws {
    let request = ShardPlan.Request(
      format: .gguf, recipe: "Q4_K_M", partition: .afd(.init(ffnEP: 2, attentionTP: 4, router: .ffn)),
      maximumShardBytes: 123_456, scaleSearch: .mse, tokenizerPre: "llama3", exclude: ["a+", "b"],
      publishedNames: true, allowNonFinite: true)
    let json = try JSONEncoder().encode(request)
    #expect(try JSONDecoder().decode(ShardPlan.Request.self, from: json) == request)
    let object = try #require(JSONSerialization.jsonObject(with: json) as? [String: Any])
    #expect(
      Set(object.keys) == [
        "format", "recipe", "partition", "maximumShardBytes", "scaleSearch", "tokenizerPre", "exclude",
        "publishedNames", "allowNonFinite",
      ])
  }

  @Test("a request without allowNonFinite refuses non-finite values") func older() throws {
    let request = ShardPlan.Request(format: .gguf, recipe: "BF16", allowNonFinite: true)
    var object = try #require(
      JSONSerialization.jsonObject(with: JSONEncoder().encode(request)) as? [String: Any])
    object["allowNonFinite"] = nil
    let read = try JSONDecoder().decode(
      ShardPlan.Request.self, from: JSONSerialization.data(withJSONObject: object))
    #expect(!read.allowNonFinite && read != request)
    object["recipe"] = nil
    #expect(throws: DecodingError.self) {
      try JSONDecoder().decode(
        ShardPlan.Request.self, from: JSONSerialization.data(withJSONObject: object))
    }
  }

  @Test("the plan records the request") func planned() throws {
    let harness = try PlanningHarness()
    let plan = try harness.plan(
      Fixtures.path("checkpoints/tiny"), .init(recipe: "W4A16", scaleSearch: .absmax)
    ).plan
    #expect(plan.request.recipe == "W4A16" && plan.request.scaleSearch == .absmax)
    #expect(!plan.request.allowNonFinite && !plan.source.isRaw && plan.source.configurationXXH3 != nil)
    #expect(
      try harness.plan(Fixtures.path("checkpoints/tiny"), .init(format: .gguf)).plan.source.isRaw == false)
    let copied = try harness.source("source", .init(format: .gguf, recipe: "Q8_0"))
    #expect(try harness.plan(copied, .init(format: .gguf)).plan.source.isRaw)
  }
}
