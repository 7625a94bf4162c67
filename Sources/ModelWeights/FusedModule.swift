internal import Step3Model
internal import TensorFormats

/// A module whose rows are several published weights: engines fuse them, and some schemes are stored that way.
struct FusedModule {
  /// One of the weights.
  struct Member {
    let name: String
    let shape: TensorShape
    /// Its first row in the fused matrix.
    let firstRow: Int
  }

  let members: [Member]

  /// - Parameter stem: The module's name.
  /// - Returns: `nil` if the module is none, or has not the rows that the configuration gives its members.
  init?(_ stem: String, _ shape: TensorShape, _ configuration: Step3Configuration?) {
    guard let text = configuration?.text, stem.hasPrefix("model.layers."), shape.rank == 2 else { return nil }
    let rows: [(String, Int)]
    if stem.hasSuffix(".self_attn.qkv_proj") {
      let keys = text.keyValueHeadCount * text.headDimension
      rows = [("q_proj", text.sharedQueryDimension), ("k_proj", keys), ("v_proj", keys)]
    } else if stem.hasSuffix(".share_expert.gate_up_proj") || stem.hasSuffix(".mlp.gate_up_proj") {
      rows = [("gate_proj", shape.dimensions[0] / 2), ("up_proj", shape.dimensions[0] / 2)]
    } else {
      return nil
    }
    guard rows.reduce(0, { $0 + $1.1 }) == shape.dimensions[0], let dot = stem.lastIndex(of: ".") else {
      return nil
    }
    var members: [Member] = []
    var firstRow = 0
    for (name, count) in rows {
      members.append(
        Member(
          name: "\(stem[..<dot]).\(name).weight", shape: TensorShape([count, shape.columns]),
          firstRow: firstRow))
      firstRow += count
    }
    self.members = members
  }
}
