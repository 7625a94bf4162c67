import CheckpointReport
import TensorFormats
import Testing

@Suite("what a report shows") struct ReportContentsTests {
  @Test(
    "a tensor's name is split into weight, module and expert",
    arguments: [
      ("model.layers.4.moe.up_proj.weight", "model.layers.4.moe.up_proj.weight", "moe.up_proj", nil),
      (
        "model.layers.4.moe.experts.7.up_proj.weight_packed", "model.layers.4.moe.experts.7.up_proj.weight",
        "moe.experts.up_proj.weight_packed", 7
      ),
      ("blk.12.ffn_up_exps.weight", "blk.12.ffn_up_exps.weight", "ffn_up_exps", nil),
      (
        "model.layers.0.self_attn.q_proj.weight_scale_inv", "model.layers.0.self_attn.q_proj.weight",
        "self_attn.q_proj.weight_scale_inv", nil
      ),
      ("lm_head.weight", "lm_head.weight", "lm_head", nil), ("..", "..", "..", nil), ("", "", "", nil),
      ("v.99999999999999999999.x", "v.99999999999999999999.x", "v.99999999999999999999.x", nil),
    ] as [(String, String, String, Int?)])
  func names(name: String, weight: String, module: String, expert: Int?) {
    #expect(WeightName(name).text == weight)
    #expect(WeightName(name).module == module)
    #expect(WeightName(name).expert == expert)
  }

  @Test("experts are folded, layers are not")
  func folding() {
    let name = "model.layers.4.moe.experts.7.up_proj.weight"
    #expect(WeightName(name).folded(name) == "model.layers.4.moe.experts.*.up_proj.weight")
    #expect(
      WeightName("model.layers.4.moe.up_proj.weight").folded("model.layers.4.moe.up_proj.weight")
        == "model.layers.4.moe.up_proj.weight")
  }

  private static let sound = """
    {"ok": true, "tokens": 2, "top1Agreement": 0.5, "kl": {"mean": 0.25, "standardError": null, "max": null,
    "perToken": [0.25, null]}, "perplexity": {"reference": 4, "candidate": 5},
    "expertAgreement": [{"layer": 4, "agreement": 0.75}],
    "bisection": {"layers": [{"layer": 0, "relativeError": 0.5, "limit": 0.25, "ok": false}]}}
    """

  @Test("a logits document is read, alone and among all checks; null means infinite")
  func logits() throws {
    let all =
      "{\"ok\": true, \"checks\": [{\"name\": \"engine\"}, {\"name\": \"logits\", \"report\": \(Self.sound)}]}"
    for text in [Self.sound, all] {
      let figures = try LogitsFigures(Array(text.utf8), path: "logits.json")
      #expect(figures.ok)
      #expect(figures.divergences == [0.25, .infinity])
      #expect(figures.largestKL == .infinity)
      #expect(figures.standardError == nil)
      #expect(figures.candidatePerplexity == 5)
      #expect(figures.experts.map(\.agreement) == [0.75])
      #expect(figures.layers.map(\.ok) == [false])
    }
  }

  @Test(
    "a document of another kind is refused with its path",
    arguments: [
      "", "[]", "{}", "{\"checks\": []}", "{\"checks\": 3}",
      "{\"checks\": [{\"name\": \"logits\", \"skipped\": \"no text\"}]}",
      sound.replacing("0.25, null]", with: "0.25]"), sound.replacing("\"tokens\": 2", with: "\"tokens\": -2"),
      sound.replacing("\"agreement\"", with: "\"agree\""),
      sound.replacing("[0.25, null]", with: "[0.25, \"x\"]"),
      sound.replacing("\"mean\": 0.25", with: "\"mean\": \"low\""),
    ])
  func malformed(text: String) throws {
    let error = try #require(throws: CheckpointError.self) {
      try LogitsFigures(Array(text.utf8), path: "logits.json")
    }
    #expect(error.code == .malformed)
    #expect(error.path == "logits.json")
    #expect(error.remedy?.contains("step3-verify logits --json") == true)
  }
}
