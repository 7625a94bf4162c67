public import Step3Model
internal import TensorFormats

/// What the Step-3 system report (arXiv 2507.19427) says where headlines about it differ.
public struct ReportedFindings: Hashable, Sendable {
  /// Tokens per second and GPU that the report measured for Step-3: Table 8, 32 Hopper GPUs, 4,096 tokens, FP8 attention.
  public static let measuredRate = 4039.0
  /// The same of DeepSeek-V3, from its published profile: Table 8, 128 GPUs, 4,096 tokens.
  public static let measuredRateOfDeepSeek = 2324.0
  /// The report's price of an H800, in US dollars per hour: Table 4.
  public static let priceOfH800 = 2.0
  /// The report's theoretical cost of Step-3 at 8,192 tokens, attention on H20 and feed-forward networks on H800, in US
  /// dollars per million tokens: page 6.
  public static let theoreticalCost = 0.055

  /// The findings, one sentence each; empty for models not in the report.
  public static func sentences(about configuration: Step3Configuration) -> [String] {
    guard configuration.family == .step3 else { return [] }
    let ratio = measuredRate / measuredRateOfDeepSeek
    let measured = priceOfH800 / 3600 / measuredRate * 1e6
    return [
      "the report measured \(Int(measuredRate)) tokens per second and GPU for Step-3 and "
        + "\(Int(measuredRateOfDeepSeek)) for DeepSeek-V3 (Table 8): \(Int(((ratio - 1) * 100).rounded())) % faster, "
        + "not \(Int((ratio * 100).rounded())) %, which is the ratio",
      "costs per million tokens are arithmetic at full use: the report's \(theoreticalCost) USD (8K, H20 and H800) "
        + "compares with \(NumberText.decimals(measured, 3)) USD for the measured rate at \(Int(priceOfH800)) USD an hour",
      "the cost of Step-3 on H20 alone is 31 % of DeepSeek-V3's at 32K (Table 6); at 8K it is 49 %",
      "the model supports \(configuration.text.contextLength) tokens of context, by its configuration; 800000 is "
        + "not in the report",
    ]
  }
}
