/// The role of a directory's weights when attention and FFN run on different accelerators (attention-FFN
/// disaggregation).
public enum PartRole: String, Codable, Hashable, Sendable {
  /// The whole model, not partitioned.
  case model
  /// Attention, the residual stream, embedding and output.
  case attention
  /// The feed-forward networks.
  case ffn
  /// The vision side, which decoding does not need.
  case vision

  /// The roles of the parts of a partition set.
  public static let parts: [PartRole] = [.attention, .ffn, .vision]
}

/// Which side holds the router: Step-3's report says attention, a public engine branch has it on the FFN side.
public enum RouterSide: String, Hashable, Sendable, CaseIterable, Codable {
  case attention, ffn
}

extension ConfigurationDocument {
  /// The member of `config.json` that says what part of a partition set a directory is.
  package static let partitionKey = "step3_partition"
}
